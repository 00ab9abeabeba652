# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The config of a run directory, read back or copied into a config that starts from that run. Imports no jax."""

import json
import os
from pathlib import Path
from typing import Any

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import base_config, from_json
from lmx.errors import LmxError, message
from lmx.paths import any_path

CONFIG_FILE, TOKENIZER_DIR, LABELS_FILE = "config.json", "tokenizer", "labels.json"
RESTORE = " Fix: restore it from a copy; lmx wrote it, and does not change it afterwards."
IMPORTED_DIR = "huggingface"  # The small files of the model that a run was imported from.


def read_written(file: Path, *keys: str) -> Any:
  """The contents of a small JSON file that lmx wrote.

  Args:
    file: where.
    keys: that the object in it must have; none: it may be any value.

  Raises:
    LmxError: the file is damaged.
  """
  try:
    value = json.loads(file.read_text(encoding="utf-8"))
  except (ValueError, RecursionError) as error:
    raise LmxError(f"{file} is damaged: {error}.{RESTORE}") from error
  missing = [key for key in keys if not isinstance(value, dict) or key not in value]
  if missing:
    raise LmxError(f"{file} is damaged: it has no {' and no '.join(missing)}.{RESTORE}")
  return value


def read_run_config(run: str | os.PathLike[str]) -> ConfigDict:
  """The config that a run was started with.

  Raises:
    LmxError: not a run, or one that this version of lmx can't read.
  """
  file = any_path(run, "run directory") / CONFIG_FILE
  if not file.is_file():
    near = [str(p.parent) for p in sorted(Path("runs").glob(f"*/{CONFIG_FILE}"))]
    allowed = near or f"a folder that holds {CONFIG_FILE}; lmx train and lmx import make them"
    raise LmxError(message("run directory", got=str(run), allowed=allowed))
  try:
    return from_json(file.read_text(encoding="utf-8"))
  except (UnicodeDecodeError, LmxError) as error:
    raise LmxError(f"{file}: {error}{'.' + RESTORE if isinstance(error, UnicodeDecodeError) else ''}") from error


def start_from(config: ConfigDict, run: str | os.PathLike[str]) -> ConfigDict:
  """Makes a config start from a run: its parameters, model and tokenizer. For config files; returns the config.

  What a fine-tune may want otherwise (dropout, pooling, the length of rows) can be set after it.

  Raises:
    LmxError: as `read_run_config`.
  """
  other = read_run_config(run)
  for key, value in other.model.items():
    config.model[key] = value
  for key in ("tokenizer", "compute"):
    config[key] = other[key]
  if config.tokenizer.framing == "own":
    config.tokenizer.framing = "auto"  # An imported model's: the objective at hand may read documents.
  config.tokenizer.kind = _saved_kind(any_path(run) / TOKENIZER_DIR, other.tokenizer.kind)
  config.tokenizer.path = None if config.tokenizer.kind == "bytes" else os.path.join(run, TOKENIZER_DIR)
  config.checkpoint.start_from = str(run)
  return config


def fine_tuning(run: str, family: str) -> ConfigDict:
  """The base config for a fine-tune: it starts from a run, or without one trains a small model, to see the task work.

  What most fine-tunes share is set: a rate that falls linearly to zero, an evaluation and a checkpoint each epoch.

  Args:
    run: the run's folder; "": a small model from scratch.
    family: of the small model: encoder | transformer.

  Raises:
    LmxError: as `read_run_config`.
  """
  config = base_config()
  if run:
    start_from(config, run)
  else:
    model = config.model
    model.family, model.position, model.layers, model.width, model.heads = family, "rotary", 4, 256, 4
    if family == "encoder":
      modern_encoder(config)
    else:
      model.norm, model.activation, model.context = "rmsnorm", "swiglu", 512
      model.norm_bias = model.attention_bias = model.mlp_bias = False
    config.compute.dtype = "float32"
    config.tokenizer.vocab_size = 8000
  config.optimizer.schedule, config.optimizer.final_lr_ratio, config.optimizer.warmup = "linear", 0.0, "10%"
  config.evaluation.every = config.checkpoint.every = "1 epochs"
  return config


def modern_encoder(config: ConfigDict) -> ConfigDict:
  """Gives a config the parts of ModernBERT (https://arxiv.org/abs/2412.13663), whose format its exports have.

  Sizes stay as they are, and every layer attends to the full row. Returns the config.
  """
  model = config.model
  model.family, model.position, model.activation = "encoder", "rotary", "geglu_exact"
  model.norm_position, model.embedding_norm, model.first_attention_norm = "pre", True, False
  model.norm_bias = model.attention_bias = model.mlp_bias = model.transform_bias = False
  model.head_transform, model.pooling = True, "mean"
  return config


def labels_of(run: str, objective: str) -> tuple[str, ...]:
  """The labels of a run that was trained for an objective, in the order of its head's scores; () where it has none.

  Args:
    run: the run's folder; "": none.
    objective: classification | tagging; the labels of a run with another mean something else.
  """
  if not run:
    return ()
  other = read_run_config(run).objective
  return (read_labels(any_path(run)) or tuple(other.labels)) if other.name == objective else ()


def _saved_kind(directory: Path, otherwise: str) -> str:
  file = directory / "lmx_tokenizer.json"
  return read_written(file, "kind")["kind"] if file.is_file() else otherwise


def read_vocab_size(run: str | os.PathLike[str]) -> int:
  """How many ids the tokenizer in a run directory has.

  Raises:
    LmxError: its description is damaged.
  """
  file = any_path(run) / TOKENIZER_DIR / "lmx_tokenizer.json"
  size = read_written(file, "vocab_size")["vocab_size"]
  if not isinstance(size, int):
    raise LmxError(f"{file} is damaged: vocab_size is {size!r}.{RESTORE}")
  return size


def read_labels(run: Path) -> tuple[str, ...] | None:
  """The labels that a run found in its data, or None where it hasn't written any.

  Raises:
    LmxError: the file that holds them is damaged.
  """
  file = run / LABELS_FILE
  if not file.is_file():
    return None
  labels = read_written(file)
  if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
    raise LmxError(f"{file} is damaged: it is no list of texts.{RESTORE}")
  return tuple(labels)
