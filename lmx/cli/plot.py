# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The loss curves of one or many runs as one PNG.

lmx plot runs/cpu
lmx plot runs/* --x tokens --y loss --out compare.png
"""

import argparse
import importlib
from pathlib import Path

from lmx.errors import LmxError
from lmx.training.metrics import FILE, read_metrics


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("runs", nargs="+", metavar="RUN", help="the folders of runs")
  parser.add_argument("--out", metavar="FILE.png", help="the picture (default: RUN/loss.png, or ./runs.png for many)")
  parser.add_argument("--x", default="steps", help="steps, tokens or time (default: steps)")
  parser.add_argument("--y", default="bits_per_byte", help="bits_per_byte, loss or accuracy (default: bits_per_byte)")


def _names(folders: list[Path]) -> list[str]:
  """The last parts of the paths, or the whole paths where those don't tell the runs apart."""
  last = [folder.resolve().name for folder in folders]
  return last if len(set(last)) == len(last) else [str(folder) for folder in folders]


def _records(folder: Path) -> list[dict]:
  """The run's metrics without the numbers that were not finite."""
  if not (folder / FILE).exists():
    raise LmxError(f"{folder}: no {FILE} there. Fix: the folder of a run, such as runs/cpu.")
  return [{key: value for key, value in record.items() if value is not None} for record in read_metrics(folder)]


def run(args: argparse.Namespace) -> int:
  folders = [Path(run).expanduser() for run in dict.fromkeys(args.runs)]
  runs = dict(zip(_names(folders), map(_records, folders), strict=True))
  out = Path(args.out) if args.out else folders[0] / "loss.png" if len(folders) == 1 else Path("runs.png")
  if out.suffix.lower() != ".png":
    raise LmxError(f"--out: got {str(out)!r}. Allowed: a name that ends in .png.")
  out.parent.mkdir(parents=True, exist_ok=True)
  plots = importlib.import_module("lmx.evaluation.plots")  # Brings matplotlib.
  print(plots.draw(runs, out, x=args.x, y=args.y))
  return 0
