# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx plan`: memory, step time and cost of a config on hardware that you don't have."""

import argparse
import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections.config_dict import ConfigDict

from lmx.console import console, reporter
from lmx.errors import LmxError
from lmx.evaluation.plots import draw_candidates
from lmx.parallel.mesh import check_slices
from lmx.paths import local_path
from lmx.plan import search as searching
from lmx.plan.compile_step import Plan, cheapest_fixes, describe_memory, make_plan
from lmx.plan.gpu import make_gpu_plan
from lmx.plan.search import Candidate
from lmx.plan.step_time import Range
from lmx.plan.topology import Topology, parse_topology, tpu_devices
from lmx.training.metrics import json_line
from lmx.units import Chip, chip_of, human, human_bytes, human_time

_SHOWN = 12  # Collectives to print; the others are small.


def run(args: argparse.Namespace) -> int:
  """Prints the plan of a config on a topology, or searches for the fastest config there."""
  machine = parse_topology(args.topology)
  config = args.config_values
  devices = [] if machine.calculated else tpu_devices(machine)
  if args.search:
    return _search(args, config, machine, devices)
  if args.write or args.plot:
    raise LmxError(f"{'--write' if args.write else '--plot'} needs --search. Fix: add --search")
  plan = make_gpu_plan(config, machine.kind, machine.size) if machine.calculated else make_plan(config, devices)
  if args.json:
    print(json_line(_as_json(plan, args.topology)))
    return 0
  print(_as_text(plan, config.name, args.topology))
  over = plan.memory.total / (plan.memory.limit or plan.memory.total)
  if over > 1.0:
    fixes = "; ".join(cheapest_fixes(config, plan.devices, over))
    print(f"\nThis does not fit. Fixes, the cheapest first: {fixes}")
  if args.tokens:
    print(_cost_text(plan, args.tokens, args.price))
  return 0


def _search(args: argparse.Namespace, config: ConfigDict, machine: Topology, devices: Sequence[Any]) -> int:
  """Estimates all candidates, compiles the most promising, and prints, plots and writes the result.

  Args:
    args: the flags.
    config: what the candidates change.
    machine: the hardware.
    devices: its abstract devices; () for GPUs, which are calculated only.
  """
  if args.write and local_path(args.write, "--write").exists():
    raise LmxError(f"--write: {args.write} exists. Fix: another name, or remove it")
  chip = _known_chip(machine.kind if machine.calculated else devices[0].device_kind)
  check_slices(config.mesh.slice, machine.slices)
  every = searching.candidates(config, machine.size, chip, _tracked)
  if not every:
    fixes = "; ".join(cheapest_fixes(config, machine.size))
    raise LmxError(f"{config.name} fits no mesh of {args.topology}. Fixes: {fixes}")
  print(f"{config.name} on {args.topology}: {len(every)} combinations fit by estimated memory", flush=True)
  best = every[: args.compile]
  if not machine.calculated:
    print_one = functools.partial(_print_candidate, total=len(best) + searching.REFINEMENTS, numbers=itertools.count(1))
    compile_all = functools.partial(
      searching.search, config, args.topology, make=lambda c: make_plan(c, devices), tell=print_one
    )
    best = compile_all(best)
    best = searching.ranked([*best, *compile_all(searching.refined(config, best[0]))])
  print(_search_text(best, chip))
  if best[0].problem:
    raise LmxError("None of the compiled candidates fits. Fix: a larger --compile, or a larger topology")
  if args.plot:
    print(draw_candidates(every, best, chip, args.plot))
  if args.write:
    text = searching.config_file(args.config, best[0], args.topology, Path(args.write).stem)
    Path(args.write).write_text(text, encoding="utf-8")
    print(f"{args.write}: lmx train --config={args.write}")
  return 0


def _known_chip(kind: str) -> Chip:
  """The chip of a device kind.

  Raises:
    LmxError: its peak FLOP/s and memory are not known.
  """
  chip = chip_of(kind)
  if chip is None:
    raise LmxError(f"--topology: no published figures of {kind!r} are known, so nothing can be estimated for it.")
  return chip


def _tracked(layouts: Sequence[Any]) -> Iterator[Any]:
  """The layouts, with a progress bar."""
  bar = reporter(console(), "estimating", len(layouts))
  for number, one in enumerate(layouts):
    yield one
    bar.update(number + 1)
  bar.close()


def _print_candidate(one: Candidate, total: int, numbers: Iterator[int]) -> None:
  """Prints the result of one compilation, numbered by `numbers` out of `total`."""
  result = one.problem[:80] if one.problem else f"{1000 * one.step.likely:.0f} ms, {human_bytes(one.bytes)}"
  print(f"  {next(numbers)}/{total}  {one.describe()}: {result}", flush=True)


def _search_text(best: Sequence[Candidate], chip: Chip) -> str:
  """The ranked candidates as a table."""
  lines = ["", f"{'ms/step':>10} {'range':>16} {'memory':>8}  changes"]
  for one in best:
    if one.problem:
      lines.append(f"{'-':>10} {'':16} {'':8}  {one.describe()}: {one.problem[:60]}")
      continue
    reach = f"{1000 * one.step.low:.0f} to {1000 * one.step.high:.0f}" if one.compiled else "estimated"
    memory = f"{100 * one.bytes / chip.hbm_bytes:.0f} %"
    lines.append(f"{1000 * one.step.likely:10.1f} {reach:>16} {memory:>8}  {one.describe()}")
  return "\n".join(lines)


def _seconds(one: Range) -> str:
  return f"{1000 * one.likely:8.1f} ms  ({1000 * one.low:.1f} to {1000 * one.high:.1f})"


def _as_text(plan: Plan, name: str, topology: str) -> str:
  """The plan on one page."""
  mesh = ", ".join(f"{axis} {size}" for axis, size in plan.mesh.items() if size > 1) or "one device"
  lines = [f"{name} on {topology}: {plan.devices} x {plan.chip.name if plan.chip else 'unknown'}, {mesh}",
           f"memory per device   {describe_memory(plan.memory)}", "", "step time"]  # fmt: skip
  width = max(len(what) for what, _, _ in plan.parts)
  lines += [f"  {what:{width}} {_seconds(one)}  {who}" for what, who, one in plan.parts]
  lines += [f"  {'total':{width}} {_seconds(plan.step)}",
            f"  {'roofline':{width}} {1000 * plan.roofline:8.1f} ms  the model's FLOPs at {plan.peaks}"]  # fmt: skip
  step, likely_first = plan.step, (plan.step.likely, plan.step.high, plan.step.low)
  lines += [
    "",
    f"tokens/s  {human(plan.rate(step.likely))}  ({human(plan.rate(step.high))} to {human(plan.rate(step.low))}), "
    f"{human(plan.rate(step.likely) / plan.devices)} per device",
    "MFU       {:.1f} %  ({:.1f} to {:.1f}) of the bf16 peak, ".format(
      *(100 * (plan.mfu(x) or 0.0) for x in likely_first)
    )
    + f"attention counted causally; {plan.flops.causal / 1e9:.3g} GFLOP per token",
  ]
  if plan.program is not None:
    lines += ["", "collectives of a step"]
    lines += [
      f"  {one.count:5} x {one.kind:18} {human_bytes(one.bytes):>8}  over {', '.join(one.axes) or 'no axis'}"
      + ("" if one.overlapped else ", not overlapped")
      for one in plan.program.collectives[:_SHOWN]
    ]
    cycles = f"{plan.program.matmul_cycles / 1e6:.0f} + {plan.program.other_cycles / 1e6:.0f}"
    lines.append(f"the compiler's estimate: {cycles} Mcycles in matmuls and in memory-bound operations")
  return "\n".join(lines)


def _as_json(plan: Plan, topology: str) -> dict[str, Any]:
  """The plan's numbers."""
  seconds = lambda one: {"low": one.low, "likely": one.likely, "high": one.high}  # noqa: E731
  memory = {"parameters": plan.memory.parameters, "optimizer": plan.memory.optimizer, "batch": plan.memory.batch,
            "rest": plan.memory.rest, "program": plan.memory.program, "total": plan.memory.total,
            "limit": plan.memory.limit, "host": plan.memory.host}  # fmt: skip
  result = {"topology": topology, "devices": plan.devices, "mesh": dict(plan.mesh), "tokens": plan.tokens,
            "memory": memory, "parts": {what: seconds(one) for what, _, one in plan.parts},
            "step_seconds": seconds(plan.step), "tokens_per_second": plan.rate(plan.step.likely),
            "mfu_causal": plan.mfu(plan.step.likely), "roofline_seconds": plan.roofline}  # fmt: skip
  if plan.program is not None:
    result |= {
      "matmul_cycles": plan.program.matmul_cycles,
      "other_cycles": plan.program.other_cycles,
      "kernels": dict(plan.program.kernels),
      "collectives": [
        {"kind": one.kind, "axes": list(one.axes), "bytes": one.bytes, "count": one.count, "hidden": one.overlapped}
        for one in plan.program.collectives
      ],
    }
  return result


def _cost_text(plan: Plan, tokens: float, price: float | None) -> str:
  """Device-hours and cost of training on `tokens` tokens, at `price` per device-hour."""
  lines = ["", f"training on {human(tokens)} tokens"]
  for what, seconds in (("likely", plan.step.likely), ("best", plan.step.low), ("worst", plan.step.high)):
    duration = tokens / plan.rate(seconds)
    hours = duration / 3600 * plan.devices
    cost = "" if price is None else f"  {hours * price:,.0f} at {price:g} per device-hour"
    lines.append(f"  {what:9} {human_time(duration):>8}  {hours:,.0f} device-hours{cost}")
  return "\n".join(lines)
