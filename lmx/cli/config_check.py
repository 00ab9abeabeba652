# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx config check` and `lmx config explain`: problems of a config, and how it is sharded over a mesh."""

import argparse

from lmx.config.loading import flatten
from lmx.errors import ConfigError
from lmx.experiment.build import abstract_setup, check, export_as
from lmx.plan.explain import ShardedArray, explain
from lmx.shapes import in_use
from lmx.units import counted, human_bytes


def run(args: argparse.Namespace) -> int:
  """Runs the sub-command `args.action`."""
  return {"check": _check, "explain": _explain}[args.action](args)


def _check(args: argparse.Namespace) -> int:
  config, problems = args.config_values, list(args.config_problems)
  try:
    known = {problem.partition(": got")[0] for problem in problems}
    found = check(config)
    problems += [problem for problem in found if problem.partition(": got")[0] not in known]
  except Exception:
    if not problems:  # Otherwise those problems explain it.
      raise
  if problems:
    raise ConfigError(dict.fromkeys(problems))
  print(f"{args.config}: {len(flatten(config))} keys, nothing wrong")
  print(f"export: {export_as(config)}")
  return 0


def _explain(args: argparse.Namespace) -> int:
  config = args.config_values
  setup, shapes = abstract_setup(config, args.devices)
  found = explain(setup, **shapes)
  mesh = setup.layout.mesh
  axes = ", ".join(f"{axis} {mesh.shape[axis]}" for axis in in_use(mesh.shape)) or "not sharded"
  print(f"{config.name} on {counted(mesh.size, 'device')}: {axes}")
  print("\nParameters as stored; bytes per device")
  _print_rows([(f"{one.name} {_sizes(one)}", one) for one in found.parameters])
  parameters, optimizer = human_bytes(found.parameter_bytes), human_bytes(found.optimizer)
  print(f"  {parameters} of parameters, {parameters} of gradients, {optimizer} of optimizer state" +
        (f", {human_bytes(found.host)} of it in host memory" if found.host else ""))  # fmt: skip
  print(
    "\nActivations of a micro-batch with a sharding constraint, the largest first (of scanned layers: those of one)"
  )
  _print_rows([(f"{one.count} x {_sizes(one)}", one) for one in found.activations])
  return 0


def _sizes(one: ShardedArray) -> str:
  axes = ", ".join(f"{axis or '-'} {size}" for axis, size in zip(one.axes, one.shape, strict=True))
  return f"({axes}) {one.dtype}"


def _print_rows(rows: list[tuple[str, ShardedArray]]) -> None:
  width = max(len(text) for text, _ in rows)
  for text, one in rows:
    print(f"  {text:{width}}  {human_bytes(one.bytes):>7}  {one.why}")
