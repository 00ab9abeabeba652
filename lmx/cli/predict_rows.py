# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What `lmx predict` and `lmx chat` do once their flags are read; apart from them, since it needs jax."""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from lmx.build import data_spec
from lmx.cli.generate import show_defaults
from lmx.data.document import BadDocuments
from lmx.data.sources import open_source
from lmx.errors import LmxError, message
from lmx.notebook import LoadedRun, load
from lmx.tasks import wanted_columns


def predict_rows(args: argparse.Namespace) -> int:
  """Reads rows, predicts them in batches, and writes one JSON object for each."""
  if args.output and Path(args.output).exists():
    raise LmxError(message("--output", got=args.output, allowed="a file that does not exist yet"))
  loaded = load(args.run, step=args.step)
  rows = _rows(loaded, args.source)
  if not args.output:
    return _write(loaded, rows, args, sys.stdout)
  partial = Path(f"{args.output}.partial")
  with partial.open("w", encoding="utf-8") as file:
    _write(loaded, rows, args, file)
  partial.replace(args.output)
  return 0


def _rows(loaded: LoadedRun, source: str) -> Iterator[dict[str, Any]]:
  objective = loaded.config.objective
  wanted = wanted_columns("multi_label" if objective.multi_label else objective.name)
  spec = data_spec(loaded.config)
  for record in open_source(source, spec.read_options).records(wanted, BadDocuments("error")):
    yield dict(record.values)


def _write(loaded: LoadedRun, rows: Iterator[dict[str, Any]], args: argparse.Namespace, file: TextIO) -> int:
  while some := list(itertools.islice(rows, args.batch_rows)):
    for prediction in loaded.predict(some, beams=args.beams):
      print(json.dumps(prediction, ensure_ascii=False), file=file)
  return 0


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
    messages.append({"role": "user", "content": text})
    answer = loaded.chat(messages, max_new_tokens=args.max_new_tokens, temperature=args.temperature, seed=seed,
                         plain=args.plain)  # fmt: skip
    messages.append({"role": "assistant", "content": answer})
    seed += 1
    print(answer, flush=True)
