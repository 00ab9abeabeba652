# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Launching: from the flags of `lmx launch` to a job, and from a job to its backend."""

import dataclasses
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lmx.errors import LmxError
from lmx.launch.backend import ALIVE, Backend
from lmx.launch.command import JobCommand, job_name, read_secrets
from lmx.launch.gke import Gke
from lmx.launch.job import JOB_FILE, Job, jobs_dir, parse_duration, read_job
from lmx.launch.local import Local
from lmx.launch.machines import read_topology
from lmx.launch.sky import Sky
from lmx.launch.slurm import Slurm
from lmx.launch.source import ShippedCode
from lmx.launch.tpu import Tpu

BACKENDS: dict[str, Backend] = {"local": Local(), "slurm": Slurm(), "tpu": Tpu(), "gke": Gke(), "sky": Sky()}
# Flags of some backends only, with what they are where they are left out.
DEFAULTS: dict[str, Any] = {
  "nodes": 1, "tasks_per_node": 1, "array": None, "topology": None, "zone": None, "project": None, "capacity": "spot",
  "runtime": None, "cluster": None,
}  # fmt: skip
DEFAULT_RESTARTS = 20
_EVERYWHERE = ("time", "restarts", "engine")  # But on this machine, which knows none of them.


def new_job(
  on: str, words: Sequence[str], given: Mapping[str, Any], source: ShippedCode, *, name: str | None = None,
  hidden: Sequence[str] = (), price: float | None = None,
) -> Job:  # fmt: skip
  """The job of a command line, checked; nothing is started or written.

  Args:
    on: of `BACKENDS`.
    words: of the lmx command.
    given: flags of backends, None where they weren't given; `time` as text.
    source: the code to ship.
    name: of the job.
    hidden: names of the variables that hold secrets.
    price: per device-hour.

  Raises:
    LmxError: something doesn't fit.
  """
  command, backend = JobCommand(words), BACKENDS[on]
  allowed = backend.flags if on == "local" else (*backend.flags, *_EVERYWHERE)
  for flag, value in given.items():
    shown = f"--{flag.replace('_', '-')}"
    if value not in (None, []) and flag not in allowed:
      raise LmxError(f"{shown}: --on={on} has no use for it. Fix: leave it out.")
    if value is None and flag in backend.needs:
      raise LmxError(f"{shown}: --on={on} needs it. Fix: lmx launch --help")
  read_secrets(hidden, words)
  settings = {key: DEFAULTS[key] if given[key] is None else given[key] for key in DEFAULTS}
  settings["time"] = parse_duration("--time", given["time"]) if given["time"] else None
  settings |= {"restarts": DEFAULT_RESTARTS if given["restarts"] is None else given["restarts"]}
  settings |= {"engine": list(given["engine"])}
  topology = settings["topology"]
  devices = read_topology(topology, on, gpus=True).size if topology else settings["nodes"] * settings["tasks_per_node"]
  job = Job(
    job_name(name, command), on, command.words, os.getcwd(), source.commit, source.tree, list(source.changed),
    list(source.untracked), settings, list(hidden), price, devices, secrets.token_hex(4), time.time(),
  )  # fmt: skip
  backend.check(job)
  command.shipped(source, ".")
  return job


def launch(job: Job, source: ShippedCode) -> int:
  """Starts a job, and returns the exit code of `lmx launch`.

  Raises:
    LmxError: a job of its name is alive elsewhere, or the engine refuses.
  """
  if (job.folder / JOB_FILE).is_file():
    old = read_job(job.name)
    if old.on == job.on == "tpu":
      job = dataclasses.replace(job, launch=old.launch)  # What a killed `lmx launch` has left is taken up.
    elif BACKENDS[old.on].state(old).startswith(ALIVE):
      raise LmxError(f"--name={job.name}: this job is alive, on {old.on}. Fix: lmx jobs stop {job.name}, or "
                     f"--name={job.name}-2")  # fmt: skip
  elif job.folder.exists() and any(job.folder.iterdir()):
    raise LmxError(f"{job.folder} is not empty and holds no job. Fix: --name={job.name}-2, or LMX_JOBS={jobs_dir()}2")
  job.save()
  return BACKENDS[job.on].start(job, source)
