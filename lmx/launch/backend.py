# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What every place that jobs run at can do."""

from collections.abc import Sequence
from typing import Protocol

from lmx.errors import LmxError
from lmx.exits import DONE
from lmx.launch.engine import Action, Call, answer, write_all
from lmx.launch.job import Job
from lmx.launch.source import ShippedCode

# States of jobs, in the words of `lmx jobs`; an engine's own state follows in brackets where it says more.
WAITING, RUNNING, FINISHED, STOPPED, FAILED, UNKNOWN = "waiting", "running", "finished", "stopped", "failed", "unknown"
ALIVE = (WAITING, RUNNING)


class Backend(Protocol):
  """A translation into one engine's words.

  Attributes:
    flags: settings that it takes, besides those that all take.
    needs: settings that it can't do without.
  """

  flags: tuple[str, ...]
  needs: tuple[str, ...]

  def check(self, job: Job) -> None:
    """Raises LmxError for settings and commands that this engine can't run."""

  def actions(self, job: Job, source: ShippedCode) -> Sequence[Action]:
    """Every file and command of a launch, in order; nothing is done."""

  def start(self, job: Job, source: ShippedCode) -> int:
    """Launches the job, and returns the exit code of `lmx launch`."""

  def state(self, job: Job) -> str:
    """How far the job is; a word of the above first."""

  def logs(self, job: Job, follow: bool) -> list[str] | str:
    """A command that prints the log, or its text."""

  def stop(self, job: Job) -> str:
    """Ends the job, so that it saves where it can and nothing is left behind; returns what was done."""


def needs_bucket(job: Job) -> None:
  """Raises LmxError where the run's folder would be lost with the machine."""
  workdir = next((word for word in job.words if word.startswith("--workdir=")), "--workdir=")
  if not workdir.startswith("--workdir=gs://"):
    raise LmxError(
      f"{workdir}: --on={job.on} loses local folders with its machines. Fix: --workdir=gs://BUCKET/{job.name}"
    )


def submit(job: Job, source: ShippedCode, actions: Sequence[Action]) -> int:
  """Writes the code and the files of a job, and hands it to its engine, which runs it from then on.

  Args:
    job: new.
    source: the code to ship.
    actions: files to write and commands to run, in order.

  Raises:
    LmxError: a command failed; with its own message.
  """
  source.write_code(job.folder)
  write_all(actions)
  job.save()
  for action in actions:
    if isinstance(action, Call):
      answer(action.words)
  return DONE
