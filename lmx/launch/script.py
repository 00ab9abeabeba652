# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Parts of the shell scripts that run a job where its folder can be read: this machine and Slurm."""

import shlex
import sys
from pathlib import Path

from lmx.launch.command import JobCommand
from lmx.launch.job import EVENTS_FILE, Job
from lmx.launch.source import CODE_DIR, ShippedCode

LICENCE = "# Written by lmx launch."


def environment(job: Job) -> str:
  """Lines that make the shipped code the one that runs, and define `note EVENT CODE`."""
  code, events = job.folder / CODE_DIR, job.folder / EVENTS_FILE
  return "\n".join([
    f"cd {shlex.quote(job.cwd)}",
    f"export PYTHONPATH={shlex.quote(str(code))} PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1",
    'note() { printf \'{"time": %s, "event": "%s", "key": "%s", "code": %s}\\n\' '
    f'"$(date +%s)" "$1" "$key" "$2" >> {shlex.quote(str(events))}; }}',
  ])  # fmt: skip


def lmx_words(job: Job, source: ShippedCode) -> str:
  """The job's command as shell text, with this Python and the shipped code's configs."""
  words = JobCommand(job.words).shipped(source, str(job.folder / CODE_DIR))
  return shlex.join([sys.executable, "-m", "lmx", *words])


def replace_code(job: Job, source: ShippedCode) -> None:
  """Writes the shipped code into the job's folder; the events and the log of earlier launches stay."""
  Path(job.folder).mkdir(parents=True, exist_ok=True)
  source.write_code(job.folder)
