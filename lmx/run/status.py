# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Keeps status.json of a run while a command trains in it, whatever ends that command."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lmx.exits import DONE, SAVED, before_leaving, code_of
from lmx.parallel.processes import is_first_process
from lmx.training.status import FAILED, FINISHED, STOPPED, StatusFile, read_status


class RunStatus:
  """The loop's updates of status.json, which only the first process writes."""

  def __init__(self, file: StatusFile | None, total_steps: int):
    self._file, self._total = file, total_steps

  def trained(self, step: int, seconds: float) -> None:
    """Notes the steps that are done and the seconds of training."""
    if self._file is not None:
      self._file.running(step, self._total, seconds)

  def end(self, step: int, seconds: float, *, finished: bool, why: str) -> None:
    """Notes that the command ends well: the run has finished, or `why` stopped it and it was saved."""
    if self._file is not None:
      self._file.progress(step, self._total, seconds)
      self._file.end(FINISHED if finished else STOPPED, "" if finished else why, DONE if finished else SAVED)

  def goodput(self) -> str:
    """The number of starts and the goodput: the share of time spent in steps that no restart repeated; "" at first."""
    status = self._file.status if self._file is not None else None
    if status is None or status.starts < 2:
      return ""
    share = status.training_seconds / max(status.time - status.first_start, 1e-9)
    return f"start {status.starts} of this run; goodput {min(share, 1.0):.0%}: training time of all time since start 1"


@contextlib.contextmanager
def noting_status(run_dir: Path, total_steps: int) -> Iterator[RunStatus]:
  """Keeps a run's status.json: an error of the block, or an immediate end, is its last state.

  Args:
    run_dir: the run's folder, which is locked by this command.
    total_steps: of the run.
  """
  if not is_first_process():
    yield RunStatus(None, total_steps)
    return
  file, farewell = StatusFile(run_dir), f"status of {run_dir}"  # A command may train several runs.
  before_leaving(lambda code, text: file.end(FAILED if code < SAVED else STOPPED, _first_line(text), code), farewell)
  try:
    yield RunStatus(file, total_steps)
  except BaseException as error:
    file.end(FAILED, _first_line(str(error) or type(error).__name__), code_of(error))
    raise
  finally:
    before_leaving(None, farewell)


def note_finished(run_dir: Path, step: int, total_steps: int) -> None:
  """Writes the status of a finished run that has none: its last command was killed after its last checkpoint."""
  status = read_status(run_dir)
  if is_first_process() and (status is None or status.state != FINISHED):
    file = StatusFile(run_dir)
    file.progress(step, total_steps, file.status.training_seconds)
    file.end(FINISHED)


def _first_line(text: str) -> str:
  return text.strip().partition("\n")[0][:500]
