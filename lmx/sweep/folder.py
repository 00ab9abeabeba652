# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A sweep's folder: what the sweep is, which trials were started when, and how far each of them is.

    sweep.json        what is swept
    trials/NAME/      one run for each trial
    logs/NAME.log     what its commands printed
    claims/NAME/      who is running it
    attempts.jsonl    every start and end of a trial's command
    journal.log       the study of a search (Optuna)

Several commands, on one machine or on many, may work in one folder: a trial is claimed with the lock that runs have, so
that one whose command died is free again. What a trial has reached is read from its own run folder.
"""

import dataclasses
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmx.config.run_config import read_written
from lmx.errors import LmxError
from lmx.exits import DONE, LOST_PROCESS, SAVED, SIGNALLED, STORAGE
from lmx.storage import PARTIAL
from lmx.sweep.trial import Trial
from lmx.training.metrics import FILE, read_metrics
from lmx.training.run_lock import RunLock, RunLockedError
from lmx.training.status import read_status

SWEEP_FILE, ATTEMPTS, JOURNAL = "sweep.json", "attempts.jsonl", "journal.log"
WAITING, RUNNING, STOPPED, FINISHED, FAILED, PRUNED = "waiting", "running", "stopped", "finished", "failed", "pruned"
ENDED = (FINISHED, FAILED, PRUNED)
FOLDERS = ("trials", "logs", "claims")
RESET = "reset"  # Forgets what a trial's commands came to, so that it is tried again.


def was_preempted(code: int | None) -> bool:
  """Whether a command ended because of its surroundings; None: it left no reason, so it was killed with its sweep."""
  return code is None or code in (SAVED, STORAGE, LOST_PROCESS) or code < 0 or SIGNALLED < code <= SIGNALLED + 64


@dataclasses.dataclass
class TrialState:
  """How far a trial is.

  Attributes:
    trial: which.
    state: waiting | running | stopped | finished | failed | pruned.
    value: the last value of the sweep's metric; None: there is none yet.
    step: the last with a record.
    failures: commands that ended because of the trial itself.
    preemptions: commands that were killed or stopped from outside.
    seconds: spent in its commands.
    why: it failed.
  """

  trial: Trial
  state: str = WAITING
  value: float | None = None
  step: int = 0
  failures: int = 0
  preemptions: int = 0
  seconds: float = 0.0
  why: str = ""


class SweepFolder:
  """The folder of a sweep, which any number of commands may use at once."""

  def __init__(self, path: Path):
    self.path = path

  def run_dir(self, trial: Trial) -> Path:
    return self.path / "trials" / trial.name

  def log(self, trial: Trial) -> Path:
    return self.path / "logs" / f"{trial.name}.log"

  @property
  def journal(self) -> Path:
    return self.path / JOURNAL

  def open(self, definition: Mapping[str, Any]) -> bool:
    """Makes the folder, or checks that it is the one of this sweep; returns whether it is new.

    Args:
      definition: JSON values; those under "same" may not differ from the ones that the sweep was started with.

    Raises:
      LmxError: it is the folder of another sweep, or of something else.
    """
    file = self.path / SWEEP_FILE
    foreign = self.path.exists() and any(not _is_own(found.name) for found in self.path.iterdir())
    if not file.exists():  # Looked at last: another command may just have made the folder.
      if foreign:
        raise LmxError(f"--workdir: {self.path} is neither empty nor a sweep. Fix: --workdir={self.path}/sweep")
      self.path.mkdir(parents=True, exist_ok=True)
      for name in FOLDERS:
        (self.path / name).mkdir(exist_ok=True)
      self._write(definition)
      return True
    old = self.definition()
    wrong = [name for name, value in definition["same"].items() if old["same"].get(name) != value]
    if wrong:
      lines = "\n".join(
        f"  {name}: {old['same'].get(name)!r} there, {definition['same'][name]!r} now" for name in wrong
      )
      raise LmxError(f"--workdir: {self.path} holds another sweep:\n{lines}\nFix: --workdir={self.path}_2")
    merged = {**definition, "trials": _merged(old, definition)}
    if merged != old:
      self._write(merged)
    return False

  def _write(self, definition: Mapping[str, Any]) -> None:
    """Writes sweep.json; the commands of an array that begin at once each have a partial file of their own."""
    partial = self.path / f"{SWEEP_FILE}.{socket.gethostname()}-{os.getpid()}{PARTIAL}"
    partial.write_text(json.dumps(definition, indent=2) + "\n", encoding="utf-8")
    partial.replace(self.path / SWEEP_FILE)

  def definition(self) -> dict[str, Any]:
    """What was swept last.

    Raises:
      LmxError: not a sweep's folder, or a damaged one.
    """
    if not (self.path / SWEEP_FILE).is_file():
      raise LmxError(f"{self.path}: no {SWEEP_FILE} there. Fix: the folder of a sweep, such as sweeps/cpu.")
    return read_written(self.path / SWEEP_FILE, "same", "trials", "metric", "mode")

  def trials(self) -> list[Trial]:
    """The trials that are known so far: those of a list, and those that a search has started."""
    found = {name: Trial(name, overrides) for name, overrides in self.definition()["trials"].items()}
    for name, records in self.attempts().items():
      started = [record for record in records if record["event"] == "start"]
      if name not in found and started:
        found[name] = Trial(name, started[0]["overrides"], started[0]["number"])
    return list(found.values())

  # ---------------------------------------------------------------- attempts

  def note(self, trial: Trial, event: str, **values: Any) -> None:
    """Appends to attempts.jsonl, in one write, so that lines of several commands don't mix."""
    record = {"trial": trial.name, "event": event, "time": time.time(), "host": socket.gethostname(),
              "process": os.getpid(), **values}  # fmt: skip
    file = os.open(self.path / ATTEMPTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
      os.write(file, (json.dumps(record) + "\n").encode())
    finally:
      os.close(file)

  def attempts(self) -> dict[str, list[dict[str, Any]]]:
    """The lines of attempts.jsonl by trial; a line that a full disk cut short is passed over."""
    found: dict[str, list[dict[str, Any]]] = {}
    file = self.path / ATTEMPTS
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else ():
      try:
        record = json.loads(line)
        found.setdefault(record["trial"], []).append(record)
      except (ValueError, TypeError, KeyError):
        continue
    return found

  def claim(self, trial: Trial) -> RunLock | None:
    """The claim on a trial, entered; None: another command has it, or trains in its folder."""
    lock = RunLock(self.path / "claims" / trial.name)
    try:
      return lock.__enter__()
    except RunLockedError:
      return None

  def is_claimed(self, trial: Trial) -> bool:
    """Whether a command is running the trial."""
    lock = self.claim(trial)
    if lock is None:
      return True
    lock.__exit__(None, None, None)
    return False

  # ---------------------------------------------------------------- states

  def state(self, trial: Trial, attempts: Mapping[str, list[dict[str, Any]]], metric: str) -> TrialState:
    """How far a trial is, from its run folder and its attempts; whether it runs now is not looked up."""
    found = TrialState(trial)
    started: dict[str, Any] | None = None
    for record in attempts.get(trial.name, ()):
      if record["event"] == "start":
        found.preemptions += started is not None  # The one before never ended: it was killed with its sweep.
        started = record
      elif record["event"] in (PRUNED, FAILED):
        found.state, found.why = record["event"], record.get("why", "")
        found.preemptions -= record["event"] == PRUNED  # The sweep itself stopped it.
      elif record["event"] == RESET:
        found, started = TrialState(trial), None
      elif record["event"] == "end":
        code, started = record.get("code"), None
        found.seconds += record.get("seconds", 0.0)
        found.preemptions += code != DONE and was_preempted(code)
        found.failures += code != DONE and not was_preempted(code)
        found.why = record.get("why", "")
    found.preemptions += started is not None
    status = read_status(self.run_dir(trial))
    if found.state not in ENDED:
      if status is not None and status.state == FINISHED:
        found.state, found.why = FINISHED, ""
      elif started is not None or found.preemptions or found.failures:
        found.state = STOPPED
    found.value, found.step = last_value(self.run_dir(trial), metric)
    return found

  def states(self, metric: str) -> list[TrialState]:
    """How far every trial is."""
    attempts = self.attempts()
    found = [self.state(trial, attempts, metric) for trial in self.trials()]
    for one in found:
      if one.state not in ENDED and self.is_claimed(one.trial):
        one.state = RUNNING
        one.preemptions = max(0, one.preemptions - 1)  # The attempt that has not ended is the one at work.
    return found


def _is_own(name: str) -> bool:
  """Whether a sweep's folder has a file or folder of this name while a command sets it up."""
  return name in FOLDERS or name.startswith(SWEEP_FILE)


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
  """The trials of a sweep that was extended: those that were there, too."""
  return {**old["trials"], **new["trials"]}


def values_of(run_dir: Path, metric: str) -> Iterator[tuple[int, float]]:
  """(step, value) of every record of a run that has the metric as a finite number."""
  return _values(records_of(run_dir), metric)


def records_of(run_dir: Path) -> list[dict[str, Any]]:
  """The records of a run; [] before it has any."""
  return read_metrics(run_dir) if (run_dir / FILE).exists() else []


def _values(records: list[dict[str, Any]], metric: str) -> Iterator[tuple[int, float]]:
  for record in records:
    if isinstance(record.get(metric), int | float):
      yield record["step"], float(record[metric])


def last_value(run_dir: Path, metric: str) -> tuple[float | None, int]:
  """(the metric's last value or None, the last step with any record) of a run."""
  records = records_of(run_dir)
  values = [value for _, value in _values(records, metric)]
  return (values[-1] if values else None), (records[-1]["step"] if records else 0)
