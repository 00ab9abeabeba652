# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Pictures of tools.bench.scaling."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

COLORS = ("#1f6fb4", "#d1622b")  # Blue and orange, apart also for the colour-blind.
MARKERS = ("o", "s")
Summary = Mapping[str, Mapping[int, Mapping[str, float]]]


def frame(axes: Axes, sizes: Sequence[int], x: str, title: str) -> None:
  """Logarithmic axes with the sizes themselves as ticks."""
  axes.set_xscale("log", base=2)
  axes.set_yscale("log")
  axes.xaxis.set_major_locator(FixedLocator(list(sizes)))
  axes.xaxis.set_minor_locator(NullLocator())
  axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
  axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
  axes.yaxis.set_minor_locator(NullLocator())
  axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
  axes.grid(alpha=0.25, linewidth=0.6)
  axes.spines[["top", "right"]].set_visible(False)
  axes.set_xlabel(x)
  axes.set_title(title, fontsize=10, loc="left")


def draw_curves(axes: Axes, summary: Summary, key: str, scale: float) -> None:
  for (variant, sizes), color, marker in zip(summary.items(), COLORS, MARKERS, strict=False):
    values = [scale * one[key] for one in sizes.values()]
    axes.plot(list(sizes), values, color=color, marker=marker, markersize=4, linewidth=1.4, label=variant)


def draw_flops(axes: Axes, summary: Summary) -> None:
  """The slope that the model's FLOPs have, from the last point downwards."""
  variant = next(iter(summary.values()))
  last = list(variant.values())[-1]
  values = [1000 * last["step"] * one["flops"] / last["flops"] for one in variant.values()]
  axes.plot(list(variant), values, color="0.45", linestyle="--", linewidth=1, label="as the model's FLOPs")


PANELS = (
  ("layers", "make", 1, "trace, lower and compile, CPU s", "layers: making the step"),
  ("layers", "instructions", 1e-3, "thousand instructions", "layers: size of the program"),
  ("layers", "step", 1e3, "step, CPU ms", "layers: the step"),
  ("width", "step", 1e3, "step, CPU ms", "width: the step"),
  ("context", "step", 1e3, "step, CPU ms", "context: the step"),
  ("devices", "step", 1e3, "step, CPU ms of all devices", "devices: the same batch"),
)


def draw_steps(summaries: Mapping[str, Summary], path: Path) -> None:
  """Six panels over layers, width, context and simulated devices; those that were not measured stay out."""
  panels = [panel for panel in PANELS if panel[0] in summaries]
  columns = min(3, len(panels))
  figure = Figure(figsize=(3.9 * columns, 3.3 * -(-len(panels) // columns)), layout="constrained")
  every = figure.subplots(-(-len(panels) // columns), columns, squeeze=False).flat
  for axes, (name, key, scale, y, title) in zip(every, panels, strict=False):
    summary = summaries[name]
    sizes = list(next(iter(summary.values())))
    frame(axes, sizes, {"context": "tokens of context", "devices": "simulated devices"}.get(name, name), title)
    draw_curves(axes, summary, key, scale)
    if name == "devices":  # What stays the same is to look so.
      axes.set_yscale("linear")
      axes.set_ylim(0, 1.5 * axes.get_ylim()[1])
    elif key == "step":
      draw_flops(axes, summary)
    axes.set_ylabel(y)
    if len(summary) > 1 or key == "step":
      axes.legend(frameon=False, fontsize=8)
  figure.savefig(path, dpi=130)


# The parts of a plan, from the bottom; and what they are called in the picture.
PARTS = {"matmuls": "#1f6fb4", "bound by memory": "#8fbbdc", "attention": "#6a9f58", "waiting for links": "#d1622b"}


def draw_tpus(points: Sequence[Mapping[str, Any]], path: Path) -> None:
  """Compile time, and what a step is made of, over devices with the same work each."""
  figure = Figure(figsize=(8.6, 3.5), layout="constrained")
  left, right = figure.subplots(1, 2)
  names = [f"{point['devices']}" for point in points]
  for axes, title, y in ((left, "compiling the step", "CPU s"), (right, "the step, by the plan", "ms")):
    axes.grid(axis="y", alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("TPU v5e devices")
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10, loc="left")
  left.bar(names, [point["compile"]["cpu_seconds"] for point in points], color="0.55", width=0.55)
  base = [0.0] * len(points)
  for index, (label, color) in enumerate(PARTS.items()):
    values = [1000 * list(point["parts"].values())[index] for point in points]
    right.bar(names, values, bottom=base, color=color, width=0.55, label=label)
    base = [a + b for a, b in zip(base, values, strict=True)]
  right.set_ylim(0, 1.45 * max(base))
  right.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
  figure.savefig(path, dpi=130)
