# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Step time of lmx against the same model hand-written in JAX and in torch.

Command:  python -m tools.bench.step [--shapes A B] [--rounds N] [--torch-python PYTHON] [--record]
Time:     about ten minutes on two CPU cores

All contestants start from the same parameters, train on the same batches with the same update, and must agree on the
losses, or the benchmark fails.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench.contest import Worker, disagreements, drift, importable, load_average, play, ratios, workers
from tools.bench.reporting import Load, make_result, report, table
from tools.bench.setting import prepare
from tools.bench.shapes import SHAPES
from tools.bench.worker import CONTESTANTS

WARM_UP = 2  # Steps before the rounds; the first one compiles.
WHAT = {
  "lmx": "`lmx train`: draw, step, log",
  "lmx step": "lmx, the compiled step alone",
  "hand-written": "hand-written JAX, the same formulation",
  "plain": "hand-written JAX, textbook",
  "torch": "transformers GPT2LMHeadModel, eager",
  "torch, one-piece GELU": "the same with a one-piece GELU",
}


def measure(shape_name: str, names: Sequence[str], rounds: int | None, pythons: Mapping[str, str]) -> dict[str, Any]:
  """One shape: every round's times, the ratios, and the losses.

  Raises:
    SystemExit: the contestants do not compute the same thing.
  """
  shape = SHAPES[shape_name]
  rounds = rounds or shape.rounds
  with tempfile.TemporaryDirectory() as made:
    folder = Path(made)
    prepare(shape, folder, WARM_UP + rounds * shape.steps)
    with workers(names, shape_name, folder, pythons) as contestants:
      first = {worker.name: worker.ask({"steps": 1})["seconds"] for worker in contestants}
      for worker in contestants:
        worker.ask({"steps": WARM_UP - 1})
      load = Load([worker.pid for worker in contestants])
      seconds, cpu_seconds = play(contestants, shape.steps, rounds)
      others = load.others()
      curves = {worker.name: worker.ask({}) for worker in contestants}
      versions = merged(contestants)
  if problems := disagreements(curves):
    sys.exit(f"shape {shape_name}: the contestants disagree:\n" + "\n".join(problems))
  return {
    "shape": shape.describe(),
    "rounds": rounds,
    "steps_in_a_turn": shape.steps,
    "seconds": seconds,
    "cpu_seconds": cpu_seconds,
    "first_step_seconds": first,
    "median_seconds": {name: statistics.median(each) for name, each in seconds.items()},
    "to_hand_written": {name: ratios(seconds, name, "hand-written") for name in names},
    "cpu_to_hand_written": {name: ratios(cpu_seconds, name, "hand-written") for name in names},
    "to_torch": {name: ratios(seconds, name, "torch") for name in names},
    "first_loss": {name: curve["first"] for name, curve in curves.items()},
    "loss_drift": drift(curves),
    "others": others,
    "versions": versions,
  }


def merged(contestants: Sequence[Worker]) -> dict[str, str]:
  """Versions of all contestants; a package that two of them have in different versions is named twice."""
  found: dict[str, list[str]] = {}
  for worker in contestants:
    for name, version in worker.versions.items():
      found.setdefault(name, [])
      found[name] += [version] if version not in found[name] else []
  return {name: " and ".join(versions) for name, versions in found.items()}


def ratio_text(ratio: Mapping[str, float] | None) -> str:
  return "" if ratio is None else f"{ratio['median']:.3f} ({ratio['min']:.2f} to {ratio['max']:.2f})"


def render(shape_name: str, one: Mapping[str, Any], missing: Sequence[str]) -> str:
  """A shape's table."""
  rows = [
    (WHAT[name], f"{1000 * seconds:.1f}", ratio_text(one["to_hand_written"][name]), ratio_text(one["to_torch"][name]),
     f"{one['first_step_seconds'][name]:.1f}", f"{one['loss_drift'][name]:.0e}")
    for name, seconds in one["median_seconds"].items()
  ]  # fmt: skip
  rows += [(WHAT[name], "not measured", "", "", "", "") for name in missing]
  header = ("contestant", "step, ms", "to hand-written", "to torch", "first step, s", "loss differs by")
  title = f"Shape {shape_name}: {one['shape']}; {one['rounds']} rounds of {one['steps_in_a_turn']} steps each."
  return f"{title}\n\n{table(header, rows)}"


def parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(prog="python -m tools.bench.step", description=__doc__.partition("\n")[0])
  parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["A", "B"])
  parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
  parser.add_argument("--rounds", type=int, help="turns of each contestant (default: enough for the shape)")
  parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has torch and transformers")
  parser.add_argument("--record", action="store_true", help="keep the result in tools/bench")
  args = parser.parse_args(argv)
  if "hand-written" not in args.contestants:
    parser.error("--contestants must have hand-written: it is what the others are compared with")
  return args


def main(argv: Sequence[str]) -> None:
  args = parse(argv)
  pythons = {name: args.torch_python if name.startswith("torch") else sys.executable for name in args.contestants}
  names = [name for name in args.contestants if importable(pythons[name], name)]
  missing = [name for name in args.contestants if name not in names]
  load = load_average()
  shapes = {name: measure(name, names, args.rounds, pythons) for name in args.shapes}
  versions = next(iter(shapes.values()))["versions"]
  busy = [one["others"] for one in shapes.values() if one["others"] is not None]
  result = make_result({"shapes": shapes, "not_measured": missing}, versions, max(busy, default=None), load)
  text = "\n\n".join(render(name, one, missing) for name, one in shapes.items())
  report("step", result, text, record=args.record)


if __name__ == "__main__":
  main(sys.argv[1:])
