# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Checkpoints of a run: written in the background by Orbax, restored bit for bit, on the same mesh or any other.

A checkpoint is a folder `checkpoints/<step>` with the parts `parameters`, `ema` (where the run keeps an average),
`reference` (where the objective has a second model), `training` (optimizer and counters) and `extra` (JSON: format
version, data position, batch fingerprint, metrics).
Arrays are stored under dotted names only, so parameters can be read without knowing the optimizer: see
checkpoint_reading.py.

A checkpoint is written under a temporary name and renamed when it is complete; an old one is renamed first and deleted
afterwards. So a folder under its final name is always complete, whenever the process dies; later damage to its files is
found by their digests, on every read. In a bucket, where nothing can be renamed at once, a complete one has a file
commit_success.txt, which is written last.
"""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, EveryNSteps, LatestN, PreservationPolicy

from lmx.errors import LmxError, message
from lmx.exits import safe
from lmx.paths import absolute, any_path, in_bucket, remove_folder
from lmx.storage import cannot_write, disk_problem, free_bytes
from lmx.training.checkpoint_choice import (
  CheckpointWriteError,
  committed_steps,
  find_checkpoint,
  fix_of_disk,
  silence_repeated_disk_errors,
)
from lmx.training.checkpoint_digests import write_digests
from lmx.training.checkpoint_reading import FORMAT, read_extra, read_parts
from lmx.training.state import TrainState
from lmx.trees import named_leaves

ARRAYS = ("parameters", "ema", "reference", "training")
_TRASH = "deleting"
_RECOVERY_SECONDS = 30.0  # Between two saves to a bucket that fails; each waits for half a minute itself.
_PREFIXES = {"params.": "parameters", "ema.": "ema", "reference.": "reference"}


def _parts(named: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """A state's named leaves as {part of the checkpoint: {name in that part: leaf}}."""
  parts: dict[str, dict[str, Any]] = {}
  for name, leaf in named.items():
    part, key = next(
      ((p, name.removeprefix(x)) for x, p in _PREFIXES.items() if name.startswith(x)), ("training", name)
    )
    parts.setdefault(part, {})[key] = leaf
  return parts


def _registry() -> ocp.DefaultCheckpointHandlerRegistry:
  """Orbax's handlers of the parts. Arrays are not compressed: floats hardly shrink, and training needs the cores."""
  registry = ocp.DefaultCheckpointHandlerRegistry()
  for part in ARRAYS:
    handler = ocp.PyTreeCheckpointHandler(use_compression=False)
    registry.add(part, ocp.args.PyTreeSave, handler)
    registry.add(part, ocp.args.PyTreeRestore, handler)
  json_handler = ocp.JsonCheckpointHandler()
  registry.add("extra", ocp.args.JsonSave, json_handler)
  registry.add("extra", ocp.args.JsonRestore, json_handler)
  return registry


def _as_loss(metrics: Mapping[str, float | None]) -> float:
  """The loss that "best" minimizes; infinite where it wasn't measured or is NaN."""
  value = metrics["best"]
  return float("inf") if value is None or value != value else float(value)


class Checkpointer:
  """The checkpoints of one run. With several processes, each has one and makes the same calls at the same steps."""

  def __init__(
    self,
    directory: str | Path,
    *,
    keep_last: int = 2,
    keep_every_steps: int | None = None,
    keep_best: bool = True,
    background: bool = True,
  ):
    """Opens `directory`, creates it if it is missing, and removes the leftovers of a killed process.

    Args:
      directory: the run's `checkpoints` folder.
      keep_last: newest checkpoints to keep, at least 1.
      keep_every_steps: checkpoints at multiples of this are kept forever; None: none are.
      keep_best: keep the one with the lowest validation loss.
      background: write while training continues; False: `save` returns when the checkpoint is complete.

    Raises:
      LmxError: `keep_last` is 0.
      CheckpointWriteError: the folder can't be created.
    """
    if keep_last < 1:
      raise LmxError(message("config.checkpoint.keep_last", got=keep_last, allowed="at least 1"))
    self.directory = absolute(any_path(directory))
    self._policies: list[PreservationPolicy] = [LatestN(keep_last)]
    if keep_every_steps is not None:
      self._policies.append(EveryNSteps(keep_every_steps))
    if keep_best:
      self._policies.append(BestN(get_metric_fn=_as_loss, reverse=True, n=1))
    self._background = background
    self._writing: int | None = None
    self._needed = 0  # Bytes that the last save takes on disk.
    self._closed = False  # After a failed save whose folder could not be opened again so far.
    self._failed_at = 0.0  # When the last save failed, on the monotonic clock.
    silence_repeated_disk_errors()
    with self._errors():
      self._manager = self._open()
      self._empty_trash()

  def _open(self) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
      self.directory,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=AnyPreservationPolicy(self._policies),
        best_fn=_as_loss,  # Makes Orbax write the metrics; only the policies decide which checkpoints are kept.
        best_mode="min",
        cleanup_tmp_directories=True,
        todelete_subdir=_TRASH,
        async_options=ocp.AsyncOptions(post_finalization_callback=self._before_commit),
      ),
      handler_registry=_registry(),
    )

  @contextlib.contextmanager
  def _errors(self) -> Iterator[None]:
    """Turns an error of the disk into a `CheckpointWriteError`, and drops the failed save."""
    try:
      yield
    except Exception as error:
      if disk_problem(error) is None:
        raise
      self._failed_at = time.monotonic()
      what = self.directory / (str(self._writing) if self._writing is not None else "")
      text = cannot_write(what, error, after=safe(), fix=fix_of_disk(self.directory))
      if hasattr(self, "_manager") and jax.process_count() == 1:  # A new one waits for all processes.
        self._start_over()
      raise CheckpointWriteError(text) from error

  def _start_over(self) -> None:
    """Reopens the folder after a failed save, which also removes the half-written checkpoint."""
    self._closed = True
    with contextlib.suppress(Exception):
      self._manager.close()
    with contextlib.suppress(Exception):  # The next save tries it again.
      self._reopen()

  def _reopen(self) -> None:
    if self._closed:
      self._manager = self._open()
      self._closed = False

  def _before_commit(self) -> None:
    """Called in the background when all is written, before the folder gets its final name."""
    self._empty_trash()
    if jax.process_index() == 0 and self._writing is not None:
      for folder in self.directory.glob(f"{self._writing}*"):
        if re.fullmatch(rf"{self._writing}(\..*)?", folder.name) and folder.is_dir():
          write_digests(folder)

  def check(self) -> None:
    """Raises what went wrong in the background, and doesn't wait.

    Raises:
      CheckpointWriteError: the last checkpoint could not be written.
    """
    with self._errors():
      if self._closed:
        return
      if jax.process_count() > 1:
        self._manager.check_for_errors()
      elif not self._manager.is_saving_in_progress():  # Orbax's own thread has taken the error; this returns at once.
        self._manager.wait_until_finished()

  def has_room(self) -> bool:
    """Whether a save that failed may succeed now: there is space, and a bucket has had some time to recover."""
    if in_bucket(self.directory):
      return time.monotonic() - self._failed_at > _RECOVERY_SECONDS
    return free_bytes(self.directory)[0] >= self._needed

  def save(self, step: int, state: TrainState, extra: Mapping[str, Any], *, loss: float | None = None) -> bool:
    """Copies the state to the host and writes it in the background; the state may be donated at once.

    Args:
      step: updates done, the value of `state.step` (an argument, so that the device isn't waited for).
      state: on any mesh.
      extra: JSON values: the data position, the batch fingerprint, metrics, whatever a resume needs.
      loss: validation loss, for `keep_best`; None where the run wasn't evaluated at this step.

    Returns:
      False, and writes nothing, if this step already has a checkpoint.

    Raises:
      CheckpointWriteError: this checkpoint can't be started, or the one before it could not be written.
    """
    with self._errors():
      if self.directory.is_dir() and step in self._manager.all_steps() and step in self.steps():
        return False
    arrays = {part: ocp.args.PyTreeSave(named) for part, named in _parts(named_leaves(state)).items()}
    record = {"format": FORMAT, "step": step, "loss": loss, "extra": dict(extra)}
    items = ocp.args.Composite(extra=ocp.args.JsonSave(record), **arrays)
    self._needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    self._save(step, items, loss)
    return True

  def _save(self, step: int, items: ocp.args.Composite, loss: float | None) -> None:
    with self._errors():
      self._reopen()
      self._manager.wait_until_finished()
      self._writing = step
      if not self.directory.is_dir():  # Deleted during the run.
        self.directory.mkdir(parents=True, exist_ok=True)
        self._manager.reload()
      self._manager.save(step, args=items, metrics={"best": loss}, force=True)
    if not self._background:
      self.wait()

  def save_parameters(self, parameters: Mapping[str, jax.Array], extra: Mapping[str, Any]) -> None:
    """Writes a checkpoint of step 0 with parameters only (an imported model), for a run to start from.

    Args:
      parameters: {dotted name: array}.
      extra: as in `save`.
    """
    record = {"format": FORMAT, "step": 0, "loss": None, "extra": dict(extra)}
    items = ocp.args.Composite(extra=ocp.args.JsonSave(record), parameters=ocp.args.PyTreeSave(dict(parameters)))
    self._save(0, items, None)

  def steps(self) -> list[int]:
    """Steps with a complete checkpoint, or one being written, ascending."""
    written = committed_steps(self.directory)
    return sorted({*written, *(step for step in self._manager.all_steps() if step == self._writing)})

  def latest(self) -> int | None:
    """The newest step with a checkpoint, or None."""
    return max(self.steps(), default=None)

  def restore(self, abstract: TrainState, step: int | None = None) -> tuple[TrainState, dict[str, Any]]:
    """(the state, the `extra` it was saved with), bit for bit.

    Args:
      abstract: the template from `training.state.abstract_state`, on any mesh, whose shardings the state gets.
      step: None for the newest.

    Raises:
      CheckpointDamageError: a file is not what was saved.
      LmxError: no such checkpoint, or one of another model, optimizer or format.
    """
    self.wait()
    folder = find_checkpoint(self.directory, step)
    extra = read_extra(self.directory, int(folder.name))
    parts = _parts(named_leaves(abstract))
    if not (folder / "training").exists():
      fix = f"train in another folder, with --config.checkpoint.start_from={self.directory.parent}"
      raise LmxError(f"{folder} contains parameters only (imported); no optimizer state to resume. Fix: {fix}")
    average_is_new = "ema" in parts and not (folder / "ema").exists()
    if average_is_new:  # The average starts at the parameters where the run did not keep one so far.
      del parts["ema"]
    restored = read_parts(folder, parts)
    if average_is_new:
      restored["ema"] = jax.tree.map(jnp.copy, restored["parameters"])
    prefixes = {part: prefix for prefix, part in _PREFIXES.items()} | {"training": ""}
    named = {prefixes[part] + name: leaf for part, leaves in restored.items() for name, leaf in leaves.items()}
    return jax.tree.unflatten(jax.tree.structure(abstract), [named[name] for name in named_leaves(abstract)]), extra

  def wait(self) -> None:
    """Returns when every checkpoint is complete on disk.

    Raises:
      CheckpointWriteError: the last one could not be written.
    """
    with self._errors():
      if not self._closed:
        self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for the last checkpoint, and ends Orbax's threads."""
    self.wait()
    self._manager.close()
    self._empty_trash()

  def __enter__(self) -> "Checkpointer":
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()

  def _empty_trash(self) -> None:
    """Deletes the old checkpoints that earlier saves renamed; called in the background, after each save.

    In a bucket, Orbax deletes them itself.
    """
    if jax.process_index() == 0 and not in_bucket(self.directory):
      remove_folder(self.directory / _TRASH)
