# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Plots: loss curves of one or several runs, and the candidates of a plan search."""

import dataclasses
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from lmx.errors import LmxError, choose
from lmx.paths import any_path
from lmx.storage import patiently

# Horizontal axis: name -> (label, key of a metrics line).
HORIZONTAL = {
  "steps": ("optimizer steps", "step"),
  "tokens": ("training tokens", "tokens"),
  "time": ("seconds of training", "seconds"),
}
# Vertical axis: name -> (label, key of training lines, key of validation lines, corner of the legend).
VERTICAL = {
  "bits_per_byte": ("bits per byte", "bits_per_byte", "heldout_bits_per_byte", "upper right"),
  "loss": ("loss, nats per token", "loss", "heldout_loss", "upper right"),
  "accuracy": ("accuracy", "accuracy", "heldout_accuracy", "lower right"),
}


@dataclasses.dataclass(frozen=True)
class Curve:
  """Points of one quantity of one run."""

  x: list[float]
  y: list[float]


def curve(lines: Sequence[Mapping[str, Any]], x_key: str, y_key: str) -> Curve:
  """The (x, y) pairs of the metrics lines where both are finite; metrics.jsonl has null for non-finite numbers.

  Args:
    lines: of metrics.jsonl.
    x_key, y_key: keys of the lines.
  """
  pairs = [(line.get(x_key), line.get(y_key)) for line in lines]
  points = [(float(x), float(y)) for x, y in pairs if is_number(x) and is_number(y)]
  return Curve([p[0] for p in points], [p[1] for p in points])


def is_number(value: Any) -> TypeGuard[float]:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def smooth(values: Sequence[float]) -> list[float]:
  """The mean over a centered window of a fiftieth of the curve, narrower at the ends, so that it never lags."""
  total = [0.0, *itertools.accumulate(values)]
  reach = len(values) // 100
  out = []
  for index in range(len(values)):
    near = min(reach, index, len(values) - 1 - index)
    out.append((total[index + near + 1] - total[index - near]) / (2 * near + 1))
  return out


@dataclasses.dataclass(frozen=True, eq=False)
class Plot:
  """A figure that shows itself in a notebook, whichever backend matplotlib has there.

  Attributes:
    figure: the `matplotlib.figure.Figure`.
  """

  figure: Any

  def save(self, path: str | Path) -> Path:
    """Writes the figure as a PNG, on a disk or in a bucket; returns the path."""
    return _save(self.figure, path)

  def _repr_png_(self) -> bytes:
    out = io.BytesIO()
    self.figure.savefig(out, format="png")
    return out.getvalue()


def draw(
  runs: Mapping[str, Sequence[Mapping[str, Any]]],
  path: str | Path,
  *,
  x: str = "steps",
  y: str = "bits_per_byte",
  baselines: Mapping[str, float] | None = None,
) -> Path:
  """Plots the curves of runs as `plot_curves` does, and writes a PNG; returns its path."""
  return plot_curves(runs, x=x, y=y, baselines=baselines).save(path)


def plot_curves(
  runs: Mapping[str, Sequence[Mapping[str, Any]]],
  *,
  x: str = "steps",
  y: str = "bits_per_byte",
  baselines: Mapping[str, float] | None = None,
  size: tuple[float, float] = (8, 4.5),
) -> Plot:
  """Plots training (a smoothed line over faint raw values) and validation values (dots).

  Args:
    runs: name of each run -> its metrics lines.
    x: "steps", "tokens" or "time" (seconds).
    y: "bits_per_byte", "loss" (nats per token) or "accuracy".
    baselines: name -> value, drawn as dashed horizontal lines (xz, for example).
    size: inches.

  Raises:
    LmxError: no run has the quantity, or `x` or `y` is unknown.
  """
  from matplotlib.figure import Figure  # Not pyplot, whose backend is the user's.

  x_label, x_key = choose("--x", x, HORIZONTAL)
  y_label, train_key, heldout_key, corner = choose("--y", y, VERTICAL)
  curves = {name: (curve(lines, x_key, train_key), curve(lines, x_key, heldout_key)) for name, lines in runs.items()}
  if not any(train.x or heldout.x for train, heldout in curves.values()):
    raise LmxError(f"Nothing to plot: no run has {train_key!r} in its metrics.jsonl yet.")
  baselines = {name: value for name, value in (baselines or {}).items() if is_number(value)}
  figure = Figure(figsize=size, dpi=120, layout="constrained")
  axes = figure.subplots()
  for index, (name, (train, heldout)) in enumerate(curves.items()):
    color = f"C{index % 10}"
    if train.x:
      axes.plot(train.x, train.y, color=color, alpha=0.25, linewidth=0.8)
      axes.plot(train.x, smooth(train.y), color=color, linewidth=1.4, label=f"{name}, training")
    if heldout.x:
      axes.plot(heldout.x, heldout.y, "o-", color=color, markersize=4, linewidth=0.8, markeredgecolor="black",
                label=f"{name}, validation ({heldout.y[-1]:.3f})")  # fmt: skip
  for index, (name, value) in enumerate(baselines.items()):
    axes.axhline(value, color="0.4", linestyle=("--", ":", "-.")[index % 3], linewidth=1, label=f"{name} ({value:.3f})")
  _frame(axes, [c for pair in curves.values() for c in pair], baselines)
  axes.set_xlabel(x_label)
  axes.set_ylabel(y_label)
  axes.legend(fontsize="small", loc=corner)  # "best" searches all points and warns if that is slow.
  return Plot(figure)


def _save(figure: Any, path: str | Path, **options: Any) -> Path:
  """Writes a figure as a PNG, on a disk or in a bucket."""
  target, picture = any_path(path), io.BytesIO()
  figure.savefig(picture, format="png", **options)
  target.parent.mkdir(parents=True, exist_ok=True)
  patiently(lambda: target.write_bytes(picture.getvalue()), target)
  return target


def _frame(axes: Any, curves: Sequence[Curve], baselines: Mapping[str, float]) -> None:
  """Limits the vertical axis so that the high values at the start don't flatten the rest."""
  settled = [value for c in curves for value in c.y[len(c.y) // 10 :]] + list(baselines.values())
  low, high = min(settled), max(settled)
  margin = 0.05 * (high - low) or 0.1
  axes.set_ylim(low - margin, high + margin)
  axes.grid(alpha=0.25)
  for side in ("top", "right"):
    axes.spines[side].set_visible(False)


def draw_candidates(every: Sequence[Any], best: Sequence[Any], chip: Any, path: str | Path) -> Path:
  """Plots memory and step time of the candidates of a plan search, and writes a PNG.

  Args:
    every: all candidates, with estimated `bytes` per device and `step.likely` (seconds).
    best: the most promising ones, compiled where possible, the fastest first.
    chip: its memory is drawn as a line.
    path: of the PNG.

  Returns:
    The path.
  """
  from matplotlib.figure import Figure
  from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

  figure = Figure(figsize=(7, 4.5), layout="constrained")
  axes = figure.subplots()
  points = lambda of: ([one.bytes / 2**30 for one in of], [1000 * one.step.likely for one in of])  # noqa: E731
  axes.scatter(*points(every), s=12, color="0.75", label="estimated")
  compiled = [one for one in best if one.compiled and not one.problem]
  if compiled:
    axes.scatter(*points(compiled), s=30, color="tab:blue", label="compiled")
  axes.scatter(*points(best[:1]), s=90, facecolors="none", edgecolors="tab:red", label="fastest")
  axes.axvline(chip.hbm_bytes / 2**30, color="0.4", linestyle="--", linewidth=1, label=f"memory of one {chip.name}")
  axes.set(xlabel="GiB per device", ylabel="ms/step, estimated", yscale="log")
  axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7)))
  axes.yaxis.set_major_formatter(ScalarFormatter())
  axes.yaxis.set_minor_formatter(NullFormatter())
  figure.legend(
    loc="outside upper center", ncols=4, frameon=False, fontsize="small"
  )  # Points may be anywhere on the axes.
  return _save(figure, path, dpi=150)
