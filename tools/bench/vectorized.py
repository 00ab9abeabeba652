# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx sweep --vectorize` against the same trials one after the other, compilation included.

Command:  python -m tools.bench.vectorized [--trials N] [--steps N] [--rounds N] [--record]
Time:     about fifteen minutes on two CPU cores

Every figure is of fresh processes on the same cores, from the start of the command to its end: sixteen learning rates,
shape B of the step benchmark. The text is tokenized before, and nothing compiled is kept. In each round one of the two
comes first, in turn. The seconds of training are those that the runs note themselves: steps without the start of the
process, compilation, evaluation and saving.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmx.training.metrics import read_metrics
from tools.bench.contest import load_average
from tools.bench.reporting import PACKAGES, ROOT, Load, make_result, report, table, versions
from tools.bench.setting import overrides, write_text
from tools.bench.shapes import SHAPES

LMX = [sys.executable, "-m", "lmx"]


def sweep(flags: Sequence[str], rates: Sequence[str], folder: Path, *more: str) -> dict[str, Any]:
  """Seconds of a sweep over learning rates, those of its trials' steps, and their losses."""
  start = time.perf_counter()
  subprocess.run([*LMX, "sweep", *flags, f"--sweep.optimizer.peak_lr={','.join(rates)}", f"--workdir={folder}", *more],
                 check=True, stdout=subprocess.DEVNULL, cwd=ROOT)  # fmt: skip
  seconds = time.perf_counter() - start
  runs = [folder / "trials" / f"peak_lr={rate}" for rate in rates]
  training = [json.loads((run / "status.json").read_text())["training_seconds"] for run in runs]
  losses = [[line["loss"] for line in read_metrics(run) if "loss" in line] for run in runs]
  return {"seconds": seconds, "training": training, "losses": losses}


def main(argv: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(prog="python -m tools.bench.vectorized", description=__doc__.partition("\n")[0])
  parser.add_argument("--trials", type=int, default=16)
  parser.add_argument("--steps", type=int, default=200)
  parser.add_argument("--rounds", type=int, default=2)
  parser.add_argument("--shape", choices=SHAPES, default="B")
  parser.add_argument("--record", action="store_true", help="keep the result in tools/bench/results")
  args = parser.parse_args(argv)
  before, load = load_average(), Load([])
  rates = [f"{rate:.2e}" for rate in np.geomspace(1e-4, 2e-3, args.trials)]
  rounds = []
  with tempfile.TemporaryDirectory() as name:
    folder, shape = Path(name), SHAPES[args.shape]
    write_text(shape, folder)
    changed = [*overrides(shape, folder), f"train.duration={args.steps} steps", "evaluation.max_rows=24",
               "evaluation.every=100%", "checkpoint.every=100%", "evaluation.prompts=()"]  # fmt: skip
    flags = ["--config=configs/base.py", *(f"--config.{change}" for change in changed)]
    subprocess.run([*LMX, "data", "prepare", *flags], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    for number in range(args.rounds):
      ways = {"one by one": ["--jobs=1"], "vectorized": ["--vectorize"]}
      order = list(ways)[:: 1 if number % 2 == 0 else -1]
      rounds.append({way: sweep(flags, rates, folder / f"{way} {number}".replace(" ", "_"), *ways[way])
                     for way in order})  # fmt: skip
  ratios = [each["vectorized"]["seconds"] / each["one by one"]["seconds"] for each in rounds]
  differ = max(float(np.max(np.abs(np.divide(each["vectorized"]["losses"], each["one by one"]["losses"]) - 1)))
               for each in rounds)  # fmt: skip
  steps = {"one by one": [sum(each["one by one"]["training"]) for each in rounds],
           "vectorized": [max(each["vectorized"]["training"]) for each in rounds]}  # fmt: skip
  lines = [(way, f"{statistics.median(each[way]['seconds'] for each in rounds):.1f}",
            f"{statistics.median(steps[way]):.1f}") for way in steps]  # fmt: skip
  values = {"trials": args.trials, "steps": args.steps, "shape": args.shape, "ratios": ratios, "losses_differ": differ,
            "all": {way: [each[way]["seconds"] for each in rounds] for way in steps}, "steps_of": steps}  # fmt: skip
  result = make_result(values, versions(PACKAGES), load.others(), before)
  text = table(("", "seconds, all", "of them steps"), lines)
  text += f"\n\nRatio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} rounds); "
  text += f"{args.trials} trials of {args.steps} steps, shape {args.shape}; losses differ by at most {differ:.1e}."
  report("vectorized", result, text, record=args.record)


if __name__ == "__main__":
  main(sys.argv[1:])
