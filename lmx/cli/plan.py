# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Estimate memory, step time and cost of a config on hardware that you don't have.

  lmx plan --config=configs/gpt3.py:1.3b --topology=v5e:4x4
  lmx plan --config=configs/llama.py:8b --topology=v5p:4x4x4 --tokens="300B" --price=4.2
  lmx plan --config=configs/gpt3.py:1.3b --topology=2xv5e:4x4 --config.mesh.slice=2
  lmx plan --config=configs/gpt3.py:1.3b --topology=v5e:4x4 --search --write=configs/mine.py --plot=plan.png

The step is compiled for TPU slices ahead of time, with the package libtpu: memory, collectives and matmuls are the
compiler's own figures, the rest is added by calculation, and the output labels the source of each figure. GPUs (h100:8)
are calculated only. --search tries meshes of all axes, micro-batches, the schedule of a pipeline, rematerialization,
the loss in parts, ZeRO-1 and moments in the host's memory; for the fastest of them on TPUs, also more vector memory and
keeping more activations. Compiled candidates are cached for this version of lmx.
"""

import argparse
import functools
import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmx.cli.arguments import add_config
from lmx.cli.config import checked_config
from lmx.console import console, reporter
from lmx.errors import LmxError, message
from lmx.training.metrics import json_line
from lmx.units import human, human_bytes, human_time

_SHOWN = 12  # Collectives; the others are small.


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add_config(parser)
  parser.add_argument(
    "--topology",
    required=True,
    help="a TPU slice in chips (v5e:4x4, tpu7x:2x2x2), several (2xv5e:16x16), or GPUs (h200:8)",
  )
  parser.add_argument("--tokens", default="", help='also the time and cost of training on so many, as "300B"')
  parser.add_argument("--price", type=float, help="price per device-hour, in any currency")
  parser.add_argument("--search", action="store_true", help="look for the fastest way that fits")
  parser.add_argument("--compile", type=int, default=6, help="compile so many of the most promising (default: 6)")
  parser.add_argument("--write", metavar="FILE.py", help="with --search: a config file with the winner's changes")
  parser.add_argument("--plot", metavar="FILE.png", help="with --search: memory and time of all candidates")
  parser.add_argument("--json", action="store_true", help="one line of JSON instead of text")


def run(args: argparse.Namespace) -> int:
  tokens = parse_tokens(args.tokens)
  if args.price is not None and args.price < 0:
    raise LmxError(message("--price", got=args.price, allowed="a price of an hour, at least 0"))
  topologies = importlib.import_module("lmx.plan.topology")
  machine = topologies.parse_topology(args.topology)
  config = checked_config(args)
  plans = importlib.import_module("lmx.plan.compile_step")
  if args.search:
    return run_search(args, config, plans, machine, [] if machine.calculated else topologies.tpu_devices(machine))
  if args.write or args.plot:
    raise LmxError(f"{'--write' if args.write else '--plot'} needs --search. Fix: add --search")
  if machine.calculated:
    plan = importlib.import_module("lmx.plan.gpu").make_gpu_plan(config, machine.kind, machine.size)
  else:
    plan = plans.make_plan(config, topologies.tpu_devices(machine))
  print(json_line(as_json(plan, args.topology)) if args.json else as_text(plan, plans, config.name, args.topology))
  over = plan.memory.total / (plan.memory.limit or plan.memory.total)
  if over > 1.0 and not args.json:
    print(
      f"\nThat does not fit. Fixes, the cheapest first: {'; '.join(plans.cheapest_fixes(config, plan.devices, over))}"
    )
  if tokens and not args.json:
    print(cost_text(plan, tokens, args.price))
  return 0


def run_search(args: argparse.Namespace, config: Any, plans: Any, machine: Any, devices: Any) -> int:
  """Counts all candidates, compiles the best of them, and prints what came out."""
  if args.write and Path(args.write).exists():
    raise LmxError(f"--write: {args.write} exists. Fix: another name, or remove it")
  if args.compile < 1:
    raise LmxError(message("--compile", got=args.compile, allowed="at least 1"))
  searching = importlib.import_module("lmx.plan.search")
  chip = plans.chip_of(machine.kind if machine.calculated else devices[0].device_kind)
  importlib.import_module("lmx.parallel.mesh").check_slices(config.mesh.slice, machine.slices)
  every = searching.candidates(config, machine.size, chip, _tracked)
  if not every:
    fixes = "; ".join(plans.cheapest_fixes(config, machine.size))
    raise LmxError(f"{config.name} fits on no mesh of {args.topology}. Fixes: {fixes}")
  print(f"{config.name} on {args.topology}: {len(every)} combinations fit by a count of bytes", flush=True)
  best = every[: args.compile]
  if not machine.calculated:
    tell = functools.partial(_tell, total=len(best) + searching.REFINEMENTS, numbers=itertools.count(1))
    look = functools.partial(
      searching.search, config, args.topology, make=lambda c: plans.make_plan(c, devices), tell=tell
    )
    best = look(best)
    best = searching.ranked([*best, *look(searching.refined(config, best[0]))])
  print(search_text(best, chip))
  if best[0].problem:
    raise LmxError("None of the compiled ones runs. Fix: --compile with a larger number, or a larger topology")
  if args.plot:
    print(importlib.import_module("lmx.evaluation.plots").draw_candidates(every, best, chip, args.plot))
  if args.write:
    text = searching.config_file(args.config, best[0], args.topology, Path(args.write).stem)
    Path(args.write).write_text(text, encoding="utf-8")
    print(f"{args.write}: lmx train --config={args.write}")
  return 0


def _tracked(layouts: Any) -> Iterator[Any]:
  bar = reporter(console(), "counting", len(layouts))
  for number, one in enumerate(layouts):
    yield one
    bar.update(number + 1)
  bar.close()


def _tell(one: Any, total: int, numbers: Any) -> None:
  result = one.problem[:80] if one.problem else f"{1000 * one.step.likely:.0f} ms, {human_bytes(one.bytes)}"
  print(f"  {next(numbers)}/{total}  {one.describe()}: {result}", flush=True)


def search_text(best: Any, chip: Any) -> str:
  """The ranked candidates as a table."""
  lines = ["", f"{'ms a step':>10} {'range':>16} {'memory':>8}  changes"]
  for one in best:
    if one.problem:
      lines.append(f"{'-':>10} {'':16} {'':8}  {one.describe()}: {one.problem[:60]}")
      continue
    reach = f"{1000 * one.step.low:.0f} to {1000 * one.step.high:.0f}" if one.compiled else "counted only"
    memory = f"{100 * one.bytes / chip.hbm_bytes:.0f} %"
    lines.append(f"{1000 * one.step.likely:10.1f} {reach:>16} {memory:>8}  {one.describe()}")
  return "\n".join(lines)


def parse_tokens(text: str) -> float:
  """300e9 of "300B"; 0 of "".

  Raises:
    LmxError: it is no number of tokens.
  """
  scale = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
  number, factor = (text[:-1], scale[text[-1].upper()]) if text[-1:].upper() in scale and text else (text, 1.0)
  try:
    return float(number) * factor if text else 0.0
  except ValueError as error:
    raise LmxError(message("--tokens", got=text, allowed="a number, with K, M, B or T", fix="--tokens=300B")) from error


def _seconds(one: Any) -> str:
  return f"{1000 * one.likely:8.1f} ms  ({1000 * one.low:.1f} to {1000 * one.high:.1f})"


def as_text(plan: Any, plans: Any, name: str, topology: str) -> str:
  """The plan on one page."""
  mesh = ", ".join(f"{axis} {size}" for axis, size in plan.mesh.items() if size > 1) or "one device"
  lines = [f"{name} on {topology}: {plan.devices} x {plan.chip.name}, {mesh}",
           f"memory of a device  {plans.describe_memory(plan.memory)}", "", "time of a step"]  # fmt: skip
  width = max(len(what) for what, _, _ in plan.parts)
  lines += [f"  {what:{width}} {_seconds(one)}  {who}" for what, who, one in plan.parts]
  lines += [f"  {'together':{width}} {_seconds(plan.step)}",
            f"  {'roofline':{width}} {1000 * plan.roofline:8.1f} ms  the model's FLOPs at {plan.peaks}"]  # fmt: skip
  step, likely_first = plan.step, (plan.step.likely, plan.step.high, plan.step.low)
  lines += [
    "",
    f"tokens/s  {human(plan.rate(step.likely))}  ({human(plan.rate(step.high))} to {human(plan.rate(step.low))}), "
    f"{human(plan.rate(step.likely) / plan.devices)} on a device",
    "MFU       {:.1f} %  ({:.1f} to {:.1f}) of the bf16 peak, ".format(*(100 * plan.mfu(x) for x in likely_first))
    + f"attention counted causally; {plan.flops.causal / 1e9:.3g} GFLOP a token",
  ]
  if plan.program is not None:
    lines += ["", "between devices, in a step"]
    lines += [
      f"  {one.count:5} x {one.kind:18} {human_bytes(one.bytes):>8}  along {', '.join(one.axes) or 'nothing'}"
      + ("" if one.overlapped else ", waited for")
      for one in plan.program.collectives[:_SHOWN]
    ]
    cycles = f"{plan.program.matmul_cycles / 1e6:.0f} + {plan.program.other_cycles / 1e6:.0f}"
    lines.append(f"the compiler's estimate: {cycles} Mcycles in matmuls and in what is bound by memory")
  return "\n".join(lines)


def as_json(plan: Any, topology: str) -> dict[str, Any]:
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


def cost_text(plan: Any, tokens: float, price: float | None) -> str:
  """Device-hours of training on so many tokens, and what they cost."""
  lines = ["", f"training on {human(tokens)} tokens"]
  for what, seconds in (("likely", plan.step.likely), ("at best", plan.step.low), ("at worst", plan.step.high)):
    duration = tokens / plan.rate(seconds)
    hours = duration / 3600 * plan.devices
    cost = "" if price is None else f"  {hours * price:,.0f} at {price:g} an hour"
    lines.append(f"  {what:9} {human_time(duration):>8}  {hours:,.0f} device-hours{cost}")
  return "\n".join(lines)
