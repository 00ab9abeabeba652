# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What `lmx evaluate` does once its flags are read; apart from it, since it needs jax."""

from collections.abc import Sequence

from ml_collections.config_dict import ConfigDict

from lmx.api.loaded_run import load
from lmx.config.run_config import read_run_config
from lmx.errors import LmxError
from lmx.evaluation.heldout import HeldOut
from lmx.parallel.mesh import make_mesh


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
  config = read_run_config(run)
  loaded = load(run, step, mesh=_mesh_sizes(config))
  result = loaded.evaluate(
    sources=sources,
    max_rows=max_rows or (None if sources else config.evaluation.max_rows),
    batch_size=config.evaluation.batch_size or config.train.batch_size,
  )
  return loaded.step, result
