# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Chat with a fine-tuned run: one line in, one answer out.

lmx chat runs/sft
echo "Name three colours." | lmx chat runs/sft --temperature 0
"""

import argparse
import importlib

from lmx.cli.arguments import add_run
from lmx.errors import LmxError, message


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add_run(parser)
  parser.add_argument("--system", metavar="TEXT", help="what the assistant is told before the chat")
  parser.add_argument("--max-new-tokens", type=int, help="of an answer, at most (default: the model's, else 200)")
  parser.add_argument("--temperature", type=float, help="0 takes the likeliest token (default: the model's, else 0.8)")
  parser.add_argument("--plain", action="store_true", help="without the defaults of the model's generation_config.json")
  parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same answers (default: 0)")


def run(args: argparse.Namespace) -> int:
  if args.max_new_tokens is not None and args.max_new_tokens < 1:
    raise LmxError(message("--max-new-tokens", got=args.max_new_tokens, allowed="at least 1"))
  if args.temperature is not None and args.temperature < 0:
    raise LmxError(message("--temperature", got=args.temperature, allowed="0 or more"))
  return importlib.import_module("lmx.cli.predict_rows").chat(args)
