# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""How loaded models show themselves in a notebook: a card of a run, and its model as a tree by treescope."""

import base64
import html
import sys
from collections.abc import Mapping
from typing import Any

from flax import nnx

from lmx.api.history import History, pairs_table
from lmx.evaluation.plots import VERTICAL, Plot, plot_curves
from lmx.trees import count, named_leaves
from lmx.units import human


def tree_html(model: Any) -> str:
  """A Flax module as a tree that unfolds, by treescope."""
  import treescope

  return treescope.render_to_html(model, compressed=False)


def show_models_as_trees() -> None:
  """In a notebook, lets a cell that ends in a Flax module show it as `tree_html` does; elsewhere does nothing."""
  ipython = sys.modules.get("IPython")
  shell = None if ipython is None else ipython.get_ipython()
  if shell is not None and shell.display_formatter is not None:
    shell.display_formatter.formatters["text/html"].for_type(nnx.Module, tree_html)


def main_quantity(history: History) -> str | None:
  """What to plot of a run: the first of `VERTICAL` that it has measured, on training or validation data; or None."""
  return next((y for y, (_, *keys, _) in VERTICAL.items() if any(history.column(key)[1] for key in keys)), None)


def plot_history(runs: Mapping[str, History], *, x: str, y: str | None, size: tuple[float, float] = (8, 4.5)) -> Plot:
  """The curves of runs; without a `y`, of what the first of them has measured."""
  chosen = y or main_quantity(next(iter(runs.values()))) or next(iter(VERTICAL))
  return plot_curves(runs, x=x, y=chosen, size=size)


def sizes(model: Any) -> str:
  """Such as "float32, 1.2M parameters, 4 layers of width 128, context 128"."""
  leaves = named_leaves(model)
  dtypes = "/".join(sorted({str(leaf.dtype) for leaf in leaves.values()}))
  spec = model.spec
  return (
    f"{human(count(leaves))} parameters in {dtypes}, {spec.layers} layers of width {spec.width}, context {spec.context}"
  )


def card(run: Any, history: History) -> str:
  """A loaded run as HTML: its name, sizes, step, validation loss and curve, with its model as a tree to unfold."""
  mesh = run.layout.mesh
  axes = ", ".join(f"{name}={size}" for name, size in mesh.shape.items() if size > 1)
  device = mesh.devices.flat[0].device_kind
  rows = {
    "folder": str(run.folder or ""),
    "model": f"{run.config.model.family}, {sizes(run.model)}",
    "objective": f"{run.config.objective.name}, head {run.model.spec.head}",
    "tokenizer": f"{run.tokenizer.name}, {run.tokenizer.vocab_size:,} ids",
    "labels": ", ".join(run.labels),
    "step": f"{run.step:,}",
    "device": f"{mesh.size} x {device} ({axes})" if axes else device,
  }
  for key in ("heldout_loss", "heldout_bits_per_byte", "heldout_accuracy"):
    value = history.last(key)
    rows[key.replace("heldout_", "validation ").replace("_", " ")] = "" if value is None else f"{value:.4f}"
  quantity = main_quantity(history)
  picture = ""
  if quantity is not None:
    png = base64.b64encode(plot_history({run.config.name: history}, x="steps", y=quantity, size=(6, 3))._repr_png_())
    picture = f'<img alt="{quantity}" style="max-width:32rem" src="data:image/png;base64,{png.decode()}">'
  table = pairs_table({name: value for name, value in rows.items() if value})
  tree = f"<details><summary>Modules and arrays</summary>{tree_html(run.model)}</details>"
  side = f'<div style="display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start"><div>{table}</div>{picture}</div>'
  return f"<h3>{html.escape(run.config.name)}</h3>{side}{tree}"
