# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx chat`: chat with a fine-tuned run, one line in, one answer out."""

import argparse
import sys

from lmx.api.loading import load
from lmx.cli.generate import show_defaults
from lmx.data.cache.encoding import BadExampleError


def run(args: argparse.Namespace) -> int:
  """Answers lines of standard input until it ends."""
  loaded = load(args.run, step=args.step)
  show_defaults(loaded, plain=args.plain)
  system = [{"role": "system", "content": args.system}] if args.system else []
  messages: list[dict[str, str]] = list(system)
  interactive = sys.stdin.isatty()
  if interactive:
    print("An empty line starts a new chat; Ctrl-D ends.")
  seed = args.seed
  while True:
    try:
      text = input("> " if interactive else "")
    except EOFError:
      return 0
    if not text.strip():
      messages = list(system)
      continue
    asked = [*messages, {"role": "user", "content": text}]
    try:
      answer = loaded.chat(asked, max_new_tokens=args.max_new_tokens, temperature=args.temperature, seed=seed,
                           plain=args.plain)  # fmt: skip
    except BadExampleError as error:  # The chat is too long, or the template refuses it; the next message may be fine.
      print(f"error: {error}. An empty line starts a new chat.", file=sys.stderr, flush=True)
      continue
    messages = [*asked, {"role": "assistant", "content": answer}]
    seed += 1
    print(answer, flush=True)
