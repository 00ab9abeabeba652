# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A job's folder: what was launched, where, with which code, and what became of it.

job.json       what was launched
events.jsonl   when it ran, one line at each start and end
code/          the shipped code (local, slurm); code.tar.gz where it is sent elsewhere
log            what it printed (local, slurm)
"""

import dataclasses
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmx.config.run_config import read_written
from lmx.errors import LmxError, choose, message
from lmx.storage import write_atomically
from lmx.units import human_time

JOB_FILE, EVENTS_FILE, LOG_FILE = "job.json", "events.jsonl", "log"
START, END = "start", "end"
_DURATION = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def jobs_dir() -> Path:
  """Where the folders of jobs are: $LMX_JOBS, or ~/.lmx/jobs."""
  return Path(os.environ.get("LMX_JOBS") or "~/.lmx/jobs").expanduser()


def parse_duration(flag: str, text: str) -> int:
  """Seconds of "90m", "12h", "1d12h".

  Raises:
    LmxError: not a duration.
  """
  parts = _DURATION.findall(text)
  seconds = sum(int(number) * _UNITS[unit] for number, unit in parts)
  if "".join(number + unit for number, unit in parts) != text or not seconds:
    raise LmxError(message(flag, got=text, allowed="such as 90m, 12h, 1d12h", fix=f"{flag}=12h"))
  return seconds


@dataclasses.dataclass(frozen=True)
class Job:
  """What was launched.

  Attributes:
    name: of the job and its folder.
    on: local | slurm | tpu | gke | sky.
    words: of the lmx command.
    cwd: where `lmx launch` ran.
    commit, tree, changed, untracked: of the shipped code.
    settings: flags of the backend.
    secrets: names of variables of the environment; their values are kept nowhere.
    price: per device-hour; None: not known.
    devices: that the price is paid for.
    launch: tells this launch from others of its name.
    ids: what the engine calls it.
  """

  name: str
  on: str
  words: list[str]
  cwd: str
  commit: str
  tree: str
  changed: list[str]
  untracked: list[str]
  settings: dict[str, Any]
  secrets: list[str]
  price: float | None
  devices: int
  launch: str
  time: float
  ids: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def folder(self) -> Path:
    return jobs_dir() / self.name

  @property
  def log(self) -> Path:
    return self.folder / LOG_FILE

  def save(self) -> None:
    """Writes job.json."""
    self.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(self.folder / JOB_FILE, json.dumps(dataclasses.asdict(self), indent=2) + "\n")

  def note(self, event: str, **values: Any) -> None:
    """Appends to events.jsonl."""
    self.folder.mkdir(parents=True, exist_ok=True)
    with (self.folder / EVENTS_FILE).open("a", encoding="utf-8") as file:
      file.write(json.dumps({"time": time.time(), "event": event, **values}) + "\n")

  def events(self) -> list[dict[str, Any]]:
    """The lines of events.jsonl; one that was cut short is passed over."""
    found = []
    file = self.folder / EVENTS_FILE
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else ():
      try:
        record = json.loads(line)
        found.append(record | {"time": float(record["time"]), "event": str(record["event"])})
      except (ValueError, TypeError, KeyError):
        continue
    return found

  def seconds(self, until: float) -> float:
    """Time that it ran, summed over its machines or array tasks; a part that has not ended counts to `until`."""
    total = 0.0
    running: dict[str, float] = {}  # Key -> when it began.
    for event in self.events():
      key = str(event.get("key", ""))
      if event["event"] == START:
        total += max(0.0, event["time"] - running[key]) if key in running else 0.0  # Killed: its end was not noted.
        running[key] = event["time"]
      elif event["event"] == END and key in running:
        total += event["time"] - running.pop(key)
    return total + sum(max(0.0, until - began) for began in running.values())

  def cost(self, until: float) -> float | None:
    """Device-hours times the price so far; None where the price is not known."""
    return None if self.price is None else self.price * self.devices * self.seconds(until) / 3600


def read_job(name: str) -> Job:
  """The job of a name.

  Raises:
    LmxError: there is none; with the nearest name.
  """
  known = {folder.name: folder for folder in sorted(jobs_dir().glob("*")) if (folder / JOB_FILE).is_file()}
  folder = choose("lmx jobs: name", name, known, fix="lmx jobs")
  names = [field.name for field in dataclasses.fields(Job)]
  values: Mapping[str, Any] = read_written(folder / JOB_FILE, *names)
  return Job(**{key: values[key] for key in names})


def all_jobs() -> list[Job]:
  """Every job, the oldest first."""
  found = [read_job(file.parent.name) for file in jobs_dir().glob(f"*/{JOB_FILE}")]
  return sorted(found, key=lambda job: job.time)


def cost_before(price: float | None, devices: int, seconds: int | None) -> str:
  """One line about what a job may cost."""
  if price is None:
    return "cost: not known (--price=PER_DEVICE_HOUR)"
  rate = f"{price * devices:,.2f} per hour ({devices} devices at {price:g})"
  if seconds is None:
    return f"cost: {rate}"
  return f"cost: at most {price * devices * seconds / 3600:,.2f}: {rate} for {human_time(seconds)}"
