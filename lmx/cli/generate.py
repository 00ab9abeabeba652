# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Generate text that continues a prompt.

lmx generate runs/cpu --prompt "def main(" --temperature 0.8 --samples 3
cat start.txt | lmx generate runs/cpu --prompt -
"""

import argparse
import importlib
import sys
from typing import Any

from lmx.cli.arguments import add_run
from lmx.errors import LmxError, message


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add_run(parser)
  parser.add_argument(
    "--prompt",
    action="append",
    metavar="TEXT",
    help='the text to continue; "-" reads it from standard input; give it again for more (default: a new document)',
  )
  parser.add_argument("--samples", type=int, default=1, help="continuations of each prompt (default: 1)")
  parser.add_argument("--max-new-tokens", type=int, help="the most tokens of each (default: the model's, else 200)")
  parser.add_argument("--temperature", type=float, help="0 takes the likeliest token (default: the model's, else 0.8)")
  parser.add_argument("--top-k", type=int, help="choose among the k likeliest tokens")
  parser.add_argument("--top-p", type=float, help="choose among the likeliest tokens that hold this probability")
  parser.add_argument("--plain", action="store_true", help="without the defaults of the model's generation_config.json")
  parser.add_argument(
    "--framing",
    choices=("own", "document"),
    help="special tokens before a prompt: the tokenizer's own, or a document's start (default: the run's "
    "config.tokenizer.framing)",
  )
  parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same text (default: 0)")


def _check(args: argparse.Namespace) -> None:
  rules = {
    "--samples": (args.samples, args.samples >= 1, "at least 1"),
    "--max-new-tokens": (args.max_new_tokens, args.max_new_tokens is None or args.max_new_tokens >= 1, "at least 1"),
    "--temperature": (args.temperature, args.temperature is None or args.temperature >= 0, "0 or more"),
    "--top-k": (args.top_k, args.top_k is None or args.top_k >= 1, "at least 1"),
    "--top-p": (args.top_p, args.top_p is None or 0 < args.top_p <= 1, "above 0, up to 1"),
    "--seed": (args.seed, 0 <= args.seed < 2**31, "0 to 2147483647"),
  }
  wrong = [message(flag, got=value, allowed=phrase) for flag, (value, good, phrase) in rules.items() if not good]
  if wrong:
    raise LmxError("\n".join(wrong))


def show_defaults(loaded: Any, *, plain: bool) -> None:
  """Says on standard error which defaults of generation came with the model, unless they are left out."""
  said = "" if plain else loaded.generation.describe()
  if said:
    print(f"{said}  (--plain leaves them out)", file=sys.stderr, flush=True)


def run(args: argparse.Namespace) -> int:
  _check(args)
  prompts = [sys.stdin.read() if prompt == "-" else prompt for prompt in args.prompt or [""]]
  loaded = importlib.import_module("lmx.api.loaded_run").load(args.run, step=args.step)
  show_defaults(loaded, plain=args.plain)
  most = args.max_new_tokens or (None if loaded.generation.max_new_tokens and not args.plain else 200)
  texts = loaded.generate(
    prompts,
    max_new_tokens=most,
    plain=args.plain,
    temperature=args.temperature,
    top_k=args.top_k,
    top_p=args.top_p,
    num_samples=args.samples,
    seed=args.seed,
    framing=args.framing,
  )
  for index, text in enumerate(texts):
    prompt, sample = prompts[index // args.samples], index % args.samples + 1
    if len(texts) > 1:
      print(f"---- sample {sample} of {args.samples}")
    print(prompt + text)
  return 0
