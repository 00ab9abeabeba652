# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx.load`: loads a run on the devices of this machine."""

import os

from lmx.api.display import show_models_as_trees
from lmx.api.loaded_run import LoadedRun
from lmx.api.reading import read_run


def load(
  path: str | os.PathLike, step: int | None = None, *, mesh: dict[str, int] | None = None, dtype: str | None = None
) -> LoadedRun:
  """Loads a finished or running run: model, tokenizer and config. Only the parameters of its checkpoint are read.

  Args:
    path: folder of the run, such as "runs/cpu" or "gs://bucket/run".
    step: checkpoint to load; None: the newest complete one. The EMA of the parameters is loaded if the run kept one.
    mesh: number of devices along each axis to shard the model over ({"fsdp": 4}); None: the first device. It has
      nothing to do with the mesh of the training.
    dtype: "bfloat16", "float16" or "float32": cast every parameter to it while it is read; None: as it was saved,
      float32. In a notebook with little memory, bfloat16 takes half of it.

  Returns:
    The loaded model, ready to use.

  Raises:
    LmxError: not a run, no complete checkpoint, or one that this version of lmx can't read.

  Examples:
    >>> import lmx
    >>> run = lmx.load("runs/cpu")
    >>> run.config.name, run.model.spec.head
    ('cpu', 'language')
  """
  show_models_as_trees()
  return LoadedRun(**read_run(path, step, mesh=mesh, dtype=dtype))
