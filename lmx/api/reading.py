# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a loaded run consists of, read from its folder; only the parameters of its checkpoint are read."""

import os
from typing import Any

import jax
import jax.numpy as jnp

from lmx.config.run_config import IMPORTED_DIR, TOKENIZER_DIR, read_labels, read_run_config
from lmx.data.tokenizers.tokenizer import load_tokenizer
from lmx.errors import choose
from lmx.experiment.train_setup import model_maker, model_spec, objective_spec
from lmx.objectives.chat_template import find_template
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout
from lmx.paths import any_path, local_copy
from lmx.training.checkpoint_choice import find_checkpoint
from lmx.training.checkpoint_reading import restore_model
from lmx.training.run_directory import CHECKPOINT_DIR
from lmx.training.state import abstract_model

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}


def read_run(
  path: str | os.PathLike[str], step: int | None = None, *, mesh: dict[str, int] | None = None, dtype: str | None = None
) -> dict[str, Any]:
  """The attributes of the `LoadedRun` in a folder; arguments and errors are those of `lmx.load`."""
  cast = None if dtype is None else choose("dtype", dtype, DTYPES)
  run_dir = any_path(path, "run directory")
  config = read_run_config(run_dir)
  tokenizer = load_tokenizer(run_dir / TOKENIZER_DIR)
  labels = read_labels(run_dir) or tuple(config.objective.labels)
  # This machine may lack the kernel that the run was trained with; all kernels compute the same.
  config.compute.attention = "auto"
  config.compute.quantization = "none"  # It only speeds up training; the weights are float32.
  if "chat_template" in objective_spec(config).options:  # Runs of earlier versions have no template file.
    tokenizer.chat_template = find_template(tokenizer, None).source
  config.objective.chat_template = None  # It is stored with the tokenizer.
  make_model = model_maker(config, model_spec(config, tokenizer.vocab_size, len(labels)))
  checkpoints = run_dir / CHECKPOINT_DIR
  found = find_checkpoint(checkpoints, step)
  plan = abstract_model(make_model)
  layout = Layout(make_mesh({}, jax.local_devices()[:1]) if mesh is None else make_mesh(mesh))
  model = restore_model(checkpoints, plan.join(plan.template(layout)), int(found.name), dtype=cast)
  kept = run_dir / IMPORTED_DIR
  carried = local_copy(kept) if kept.is_dir() else None
  return {
    "model": model,
    "tokenizer": tokenizer,
    "config": config,
    "step": int(found.name),
    "layout": layout,
    "labels": labels,
    "folder": run_dir,
    "carried": carried,
  }
