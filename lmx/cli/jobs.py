# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx jobs`: what became of launched jobs."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from lmx.console import console, print_table
from lmx.errors import LmxError, choose
from lmx.exits import DONE
from lmx.launch.backend import ALIVE
from lmx.launch.command import JobCommand
from lmx.launch.job import Job, all_jobs, jobs_dir, read_job
from lmx.launch.launching import BACKENDS
from lmx.training.status import read_status
from lmx.units import human_time

VERBS = ("list", "status", "logs", "stop")


def run(args: argparse.Namespace) -> int:
  choose("lmx jobs", args.verb, dict.fromkeys(VERBS))
  if args.verb == "list":
    return show_all()
  if args.name is None:
    raise LmxError(f"lmx jobs {args.verb}: which job? Fix: lmx jobs {args.verb} NAME; lmx jobs lists them.")
  job = read_job(args.name)
  backend = BACKENDS[job.on]
  if args.verb == "logs":
    log = backend.logs(job, args.follow)
    if isinstance(log, str):
      sys.stdout.write(log)
      return DONE
    return subprocess.run(log).returncode
  if args.verb == "stop":
    print(backend.stop(job))
    return DONE
  return show(job)


def show_all() -> int:
  """One line for each job."""
  jobs = all_jobs()
  if not jobs:
    print(f"no jobs in {jobs_dir()}")
    return DONE
  rows = [["job", "on", "state", "step", "ran", "cost"], *(_row(job) for job in jobs)]
  widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
  for row in rows:
    print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
  return DONE


def show(job: Job) -> int:
  """Everything about one job."""
  _, _, state, step, ran, cost = _row(job)
  changed = f" and {len(job.changed)} changed files" if job.changed else ""
  print_table(console(), f"{job.name} on {job.on}", {
    "state": state, "step": step or "not known here", "ran": ran, "cost so far": cost or "not known (--price)",
    "command": " ".join(["lmx", *job.words]), "code": f"commit {job.commit[:12]}{changed}", "folder": str(job.folder),
    "ids": " ".join(f"{key} {value}" for key, value in job.ids.items()) or "none",
  })  # fmt: skip
  return DONE


def _row(job: Job) -> list[str]:
  try:
    state = BACKENDS[job.on].state(job)
  except LmxError as error:
    state = f"unknown ({str(error)[:80]})"
  until = time.time() if state.startswith(ALIVE) else _last_sign(job)
  seconds, cost = job.seconds(until), job.cost(until)
  return [job.name, job.on, state, _step(job), human_time(seconds) if seconds else "",
          "" if cost is None else f"{cost:,.2f}"]  # fmt: skip


def _step(job: Job) -> str:
  """How far its run is, where its folder can be read from here."""
  workdir = JobCommand(job.words).workdir
  status = read_status(Path(job.cwd) / Path(workdir).expanduser()) if workdir and "://" not in workdir else None
  return f"{status.step}/{status.total_steps}" if status is not None else ""


def _last_sign(job: Job) -> float:
  """When a job that was killed was last heard of: the newest change of its logs, or its last event."""
  times = [event["time"] for event in job.events()] + [file.stat().st_mtime for file in job.folder.glob("log*")]
  return max(times, default=job.time)
