# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""How long a person waits: for `lmx --help`, and for the first step of a training run.

Command:  python -m tools.bench.startup [--repeats N] [--record]
Time:     about three minutes on two CPU cores

Every figure is of fresh processes. The first step is done when its line stands in metrics.jsonl; the time runs from
the start of the process. The text is tokenized before, and the cache of compiled programs is empty (cold) or has what
the same command left there (warm).
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

from tools.bench.contest import load_average
from tools.bench.reporting import PACKAGES, ROOT, Load, make_result, report, table, versions
from tools.bench.setting import load_config, overrides, write_text
from tools.bench.shapes import SHAPES

PATIENCE = 600.0  # Seconds for one first step.
LMX = [sys.executable, "-m", "lmx"]


def help_seconds(repeats: int) -> list[float]:
  """`lmx --help`, whole processes."""
  seconds = []
  for _ in range(repeats):
    start = time.perf_counter()
    subprocess.run([*LMX, "--help"], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    seconds.append(time.perf_counter() - start)
  return seconds


def first_step_seconds(flags: Sequence[str], run: Path) -> float:
  """From the start of `lmx train` to the first line of its metrics; then the process is killed.

  Raises:
    RuntimeError: it ended, or the time was up, before there was one.
  """
  log = run.with_suffix(".log")
  start = time.time()
  with log.open("w") as out:
    process = subprocess.Popen(
      [*LMX, "train", *flags, f"--workdir={run}"], stdout=out, stderr=subprocess.STDOUT, cwd=ROOT
    )
  try:
    while process.poll() is None and time.time() - start < PATIENCE:
      text = (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").exists() else ""
      if text.endswith("\n"):
        return json.loads(text.splitlines()[0])["time"] - start
      time.sleep(0.1)
  finally:
    process.kill()
    process.wait()
  raise RuntimeError(f"no first step:\n{log.read_text()[-3000:]}")


def train_flags(shape_name: str, folder: Path) -> list[str]:
  """Flags of a run of the shape on random words; writes what it reads."""
  shape = SHAPES[shape_name]
  folder.mkdir()
  write_text(shape, folder)
  load_config(shape, folder)  # Says now, and not in a process whose output nobody sees, what is wrong.
  changed = [*overrides(shape, folder), "log.every=1 steps"]
  return ["--config=configs/base.py", *(f"--config.{change}" for change in changed)]


def first_steps(shape_name: str, folder: Path, repeats: int) -> dict[str, list[float]]:
  """Seconds to the first step with an empty and with a filled cache of compiled programs."""
  flags = train_flags(shape_name, folder)
  subprocess.run([*LMX, "data", "prepare", *flags], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
  seconds: dict[str, list[float]] = {"cold": [], "warm": []}
  for repeat in range(repeats):
    cache = f"--config.compute.compilation_cache={folder / f'programs{repeat}'}"
    for state, times in seconds.items():
      times.append(first_step_seconds([*flags, cache], folder / f"{state}{repeat}"))
  return seconds


def main(argv: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(prog="python -m tools.bench.startup", description=__doc__.partition("\n")[0])
  parser.add_argument("--repeats", type=int, default=3, help="of each first step")
  parser.add_argument("--help-repeats", type=int, default=15, help="of lmx --help")
  parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=["A", "B"])
  parser.add_argument("--record", action="store_true", help="keep the result in tools/bench/results")
  args = parser.parse_args(argv)
  before, load = load_average(), Load([])
  measured = {"lmx --help": help_seconds(args.help_repeats)}
  with tempfile.TemporaryDirectory() as folder:
    for name in args.shapes:
      for state, seconds in first_steps(name, Path(folder) / name, args.repeats).items():
        measured[f"first step, shape {name}, {state} compilation cache"] = seconds
  others = load.others()
  lines = [(name, *(f"{f(each):.2f}" for f in (statistics.median, min, max)), str(len(each)))
           for name, each in measured.items()]  # fmt: skip
  result = make_result({"seconds": measured}, versions(PACKAGES), others, before)
  report("startup", result, table(("", "seconds", "least", "most", "times"), lines), record=args.record)


if __name__ == "__main__":
  main(sys.argv[1:])
