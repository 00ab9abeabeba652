# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""status.json of a run folder: how far the run is, and why it stopped, for whoever watches from outside.

It appears complete or not at all, and is written at the start, at most once a second while the run trains (in a bucket
every ten seconds), and at the end of each command. A process that is killed leaves "running" behind: the run's lock
tells whether that is still true.
"""

import contextlib
import dataclasses
import json
import os
import socket
import time
from pathlib import Path

from lmx.exits import DONE
from lmx.paths import any_path, in_bucket, is_storage_error
from lmx.storage import write_atomically
from lmx.uploads import Upload

STATUS_FILE = "status.json"
STARTING, RUNNING, STOPPED, FINISHED, FAILED = "starting", "running", "stopped", "finished", "failed"
_EVERY = 1.0  # Seconds between two writes while a run trains.
_EVERY_IN_BUCKET = 10.0


@dataclasses.dataclass(frozen=True)
class Status:
  """The contents of status.json.

  Attributes:
    state: starting | running | stopped (saved; the same command resumes) | finished | failed.
    step: updates done.
    total_steps: of the whole run; 0 where that is not known yet.
    why: it stopped or failed; "" otherwise.
    exit_code: of the last command; None while it runs.
    time: of this record, in seconds since 1970.
    first_start: when the run's first command started.
    starts: commands so far.
    training_seconds: spent on the steps that count, compilation, evaluation and saving left out; steps that were lost
      with a killed process and done again count once.
    goodput: training_seconds over all seconds since the first start.
    host, process: of the last command.
  """

  state: str
  step: int = 0
  total_steps: int = 0
  why: str = ""
  exit_code: int | None = None
  time: float = 0.0
  first_start: float = 0.0
  starts: int = 0
  training_seconds: float = 0.0
  goodput: float = 0.0
  host: str = ""
  process: int = 0


def read_status(run_dir: str | os.PathLike[str]) -> Status | None:
  """The status of a run; None: it has none, from an older lmx, or it can't be read."""
  path = any_path(run_dir)
  try:
    values = json.loads((path / STATUS_FILE).read_text(encoding="utf-8"))
    names = {field.name for field in dataclasses.fields(Status)}
    return Status(**{name: value for name, value in values.items() if name in names})
  except Exception as error:
    if isinstance(error, ValueError | TypeError | AttributeError) or is_storage_error(error):
      return None
    raise


class StatusFile:
  """Writes status.json for one command. What can't be written is left out: the run itself reports a full disk."""

  def __init__(self, run_dir: Path, *, now: float | None = None):
    self._file = run_dir / STATUS_FILE
    self._upload = Upload(self._file, _EVERY_IN_BUCKET) if in_bucket(run_dir) else None
    began = time.time() if now is None else now
    before = read_status(run_dir)
    self.status = Status(
      STARTING, before.step if before else 0, before.total_steps if before else 0, time=began,
      first_start=before.first_start if before else began, starts=1 + (before.starts if before else 0),
      training_seconds=before.training_seconds if before else 0.0, host=socket.gethostname(), process=os.getpid(),
    )  # fmt: skip
    self._written = 0.0

  def running(self, step: int, total_steps: int, training_seconds: float) -> None:
    """Notes the progress, at most once a second."""
    if time.monotonic() - self._written >= _EVERY:
      self._write(state=RUNNING, step=step, total_steps=total_steps, training_seconds=training_seconds)

  def progress(self, step: int, total_steps: int, training_seconds: float) -> None:
    """Notes the progress for the next write."""
    self.status = dataclasses.replace(
      self.status, step=step, total_steps=total_steps, training_seconds=training_seconds
    )

  def end(self, state: str, why: str = "", exit_code: int = DONE) -> None:
    """Notes how the command ended."""
    self._write(state=state, why=why, exit_code=exit_code)
    if self._upload is not None:
      with contextlib.suppress(Exception):
        self._upload.close()

  def _write(self, **changes: object) -> None:
    now = time.time()
    status = dataclasses.replace(self.status, time=now, **changes)  # type: ignore[arg-type]
    since = now - status.first_start
    self.status = dataclasses.replace(status, goodput=min(1.0, status.training_seconds / since) if since > 0 else 0.0)
    self._written = time.monotonic()
    text = json.dumps(dataclasses.asdict(self.status), indent=1) + "\n"
    if self._upload is not None:
      self._upload.set(lambda: text)
      return
    with contextlib.suppress(OSError):
      self._file.parent.mkdir(parents=True, exist_ok=True)
      write_atomically(self._file, text)
