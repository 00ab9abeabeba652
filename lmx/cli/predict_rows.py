# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What `lmx predict` and `lmx chat` do once their flags are read; apart from them, since it needs jax."""

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from lmx.api.loaded_run import LoadedRun, load
from lmx.api.tasks import wanted_columns
from lmx.cli.generate import show_defaults
from lmx.data.cache.encoding import BadExampleError
from lmx.data.document import BadDocuments
from lmx.data.sources.sources import open_source
from lmx.errors import LmxError, message
from lmx.experiment.build import data_spec
from lmx.training.metrics import json_line


def predict_rows(args: argparse.Namespace) -> int:
  """Reads rows, predicts them in batches, and writes one JSON object for each, {"error": why} for a bad one."""
  if args.output and Path(args.output).exists():
    raise LmxError(message("--output", got=args.output, allowed="a file that does not exist yet"))
  loaded = load(args.run, step=args.step)
  rows = _rows(loaded, args.source)
  if not args.output:
    bad = _write(loaded, rows, args, sys.stdout)
  else:
    partial = Path(f"{args.output}.partial")
    with partial.open("w", encoding="utf-8") as file:
      bad = _write(loaded, rows, args, file)
    partial.replace(args.output)
  if bad:
    print(f'{bad:,} row{"s" * (bad != 1)} could not be used; their lines say why: {{"error": ...}}', file=sys.stderr)
  return 0


class _Reported(BadDocuments):
  """Keeps what is wrong with rows, in their order."""

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
  """The rows of a source, and what is wrong with those that cannot be read."""
  objective = loaded.config.objective
  wanted = wanted_columns("multi_label" if objective.multi_label else objective.name)
  spec, bad = data_spec(loaded.config), _Reported()
  for record in open_source(source, spec.read_options).records(wanted, bad):
    yield from bad.taken()
    yield dict(record.values)
  yield from bad.taken()


def _write(loaded: LoadedRun, rows: Iterator[dict[str, Any] | str], args: argparse.Namespace, file: TextIO) -> int:
  """Writes the predictions; how many rows could not be used."""
  bad = 0
  while some := list(itertools.islice(rows, args.batch_rows)):
    predictions = iter(loaded.predict([row for row in some if not isinstance(row, str)], beams=args.beams))
    for row in some:
      prediction = {"error": row} if isinstance(row, str) else next(predictions)
      bad += "error" in prediction
      print(json_line(prediction), file=file)
    file.flush()
  return bad


def chat(args: argparse.Namespace) -> int:
  """Takes turns with whoever types, until the input ends."""
  loaded = load(args.run, step=args.step)
  show_defaults(loaded, plain=args.plain)
  system = [{"role": "system", "content": args.system}] if args.system else []
  messages: list[dict[str, str]] = list(system)
  asks = sys.stdin.isatty()
  if asks:
    print("An empty line starts a new chat; Ctrl-D ends.")
  seed = args.seed
  while True:
    try:
      text = input("> " if asks else "")
    except EOFError:
      return 0
    if not text.strip():
      messages = list(system)
      continue
    asked = [*messages, {"role": "user", "content": text}]
    try:
      answer = loaded.chat(asked, max_new_tokens=args.max_new_tokens, temperature=args.temperature, seed=seed,
                           plain=args.plain)  # fmt: skip
    except BadExampleError as error:  # The chat has grown too long, or the template refuses it: the next may do.
      print(f"error: {error}. An empty line starts a new chat.", file=sys.stderr, flush=True)
      continue
    messages = [*asked, {"role": "assistant", "content": answer}]
    seed += 1
    print(answer, flush=True)
