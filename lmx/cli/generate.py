# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx generate`: text that continues a prompt."""

import argparse
import sys

from lmx.api.loaded_run import LoadedRun
from lmx.api.loading import load


def run(args: argparse.Namespace) -> int:
  """Prints each prompt with its continuations."""
  prompts = [sys.stdin.read() if prompt == "-" else prompt for prompt in args.prompt or [""]]
  loaded = load(args.run, step=args.step)
  show_defaults(loaded, plain=args.plain)
  texts = loaded.generate(
    prompts,
    max_new_tokens=args.max_new_tokens or (None if loaded.generation.max_new_tokens and not args.plain else 200),
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


def show_defaults(loaded: LoadedRun, *, plain: bool) -> None:
  """Prints the generation defaults that came with an imported model to standard error, unless `plain` ignores them."""
  defaults = "" if plain else loaded.generation.describe()
  if defaults:
    print(f"{defaults}  (--plain ignores them)", file=sys.stderr, flush=True)
