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

from tools.bench.contest import WARM_UP, Contestant, disagreements, drift, hold, load_average, ratios
from tools.bench.reporting import make_result, report, table
from tools.bench.setting import prepare
from tools.bench.shapes import SHAPES

MODULES = {"lmx": "with_lmx", "lmx step": "with_lmx", "hand-written": "hand_written", "plain": "hand_written",
           "torch": "with_torch", "torch, one-piece GELU": "with_torch"}  # fmt: skip
# Those whose malloc keeps what is freed, as it does in `lmx train`: lmx, and what its overhead is measured against.
KEEPS_MEMORY = ("lmx", "lmx step", "hand-written")
WHAT = {
  "lmx": "`lmx train`: draw, step, log",
  "lmx step": "lmx, the compiled step alone",
  "hand-written": "hand-written JAX, the same formulation",
  "plain": "hand-written JAX, textbook",
  "torch": "transformers GPT2LMHeadModel, eager",
  "torch, one-piece GELU": "the same with a one-piece GELU",
}


def contestant(name: str, shape: str, folder: str, torch_python: str) -> Contestant:
  """A contestant of a shape; `folder` has what `prepare` writes."""
  setting = {"contestant": name, "shape": shape, "folder": folder, "keep_freed_memory": name in KEEPS_MEMORY}
  return Contestant(name, MODULES[name], setting, torch_python if name.startswith("torch") else sys.executable)


def measure(shape_name: str, names: Sequence[str], rounds: int | None, torch_python: str) -> dict[str, Any]:
  """One shape: every round's times, the ratios, and the losses.

  Raises:
    SystemExit: the contestants do not compute the same thing.
  """
  shape = SHAPES[shape_name]
  rounds = rounds or shape.rounds
  with tempfile.TemporaryDirectory() as folder:
    prepare(shape, Path(folder), WARM_UP + rounds * shape.steps)
    outcome = hold([contestant(name, shape_name, folder, torch_python) for name in names], shape.steps, rounds)
  curves, seconds, cpu_seconds = outcome.results, outcome.seconds, outcome.cpu_seconds
  if problems := disagreements(curves):
    sys.exit(f"shape {shape_name}: the contestants disagree:\n" + "\n".join(problems))
  return {
    "shape": shape.describe(),
    "rounds": rounds,
    "steps_in_a_turn": shape.steps,
    "seconds": seconds,
    "cpu_seconds": cpu_seconds,
    "first_step_seconds": outcome.first_step_seconds,
    "median_seconds": {name: statistics.median(each) for name, each in seconds.items()},
    "to_hand_written": {name: ratios(seconds, name, "hand-written") for name in names},
    "cpu_to_hand_written": {name: ratios(cpu_seconds, name, "hand-written") for name in names},
    "to_torch": {name: ratios(seconds, name, "torch") for name in names},
    "first_loss": {name: curve["first"] for name, curve in curves.items()},
    "loss_drift": drift(curves),
    "others": outcome.others,
    "versions": outcome.versions,
  }


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
  parser.add_argument("--contestants", nargs="+", choices=WHAT, default=list(WHAT))
  parser.add_argument("--rounds", type=int, help="turns of each contestant (default: enough for the shape)")
  parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has torch and transformers")
  parser.add_argument("--record", action="store_true", help="keep the result in tools/bench/results")
  args = parser.parse_args(argv)
  if "hand-written" not in args.contestants:
    parser.error("--contestants must have hand-written: it is what the others are compared with")
  return args


def main(argv: Sequence[str]) -> None:
  args = parse(argv)
  present = {name: contestant(name, "", "", args.torch_python).importable() for name in args.contestants}
  names, missing = ([name for name, found in present.items() if found == wanted] for wanted in (True, False))
  load = load_average()
  shapes = {name: measure(name, names, args.rounds, args.torch_python) for name in args.shapes}
  versions = next(iter(shapes.values()))["versions"]
  busy = [one["others"] for one in shapes.values() if one["others"] is not None]
  result = make_result({"shapes": shapes, "not_measured": missing}, versions, max(busy, default=None), load)
  text = "\n\n".join(render(name, one, missing) for name, one in shapes.items())
  report("step", result, text, record=args.record)


if __name__ == "__main__":
  main(sys.argv[1:])
