# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Run a fine-tuned model over a file: labels, numbers, tags, answers, translations, chat turns, vectors.

One JSON object a row, in the file's order, to standard output or --output; {"error": why} for a row that can't be used.
The file has the columns that the run was trained on, under the same names, without what is to be predicted.

lmx predict runs/classify reviews.tsv --output=labels.jsonl
lmx predict runs/translation test.tsv --beams=4
echo '{"text": "a moving film"}' > one.jsonl && lmx predict runs/classify one.jsonl
"""

import argparse
import importlib

from lmx.cli.arguments import add_run
from lmx.errors import LmxError, message


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add_run(parser)
  parser.add_argument("source", metavar="SOURCE", help="a file, folder or glob, as in config.data.sources")
  parser.add_argument("--output", metavar="FILE", help="write there instead of to standard output; must be new")
  parser.add_argument(
    "--beams", type=int, default=1, help="hypotheses of beam search, for runs that write (default: 1)"
  )
  parser.add_argument("--batch-rows", type=int, default=256, help="rows taken in at once (default: 256)")


def run(args: argparse.Namespace) -> int:
  for flag, value in (("--beams", args.beams), ("--batch-rows", args.batch_rows)):
    if value < 1:
      raise LmxError(message(flag, got=value, allowed="at least 1"))
  return importlib.import_module("lmx.cli.predict_rows").predict_rows(args)
