# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Measures a run's held-out loss outside of its training loop; what `lmx evaluate` does once its flags are read."""

import functools
from collections.abc import Sequence

from ml_collections.config_dict import ConfigDict

from lmx.build import make_objective, read_text, run_model
from lmx.cli.given_config import run_config
from lmx.console import console
from lmx.data.corpus import make_eval_batches
from lmx.errors import LmxError
from lmx.evaluation.heldout import HeldOut, evaluate
from lmx.mesh import make_mesh, process_rows
from lmx.notebook import load
from lmx.sharding import Layout
from lmx.training.state import blueprint_of
from lmx.training.step import make_eval_step


def _mesh_sizes(config: ConfigDict) -> dict[str, int]:
  """The run's mesh where the devices here allow it, else a copy of the model on each."""
  try:
    make_mesh(dict(config.mesh))
    return dict(config.mesh)
  except LmxError:
    return {"data": -1}


def evaluate_run(run: str, step: int | None, sources: Sequence[str], max_rows: int | None) -> tuple[int, HeldOut]:
  """The step of the checkpoint that was taken, and its loss.

  Args:
    run: the run's folder.
    step: of the checkpoint; None: the last.
    sources: text to evaluate on, all of it; (): what the run held out.
    max_rows: rows spread evenly over the text; None: all of `sources`, or what the run's config says.
  """
  config = run_config(run)
  if sources:  # Nothing of the training text is needed then, which may be on another machine.
    config.data.sources = config.data.heldout_sources = tuple(sources)
    config.data.weights = ()
    config.evaluation.max_rows = None
  sizes = _mesh_sizes(config)
  loaded, layout = load(run, step, mesh=sizes), Layout(make_mesh(sizes))
  shards = layout.mesh.shape["data"] * layout.mesh.shape["fsdp"]
  rows = config.evaluation.batch_size or config.train.batch_size
  objective = make_objective(config)
  index, count = process_rows(layout.mesh)
  batches = make_eval_batches(
    read_text(config, loaded.tokenizer, console()),
    objective.prepare,
    lookahead=objective.lookahead,
    batch_size=-(-rows // shards) * shards,  # Rounded up to what the mesh divides; rows too many are padding.
    max_rows=max_rows or config.evaluation.max_rows,
    process_index=index,
    process_count=count,
  )
  plan = blueprint_of(loaded.model)
  eval_step = make_eval_step(functools.partial(run_model, objective), plan, layout)
  parameters = plan.split(loaded.model)
  result = evaluate(eval_step, parameters, batches, bytes_per_target=batches.bytes_per_target, mesh=layout.mesh)
  return loaded.step, result
