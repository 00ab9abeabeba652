# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Runs with LoRA adapters on small models of every family, as training leaves them, without the training."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from golden_models import GOLDEN
from hf_folders import change_weights, copy

import lmx
from lmx.api.loaded_run import LoadedRun
from lmx.config.loading import from_json, to_json
from lmx.experiment.train_setup import model_maker
from lmx.nn.layers.lora import NAMES
from lmx.training.state import abstract_model, abstract_model_of


def base_of(name: str, folder: Path, **changes: Any) -> Path:
  """A golden model's directory in float32, with a word-level tokenizer."""
  copy(GOLDEN / name, folder, framed="<s> $A </s>", pad=int(name.startswith("roberta")), **changes)
  change_weights(folder, lambda arrays: {key: np.asarray(array, np.float32) for key, array in arrays.items()})
  return folder


def adapted(
  base: Path, *, head: str | None = None, labels: tuple[str, ...] = (), changed: str = "", **lora: Any
) -> LoadedRun:
  """A run that started from a directory, with random adapters.

  Args:
    base: the directory.
    head, labels: as in `lmx.from_hf`.
    changed: regex of the parameters that training changed as well.
    **lora: keys of config.lora.
  """
  run = lmx.from_hf(base, head=head, labels=labels)
  config = from_json(to_json(run.config))
  for key, value in {"rank": 2, "alpha": 3.0, **lora}.items():
    config.lora[key] = value
  plan = abstract_model(model_maker(config, run.model.spec))
  random, arrays = np.random.default_rng(0), abstract_model_of(run.model).split(run.model)
  for name, shape in plan.shapes.items():
    noise = jnp.asarray(random.normal(0, 0.3, shape.shape), jnp.float32)
    if NAMES.fullmatch(name):
      arrays[name] = noise
    elif re.fullmatch(changed, name):
      arrays[name] = arrays[name] + noise
  return dataclasses.replace(run, model=plan.join(arrays), config=config, carried=None)
