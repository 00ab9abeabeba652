# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx plot`: the loss curves of one or several runs as a PNG."""

import argparse
from pathlib import Path

from lmx.errors import LmxError, message
from lmx.evaluation.plots import draw
from lmx.paths import any_path, in_bucket
from lmx.training.metrics import FILE, read_metrics


def run(args: argparse.Namespace) -> int:
  """Draws the picture and prints its path."""
  folders = [any_path(run, "RUN") for run in dict.fromkeys(args.runs)]
  runs = dict(zip(_names(folders), map(_records, folders), strict=True))
  out = any_path(args.out, "--out") if args.out else folders[0] / "loss.png" if len(folders) == 1 else Path("runs.png")
  if out.suffix.lower() != ".png":
    raise LmxError(message("--out", got=str(out), allowed="a file name that ends in .png"))
  print(draw(runs, out, x=args.x, y=args.y))
  return 0


def _names(folders: list[Path]) -> list[str]:
  """The last part of each path, or the complete paths where two runs would share a name."""
  last = [folder.name if in_bucket(folder) else folder.resolve().name for folder in folders]
  return last if len(set(last)) == len(last) else [str(folder) for folder in folders]


def _records(folder: Path) -> list[dict]:
  """The run's metrics without non-finite numbers."""
  if not (folder / FILE).exists():
    raise LmxError(f"{folder}: no {FILE} there. Fix: pass the folder of a run, such as runs/cpu.")
  return [{key: value for key, value in record.items() if value is not None} for record in read_metrics(folder)]
