# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Held-out loss and bits per byte of a run: on its own held-out text, or on any other.

lmx evaluate runs/cpu
lmx evaluate runs/cpu --sources "mytext/*.txt" --json
"""

import argparse
import dataclasses
import importlib

from lmx.cli.arguments import add_run
from lmx.errors import LmxError, message
from lmx.training.metrics import json_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add_run(parser)
  parser.add_argument("--sources", nargs="+", metavar="SOURCE", help="evaluate on all of this text instead")
  parser.add_argument(
    "--max-rows", type=int, help="rows of text, spread evenly over it (default: all of SOURCE, or as the config says)"
  )
  parser.add_argument("--json", action="store_true", help="one JSON object, for scripts")


def run(args: argparse.Namespace) -> int:
  if args.max_rows is not None and args.max_rows < 1:
    raise LmxError(message("--max-rows", got=args.max_rows, allowed="at least 1"))
  sources = tuple(args.sources or ())
  step, result = importlib.import_module("lmx.cli.evaluate_run").evaluate_run(
    args.run, args.step, sources, args.max_rows
  )
  values = {"run": str(args.run), "step": step, **dataclasses.asdict(result), "perplexity": result.perplexity}
  if args.json:
    print(json_line(values))
    return 0
  print(f"{args.run}, step {step}, on {', '.join(sources) or 'what it held out'}")
  if result.bits_per_byte is not None:
    print(f"  bits per byte  {result.bits_per_byte:.4f}")
  perplexity = f" (perplexity {result.perplexity:.2f})" if "nll" in result.metrics else ""
  print(f"  loss           {result.loss:.4f} nats per target{perplexity}")
  print(f"  targets        {result.targets:,.0f}")
  for name, value in result.metrics.items():
    print(f"  {name:14} {value:.4f}")
  return 0
