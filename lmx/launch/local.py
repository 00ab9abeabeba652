# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Jobs on this machine: one process in the background, which outlives the terminal."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lmx.exits import DONE, SAVED, SIGNALLED
from lmx.launch.backend import FAILED, FINISHED, RUNNING, STOPPED, UNKNOWN
from lmx.launch.engine import Action, Call, Write, write_all
from lmx.launch.job import END, START, Job
from lmx.launch.script import LICENCE, environment, lmx_words, replace_code
from lmx.launch.source import ShippedCode

# With -m, the script leads a process group of its own, which gets the signals; and its parent is nobody here.
_IN_BACKGROUND = 'set -m; bash "$0" >> "$1" 2>&1 & echo $!'


class Local:
  """A `Backend`; the process sees this environment, so that secrets need no way of their own."""

  flags: tuple[str, ...] = ()
  needs: tuple[str, ...] = ()

  def check(self, job: Job) -> None:
    pass

  def actions(self, job: Job, source: ShippedCode) -> Sequence[Action]:
    # The trap makes bash outlive a SIGTERM, which the command itself receives too: it saves, and its code is noted.
    script = "\n".join([
      "#!/bin/bash", LICENCE, environment(job), "key=0", "trap : TERM", f"note {START} null", lmx_words(job, source),
      "code=$?", f"note {END} $code", "exit $code", "",
    ])  # fmt: skip
    return [Write(self._script(job), script), Call(["bash", str(self._script(job))], "in the background")]

  def start(self, job: Job, source: ShippedCode) -> int:
    replace_code(job, source)
    write_all(self.actions(job, source))
    started = subprocess.run(
      ["bash", "-c", _IN_BACKGROUND, str(self._script(job)), str(job.log)],
      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True, start_new_session=True,
    )  # fmt: skip
    job.ids["process"] = int(started.stdout)
    job.save()
    return DONE

  def state(self, job: Job) -> str:
    if self._is_alive(job):
      return RUNNING
    return ended(job)

  def logs(self, job: Job, follow: bool) -> list[str] | str:
    return log_command([job.log], follow)

  def stop(self, job: Job) -> str:
    if not self._is_alive(job):
      return "nothing runs"
    os.killpg(job.ids["process"], signal.SIGTERM)
    return "SIGTERM sent: it saves and stops"

  def _script(self, job: Job) -> Path:
    return job.folder / "run.sh"

  def _is_alive(self, job: Job) -> bool:
    """Whether the job's script runs; a number of a process that was given to another one is told apart by its words."""
    process = job.ids.get("process")
    found = subprocess.run(
      ["ps", "-ww", "-o", "stat=", "-o", "args=", "-p", str(process)], capture_output=True, text=True
    ).stdout
    return process is not None and str(self._script(job)) in found and not found.startswith("Z")


def ended(job: Job) -> str:
  """How a job ended that runs no more, by the last code that each of its scripts noted."""
  codes: dict[str, object] = {}
  for event in job.events():
    if event["event"] in (START, END):
      codes[str(event.get("key"))] = event.get("code")  # null at a start.
  if not codes:
    return UNKNOWN
  if None in codes.values():
    return f"{UNKNOWN} (killed)"
  bad = [code for code in codes.values() if code != DONE]
  if not bad:
    return FINISHED
  if all(code in (SAVED, SIGNALLED + signal.SIGTERM, SIGNALLED + signal.SIGINT) for code in bad):
    return STOPPED
  return f"{FAILED} (exit code {bad[-1]})"


def log_command(files: Sequence[Path], follow: bool) -> list[str] | str:
  """A command that prints log files; a text where there are none yet."""
  there = [str(file) for file in files if file.exists()]
  if not there:
    return "no log yet\n"
  return ["tail", "-n", "+1", *(["-F"] if follow else []), *there]
