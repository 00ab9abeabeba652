# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx evaluate`: validation loss and bits per byte of a run."""

import argparse
import dataclasses

from ml_collections.config_dict import ConfigDict

from lmx.api.loading import load
from lmx.config.run_config import read_run_config
from lmx.errors import LmxError
from lmx.evaluation.heldout import HeldOut
from lmx.parallel.mesh import make_mesh
from lmx.training.metrics import json_line


def run(args: argparse.Namespace) -> int:
  """Evaluates the run and prints the result as text or JSON."""
  step, result = _evaluate(args)
  values = {"run": str(args.run), "step": step, **dataclasses.asdict(result), "perplexity": result.perplexity}
  if args.json:
    print(json_line(values))
    return 0
  print(f"{args.run}, step {step}, on {', '.join(args.sources or ()) or 'its validation split'}")
  if result.bits_per_byte is not None:
    print(f"  bits per byte  {result.bits_per_byte:.4f}")
  perplexity = f" (perplexity {result.perplexity:.2f})" if "nll" in result.metrics else ""
  print(f"  loss           {result.loss:.4f} nats per target{perplexity}")
  print(f"  targets        {result.targets:,.0f}")
  for name, value in result.metrics.items():
    print(f"  {name:14} {value:.4f}")
  return 0


def _evaluate(args: argparse.Namespace) -> tuple[int, HeldOut]:
  """The step of the checkpoint, and its evaluation."""
  config = read_run_config(args.run)
  loaded = load(args.run, args.step, mesh=_mesh_sizes(config))
  result = loaded.evaluate(
    sources=tuple(args.sources or ()),
    max_rows=args.max_rows or (None if args.sources else config.evaluation.max_rows),
    batch_size=config.evaluation.batch_size or config.train.batch_size,
  )
  return loaded.step, result


def _mesh_sizes(config: ConfigDict) -> dict[str, int]:
  """The run's mesh if the devices of this machine allow it, else data parallelism over all of them."""
  try:
    make_mesh(dict(config.mesh))
    return dict(config.mesh)
  except LmxError:
    return {"data": -1}
