# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx predict`: run a fine-tuned model over a file."""

import argparse
import itertools
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from lmx.api.loaded_run import LoadedRun
from lmx.api.loading import load
from lmx.api.tasks import wanted_columns
from lmx.data.document import BadDocuments
from lmx.data.sources.sources import open_source
from lmx.errors import LmxError, message
from lmx.experiment.build import data_spec
from lmx.paths import any_path, in_bucket, temporary_folder
from lmx.training.metrics import json_line


def run(args: argparse.Namespace) -> int:
  """Predicts the rows in batches and writes one JSON object for each, {"error": reason} for an unusable one."""
  output = any_path(args.output, "--output") if args.output else None
  if output is not None and output.exists():
    raise LmxError(message("--output", got=args.output, allowed="a file that does not exist yet"))
  loaded = load(args.run, step=args.step)
  rows = _rows(loaded, args.source)
  if output is None:
    bad = _write(loaded, rows, args, sys.stdout)
  else:
    remote = in_bucket(output)
    partial = temporary_folder() / output.name if remote else output.with_name(f"{output.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
      bad = _write(loaded, rows, args, file)
    if remote:
      output.write_bytes(partial.read_bytes())
    else:
      partial.replace(output)
  if bad:
    print(f'{bad:,} row{"s" * (bad != 1)} could not be used; their lines say why: {{"error": ...}}', file=sys.stderr)
  return 0


class _Problems(BadDocuments):
  """Collects what is wrong with rows, in order."""

  def __init__(self) -> None:
    super().__init__("skip")
    self.problems: list[str] = []

  def add(self, where: str, reason: str, detail: str = "") -> None:
    self.problems.append(f"{where}: {reason}" + (f" ({detail})" if detail else ""))

  def taken(self) -> list[str]:
    """The problems since the last call."""
    problems, self.problems = self.problems, []
    return problems


def _rows(loaded: LoadedRun, source: str) -> Iterator[dict[str, Any] | str]:
  """The rows of a source; for a row that can't be read, a string that says why."""
  objective = loaded.config.objective
  columns = wanted_columns("multi_label" if objective.multi_label else objective.name)
  spec, bad = data_spec(loaded.config), _Problems()
  for record in open_source(source, spec.read_options).records(columns, bad):
    yield from bad.taken()
    yield dict(record.values)
  yield from bad.taken()


def _write(loaded: LoadedRun, rows: Iterator[dict[str, Any] | str], args: argparse.Namespace, file: TextIO) -> int:
  """Writes the predictions; returns how many rows could not be used."""
  bad = 0
  while batch := list(itertools.islice(rows, args.batch_rows)):
    predictions = iter(loaded.predict([row for row in batch if not isinstance(row, str)], beams=args.beams))
    for row in batch:
      prediction = {"error": row} if isinstance(row, str) else next(predictions)
      bad += "error" in prediction
      print(json_line(prediction), file=file)
    file.flush()
  return bad
