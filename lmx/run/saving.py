# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Saving during a run: failed saves are retried, and files deleted from the run's folder are written again."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from lmx.errors import LmxError
from lmx.exits import safe
from lmx.experiment.build import Experiment
from lmx.paths import may_pass
from lmx.storage import PATIENCE, patiently
from lmx.training.checkpoint import Checkpointer
from lmx.training.checkpoint_choice import CheckpointWriteError, committed_steps
from lmx.training.metrics import MetricsWriter
from lmx.training.run_directory import CHECKPOINT_DIR, keep_run_folder
from lmx.training.run_lock import RunLock
from lmx.training.state import TrainState


def safe_step(x: Experiment) -> str:
  """The step that the run would resume from, as a sentence."""
  steps = committed_steps(x.run_dir / CHECKPOINT_DIR)
  return f"The run is safe up to step {max(steps)}." if steps else "The run has no checkpoint yet."


class RunSaver:
  """The saves of one call of `train`.

  A failed save is retried at every step in a run of one process only. With several, it ends the run with exit code
  74 in all of them, and the same command resumes: inside a save, Orbax's processes wait for each other at barriers (the
  folder is made, all have written, the first has committed), each with the time limit of the whole save. A process that
  fails never reaches the next barrier, so the others wait there for minutes, some of them in the thread that trains,
  and Orbax offers no way to call them back. An agreement to save again could only be reached after that.

  Attributes:
    saved_at: the step that was saved last, as far as is known; -1 where nothing was, or the last save failed.
  """

  def __init__(
    self,
    x: Experiment,
    checkpointer: Checkpointer,
    writer: MetricsWriter | None,
    lock: RunLock | None,
    say: Callable[[str], None],
  ):
    self._x, self._checkpointer, self._writer, self._lock, self._say = x, checkpointer, writer, lock, say
    self._failed: CheckpointWriteError | None = None  # The last save, where it could not be written.
    self.saved_at = -1

  def failed_before(self) -> bool:
    """Whether the last save failed, as far as is known now, and there may be room for another."""
    with self._noting_failure():
      self._checkpointer.check()
    return self._failed is not None and self._checkpointer.has_room()

  def save(self, step: int, state: TrainState, extra: Mapping[str, Any], loss: float | None) -> None:
    """Restores the run folder's missing files, then starts to write a checkpoint in the background.

    Args:
      step: updates done.
      state: on the devices.
      extra: JSON values that a resume needs, as in `Checkpointer.save`.
      loss: the validation loss at this step, or None.

    Raises:
      WriteError: a missing file can't be written; with several processes, also: the last checkpoint failed.
    """
    self.keep_folder()
    self.saved_at = step
    with self._noting_failure():
      self._checkpointer.save(step, state, extra, loss=loss)
      if self._failed is not None:
        self._checkpointer.wait()  # To know whether checkpoints can be written again.
        self._say(f"step {step:,} is saved: checkpoints can be written again")
      self._failed = None

  def make_sure(self, step: int, checkpoint: Callable[[], None]) -> None:
    """Returns when a step is saved, in a folder that can be loaded; calls `checkpoint` to save it.

    It is tried twice, and in a bucket that fails for a while, for some minutes.

    Raises:
      WriteError: it could not be written.
    """
    deadline = time.monotonic() + PATIENCE
    for attempt in itertools.count(1):
      if step > 0 and self.saved_at != step:
        checkpoint()
      with self._noting_failure():
        self._checkpointer.wait()
      self.keep_folder()
      if step == 0 or step in patiently(lambda: committed_steps(self._checkpointer.directory), self._x.run_dir):
        return
      self.saved_at = -1
      cause = self._failed.__cause__ if self._failed is not None else None
      if attempt > 1 and (cause is None or not may_pass(cause) or time.monotonic() > deadline):
        break
    raise self._failed or LmxError(f"{self._x.run_dir}: step {step} was saved, and its checkpoint is gone. {safe()}")

  def keep_folder(self) -> None:
    """Writes the missing files of the run's folder again and prints their names; in the first process only."""
    x = self._x
    if self._writer is not None:
      note = keep_run_folder(x.run_dir, x.config_json, x.tokenizer, x.labels, origin=x.saving.start_from,
                             metrics=self._writer, lock=self._lock)  # fmt: skip
      if note:
        self._say(note)

  @contextlib.contextmanager
  def _noting_failure(self) -> Iterator[None]:
    """Reports a failed checkpoint once, and marks it to be retried at the next step."""
    try:
      yield
    except CheckpointWriteError as error:
      if jax.process_count() > 1:  # See the docstring of this class.
        raise
      if self._failed is None:
        self._say(f"warning: {error} It is retried at every step.")
      self._failed, self.saved_at = error, -1
