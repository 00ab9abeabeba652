# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Whether the arrays of a checkpoint are those of the model and the optimizer that they are read for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from lmx.errors import LmxError, nearest

FIX_CONFIG = " Fix: use the config that the run was started with (config.json in the run directory)."
FIX_START = (
  " Fix: give the model that the run has; a config that takes a run does (lmx train --config=configs/classify.py:RUN)."
)


def check_same_arrays(where: Path, metadata: Any, wanted: Mapping[str, jax.ShapeDtypeStruct], fix: str) -> None:
  """Orbax would cast and cut silently; a checkpoint of another model or optimizer is an error instead."""
  saved = {name: (tuple(leaf.shape), str(leaf.dtype)) for name, leaf in metadata.items()}
  asked = {name: (tuple(leaf.shape), str(leaf.dtype)) for name, leaf in wanted.items()}
  for name in [*asked, *saved]:
    if name not in saved:
      close = nearest(name, saved.keys() - asked.keys())
      raise LmxError(f"{where}: the checkpoint has no {name!r}." + (f" It has {close!r}." if close else "") + fix)
    if name not in asked:
      raise LmxError(f"{where}: the checkpoint has {name!r}, which this model or optimizer lacks.{fix}")
    if saved[name] != asked[name]:
      raise LmxError(f"{where}: {name} is {saved[name]} in the checkpoint and {asked[name]} here.{fix}")
