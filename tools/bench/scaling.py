# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""How compile time, program and step time of lmx grow with layers, width, context and devices; tables and pictures.

Command:  python -m tools.bench.scaling [--parts layers width context devices tpu] [--rounds N] [--record]
Time:     about ten minutes on two CPU cores, and as many for the TPU slices (needs libtpu)

Every point is the step that `lmx train` compiles, without the cache of compiled programs. Times on the CPU are seconds
of all threads of the process together, the least of the rounds: other work on the machine lengthens the clock's
seconds, which results/scaling.jsonl also has, but hardly these. The simulated devices share the same cores, so their
step shows what splitting adds in work (collectives, smaller matrices), and nothing about how fast they would be.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lmx.plan.topology import parse_topology
from tools.bench.contest import load_average
from tools.bench.process import Process, python_module
from tools.bench.reporting import HERE, Load, make_result, report, table, versions
from tools.bench.scaling_plots import draw_steps, draw_tpus


@dataclasses.dataclass(frozen=True)
class Sweep:
  """One size that grows while all others stay.

  Attributes:
    unit: of the size, for tables and axes.
    sizes: from the smallest to the largest.
    key: of the config; None: devices.
    fixed: overrides of the config.
    variants: name -> its overrides.
    also: keys that grow along.
  """

  unit: str
  sizes: tuple[int, ...]
  key: str | None
  fixed: Mapping[str, Any]
  variants: Mapping[str, Mapping[str, Any]]
  also: tuple[str, ...] = ()

  def overrides(self, size: int, variant: str) -> list[str]:
    grown = {} if self.key is None else {key: size for key in (self.key, *self.also)}
    return [f"{key}={value}" for key, value in (self.fixed | self.variants[variant] | grown).items()]

  def describe(self) -> str:
    """What stays the same."""
    shown = {"model.layers": "layers", "model.width": "width", "data.length": "context", "train.batch_size": "rows"}
    return ", ".join(f"{what} {self.fixed[key]}" for key, what in shown.items() if key not in (self.key, *self.also))


def shape(layers: int, width: int, context: int, rows: int) -> dict[str, Any]:
  """GPT-2's parts in float32, without a vocabulary to speak of."""
  return {
    "model.layers": layers, "model.width": width, "model.heads": 2, "model.context": context, "data.length": context,
    "train.batch_size": rows, "model.vocab_size": 256, "compute.dtype": "float32", "compute.compilation_cache": "",
  }  # fmt: skip


SCANNED, UNROLLED = {"compute.layers": "scanned"}, {"compute.layers": "unrolled"}
SWEEPS = {
  "layers": Sweep("layers", (2, 4, 8, 16, 32, 48), "model.layers", shape(2, 64, 64, 4),
                  {"scanned": SCANNED, "unrolled": UNROLLED}),
  "width": Sweep("width", (64, 128, 256, 512, 1024), "model.width", shape(4, 64, 64, 8), {"scanned": SCANNED}),
  "context": Sweep("tokens of context", (128, 256, 512, 1024, 2048), "model.context", shape(2, 128, 128, 2),
                   {"scanned": SCANNED}, also=("data.length",)),
  "devices": Sweep("devices", (1, 2, 4, 8), None, SCANNED | shape(4, 256, 128, 16),
                   {"data": {"mesh.data": -1}, "fsdp": {"mesh.data": 1, "mesh.fsdp": -1}}),
}  # fmt: skip
TINY = {"layers": (1, 2), "width": (16, 32), "context": (16, 32), "devices": (1, 2)}  # For the test.

# The 1.3B decoder of tools/bench/results/tpu.md, 8 rows of 2,048 tokens a device.
TPUS, ROWS = ("v5e:2x2", "v5e:4x4", "v5e:8x8", "v5e:16x16"), 8
DECODER = ("configs/gpt3.py:1.3b", ("model.vocab_size=50304", "compute.loss_chunks=8", "compute.layers=scanned"))

Point = dict[str, Any]


def worker(devices: int) -> Process:
  """A process with this many devices of the CPU (0: as they come), which measures one setting after another."""
  return Process(python_module("scaling_worker", str(devices)))


def asked(process: Process, setting: Mapping[str, Any]) -> Point:
  """The process's answer to a setting.

  Raises:
    RuntimeError: it failed.
  """
  answer = process.ask(setting)
  if "error" in answer:
    raise RuntimeError(answer["error"])
  return answer


def measure_sweep(sweep: Sweep, sizes: Sequence[int], rounds: int, steps: int) -> Iterator[Point]:
  """Every round's points of a sweep: size, variant, and what the worker answers."""
  for devices in sizes if sweep.key is None else (1,):
    own = [devices] if sweep.key is None else sizes
    settings = [(size, variant) for variant in sweep.variants for size in own]
    with worker(devices) as process:
      for number in range(rounds):
        for size, variant in settings[:: -1 if number % 2 else 1]:
          answer = asked(process, {"overrides": sweep.overrides(size, variant), "steps": steps})
          yield {"size": size, "variant": variant, **answer}


def least(points: Sequence[Point]) -> dict[str, float]:
  """Of all rounds of one point: CPU seconds of each phase and of a step, and the program's figures."""
  phases = {name: min(point[name]["cpu_seconds"] for point in points) for name in ("trace", "lower", "compile")}
  first = points[0]
  return {
    "make": phases["trace"] + phases["lower"] + phases["compile"],
    **phases,
    "step": min(step["cpu_seconds"] for point in points for step in point["steps"]),
    "instructions": first["instructions"],
    "temporary": first["temporary_bytes"],
    "flops": first["flops"] * first["tokens"],
  }


def summarize(points: Sequence[Point]) -> dict[str, dict[int, dict[str, float]]]:
  """variant -> size -> the least of the rounds."""
  found: dict[str, dict[int, list[Point]]] = {}
  for point in points:
    found.setdefault(point["variant"], {}).setdefault(point["size"], []).append(point)
  return {variant: {size: least(each) for size, each in sizes.items()} for variant, sizes in found.items()}


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
  """k of value ~ size^k, by least squares over the larger half of the sizes, where what is constant matters least."""
  half = min(len(sizes) // 2, len(sizes) - 2)
  return float(np.polyfit(np.log(sizes[half:]), np.log(values[half:]), 1)[0])


QUANTITIES = {"make": "trace, lower, compile", "instructions": "instructions", "temporary": "temporary memory",
              "step": "step", "flops": "model FLOPs of a step"}  # fmt: skip


def exponents(summary: Mapping[str, Mapping[int, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
  """variant -> quantity -> k."""
  return {
    variant: {name: exponent(list(sizes), [one[name] for one in sizes.values()]) for name in QUANTITIES}
    for variant, sizes in summary.items()
  }


def render_sweep(name: str, summary: Mapping[str, Mapping[int, Mapping[str, float]]]) -> str:
  """A sweep's table, its exponents in the last rows."""
  sweep, rows = SWEEPS[name], []
  for variant, sizes in summary.items():
    rows += [
      (f"{size} {sweep.unit}, {variant}", f"{one['trace']:.2f}", f"{one['lower']:.2f}", f"{one['compile']:.2f}",
       f"{one['instructions']:,}", f"{one['temporary'] / 2**20:.1f}", f"{1000 * one['step']:.1f}",
       f"{one['flops'] / 1e9:.3g}")
      for size, one in sizes.items()
    ]  # fmt: skip
  if sweep.key is not None:
    for variant, k in exponents(summary).items():
      rows.append((f"exponent k, {variant}", "", "", f"{k['make']:.2f} (all three)", f"{k['instructions']:.2f}",
                   f"{k['temporary']:.2f}", f"{k['step']:.2f}", f"{k['flops']:.2f}"))  # fmt: skip
  header = (name, "trace, s", "lower, s", "compile, s", "instructions", "temporary, MiB", "step, ms", "GFLOP a step")
  return f"{name.capitalize()} grows; otherwise {sweep.describe()}.\n\n{table(header, rows)}"


def measure_tpus(topologies: Sequence[str]) -> list[Point]:
  """The decoder's plan on each slice, each in a process of its own."""
  found = []
  for topology in topologies:
    devices = parse_topology(topology).size
    overrides = [*DECODER[1], f"train.batch_size={ROWS * devices}"]
    with worker(0) as process:
      answer = asked(process, {"config": DECODER[0], "overrides": overrides, "topology": topology})
    print(f"{topology}: compiled in {answer['compile']['cpu_seconds']:.0f} CPU seconds", flush=True)
    found.append({"topology": topology, **answer})
  return found


def render_tpus(points: Sequence[Point]) -> str:
  rows = [
    (f"{p['topology']}, {p['devices']}", f"{p['compile']['cpu_seconds']:.0f}", f"{p['instructions']:,}",
     f"{p['matmul_cycles'] / 1e6:,.0f} + {p['other_cycles'] / 1e6:,.0f}", f"{p['bytes'] / 2**30:.2f}",
     f"{1000 * p['step']['likely']:,.0f} ({1000 * p['step']['low']:,.0f} to {1000 * p['step']['high']:,.0f})",
     f"{1000 * p['parts'].get('communication that is not hidden', 0):,.0f}", f"{100 * p['mfu']:.1f}")
    for p in points
  ]  # fmt: skip
  header = ("slice, devices", "compile, CPU s", "instructions", "Mcycles of a device: matmuls + memory",
            "GiB of a device", "step, ms", "of it waiting for links, ms", "MFU, %")  # fmt: skip
  title = f"{DECODER[0]} ({', '.join(DECODER[1])}), fsdp over all devices, {ROWS} rows of 2,048 tokens a device."
  return f"{title}\n\n{table(header, rows)}"


def main(argv: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(prog="python -m tools.bench.scaling", description=__doc__.partition("\n")[0])
  parser.add_argument("--parts", nargs="+", choices=(*SWEEPS, "tpu"), default=list(SWEEPS))
  parser.add_argument("--rounds", type=int, default=2)
  parser.add_argument("--steps", type=int, default=5, help="timed in each round")
  parser.add_argument("--topologies", nargs="+", default=TPUS, help="of the part tpu")
  parser.add_argument("--tiny", action="store_true", help="the smallest sizes only, to see that it runs")
  parser.add_argument("--record", action="store_true", help="keep the result in tools/bench/results")
  args = parser.parse_args(argv)
  before, load = load_average(), Load([])
  points = {}
  for name in (part for part in args.parts if part != "tpu"):
    sizes = TINY[name] if args.tiny else SWEEPS[name].sizes
    points[name] = list(measure_sweep(SWEEPS[name], sizes, args.rounds, args.steps))
  if points:
    summaries = {name: summarize(each) for name, each in points.items()}
    text = "\n\n".join(render_sweep(name, summary) for name, summary in summaries.items())
    found = {"points": points, "exponents": {name: exponents(summary) for name, summary in summaries.items()}}
    report("scaling", make_result(found, versions(), load.others(), before), text, record=args.record)
    if args.record:
      draw_steps(summaries, HERE / "results" / "scaling.png")
  if "tpu" in args.parts:
    plans = measure_tpus(args.topologies)
    seen = versions() | versions(("libtpu",))
    report("scaling-tpu", make_result({"points": plans}, seen, None, before), render_tpus(plans), record=args.record)
    if args.record:
      draw_tpus(plans, HERE / "results" / "scaling-tpu.png")


if __name__ == "__main__":
  main(sys.argv[1:])
