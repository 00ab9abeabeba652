# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Reading of checkpoints: a model or other parts of a state, on any mesh, without the run that wrote them.

Shardings come from the template that is passed, and never from the disk.
"""

import math
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from lmx.errors import LmxError, LmxWarning, message, nearest
from lmx.paths import absolute, any_path
from lmx.training.checkpoint_choice import check_or_offer, committed_steps, find_checkpoint
from lmx.training.checkpoint_digests import CheckpointDamageError, note_without_digests
from lmx.trees import named_leaves

CASTING_GB = 1  # Gigabytes read at once by a load that casts; Orbax waits for a larger array by itself.
FORMAT = 1  # Raised when a checkpoint's parts or names change so that an older lmx would misread it.


def best_step(directory: str | Path) -> int | None:
  """The step saved with the lowest validation loss, or None where no checkpoint was saved with one.

  Warns:
    LmxWarning: a checkpoint was passed over because the record with its loss is damaged.
  """
  losses = {}
  for step in committed_steps(directory):
    try:
      loss = _record(any_path(directory), step)["loss"]
    except CheckpointDamageError as error:
      warnings.warn(f"passed over checkpoint {error.folder}: {error.reason}", LmxWarning, stacklevel=2)
      continue
    if loss is not None and not math.isnan(loss):
      losses[step] = loss
  return min(losses, key=lambda step: losses[step]) if losses else None


def _record(directory: Path, step: int) -> dict[str, Any]:
  check_or_offer(absolute(directory) / str(step), ("extra",))
  record = ocp.JsonCheckpointHandler().restore(epath.Path(absolute(directory) / str(step) / "extra"))
  if record["format"] > FORMAT:
    raise LmxError(message(f"{directory}/{step}", got=record["format"], allowed=f"checkpoint format {FORMAT} or older",
                           fix="install the lmx that wrote it, or a newer one"))  # fmt: skip
  return record


def read_extra(directory: str | Path, step: int) -> dict[str, Any]:
  """The `extra` that was saved at a step."""
  return _record(any_path(directory), step)["extra"]


def restore_model(
  directory: str | Path,
  abstract_model: Any,
  step: int | None = None,
  *,
  part: str | None = None,
  dtype: Any = None,
) -> Any:
  """A model from a run's checkpoints; neither the optimizer nor the mesh it was trained with needs to be known.

  Args:
    directory: the run's `checkpoints` folder.
    abstract_model: the module (or {dotted name: ...}) with ShapeDtypeStructs for arrays, each with the sharding to
      restore onto, or None for the first device here.
    step: None for the newest.
    part: "parameters", "ema" for their average, or "reference" for the frozen second model of the run; None: the
      average if the run kept one, otherwise the parameters.
    dtype: to which every array is cast while it is read; None: the one it was saved with.

  Raises:
    CheckpointDamageError: a file is not what was saved.
    LmxError: no such checkpoint, or parameters of another model.

  Warns:
    LmxWarning: the checkpoint was written by an older lmx, without digests.
  """
  folder = find_checkpoint(directory, step)
  if note := note_without_digests(folder):
    warnings.warn(note, LmxWarning, stacklevel=2)
  wanted = named_leaves(abstract_model)
  if part is None:
    part = "ema" if (folder / "ema").exists() else "parameters"
  values = read_parts(folder, {part: wanted}, dtype=dtype)[part]
  return jax.tree.unflatten(jax.tree.structure(abstract_model), [values[name] for name in wanted])


def restore_shared(
  directory: str | Path, template: Mapping[str, jax.ShapeDtypeStruct], new: re.Pattern[str]
) -> tuple[dict[str, jax.Array], list[str]]:
  """The parameters that a model shares with the newest checkpoint of another run.

  Args:
    directory: the other run's `checkpoints` folder.
    template: {name: shape, dtype and sharding} of the model's parameters.
    new: matches the full names of the parameters that may be missing there, have another shape, or not be wanted.

  Returns:
    ({name: array}, names of the parameters that the checkpoint doesn't have).

  Raises:
    CheckpointDamageError: a file is not what was saved.
    LmxError: no checkpoint, or one of another model.
  """
  folder = find_checkpoint(directory)
  part = "ema" if (folder / "ema").exists() else "parameters"
  check_or_offer(folder, (part,))
  handler = ocp.PyTreeCheckpointHandler()
  saved = {name: tuple(leaf.shape) for name, leaf in handler.metadata(epath.Path(folder / part)).tree.items()}
  handler.close()
  missing = [name for name, leaf in template.items() if saved.get(name) != leaf.shape and new.fullmatch(name)]
  wanted = {name: leaf for name, leaf in template.items() if name not in missing}
  ignored = {name for name in saved if name not in wanted and new.fullmatch(name)}
  return read_parts(folder, {part: wanted}, ignored, fix=_FIX_START)[part], missing


def read_parts(
  folder: Path,
  parts: Mapping[str, Mapping[str, jax.ShapeDtypeStruct]],
  ignored: Collection[str] = (),
  fix: str | None = None,
  dtype: Any = None,
) -> dict[str, dict[str, jax.Array]]:
  """The arrays of some parts of a checkpoint, after a check of its digests and of every name, shape and dtype.

  Args:
    folder: the checkpoint's.
    parts: {part: {name: shape, dtype and sharding}}; without a sharding, an array is put on the first device here.
    ignored: saved names that are not read.
    fix: what to do about a checkpoint of another model or optimizer.
    dtype: to which every array is cast while it is read; None: the one it was saved with.

  Raises:
    CheckpointDamageError: a file is not what was saved.
    LmxError: arrays of another model or optimizer.
  """
  check_or_offer(folder, tuple(parts))
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  # A cast holds an array twice: with a bound on what is read at once, that stays far below the size of the model.
  handler = ocp.PyTreeCheckpointHandler(restore_concurrent_gb=None if dtype is None else CASTING_GB)
  arrays = {}
  for part, wanted in parts.items():
    saved = handler.metadata(epath.Path(folder / part)).tree
    _check_same(folder / part, {name: leaf for name, leaf in saved.items() if name not in ignored}, wanted, fix or _FIX)
    template = {
      name: jax.ShapeDtypeStruct(leaf.shape, dtype or leaf.dtype, sharding=leaf.sharding or here)
      for name, leaf in wanted.items()
    }
    restore_args = ocp.checkpoint_utils.construct_restore_args(template)
    arguments = ocp.args.PyTreeRestore(item=template, restore_args=restore_args, partial_restore=bool(ignored))
    arrays[part] = handler.restore(epath.Path(folder / part), args=arguments)
  handler.close()
  return arrays


def _check_same(where: Path, metadata: Any, wanted: Mapping[str, jax.ShapeDtypeStruct], fix: str) -> None:
  """Refuses a checkpoint of another model or optimizer, whose arrays Orbax would cast and crop silently."""
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


_FIX = " Fix: use the config that the run was started with (config.json in the run directory)."
_FIX_START = (
  " Fix: give the model that the run has; a config that takes a run does (lmx train --config=configs/classify.py:RUN)."
)
