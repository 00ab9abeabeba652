# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Runs the trials of a sweep as commands of this machine, several at once, each at most as often as it is worth.

A trial is a real `lmx train` in a process of its own. One that was preempted (killed, stopped, a full disk) resumes
where it was saved; one that failed by itself is started again within a smaller budget. When the sweep is stopped, its
commands save and stop; when it is killed, Linux ends them, and the next sweep command finds their claims free.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from lmx.exits import DONE, MISTAKE
from lmx.sweep.folder import ENDED, FAILED, PRUNED, SweepFolder, TrialState, values_of, was_preempted
from lmx.sweep.trial import Trial
from lmx.training.run_lock import RunLock

POLL_SECONDS = 0.2
# Asks Linux for SIGTERM when the sweep dies, so that no trial trains unseen, and becomes the command. It is a program
# because nothing may run between the fork and the exec of a process that has threads. 1 is PR_SET_PDEATHSIG.
_END_WITH_PARENT = (
  "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)
_PREFIX = [sys.executable, "-S", "-c", _END_WITH_PARENT] if sys.platform == "linux" else []


class TrialSource(Protocol):
  """Where trials come from."""

  def next(self) -> Trial | None:
    """A trial to start, or None: there is none now."""

  def ended(self, state: TrialState) -> None:
    """A trial has finished, failed for good, or was pruned."""

  def prunes(self, trial: Trial, values: Sequence[tuple[int, float]]) -> bool:
    """Whether a trial with these (step, value) should be stopped for good."""


class Attempt:
  """One command of a trial, at work."""

  def __init__(self, trial: Trial, claim: RunLock, process: subprocess.Popen[bytes], slot: int, log: Path):
    self.trial, self.claim, self.process, self.slot, self.log = trial, claim, process, slot, log
    self.began = time.time()
    self.pruned = False
    self.seen = 0  # Values of the metric that a pruner was shown.

  def last_line(self) -> str:
    """The most informative line of its log: the last error, or the last line."""
    try:
      lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
      return ""
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1][:500]


class Runner:
  """Runs trials until there are none left, or it is stopped.

  Args:
    folder: of the sweep.
    source: of the trials.
    command: trial -> the words of its command.
    metric: whose values a pruner sees.
    jobs: commands at once.
    retries: how often a trial that failed by itself is started again.
    preemptions: how often one that was preempted is.
    environments: of each slot, added to this process's; such as which devices it may see.
    report: called with every change.
  """

  def __init__(
    self,
    folder: SweepFolder,
    source: TrialSource,
    command: Callable[[Trial], list[str]],
    *,
    metric: str,
    jobs: int,
    retries: int,
    preemptions: int,
    environments: Sequence[dict[str, str]] = (),
    report: Callable[[str], None] = print,
  ):
    self._folder, self._source, self._command, self._metric = folder, source, command, metric
    self._retries, self._preemptions, self._report = retries, preemptions, report
    self._environments = list(environments) or [{} for _ in range(jobs)]
    self._free = list(range(jobs))[::-1]
    self._running: list[Attempt] = []
    self._again: list[Trial] = []
    self._stopping = False

  @property
  def running(self) -> list[Trial]:
    return [attempt.trial for attempt in self._running]

  def run(self) -> bool:
    """Returns whether every trial has ended; False: the sweep was stopped, or others still run some of them."""
    waits = False
    while True:
      self._reap()
      while self._free and not self._stopping:
        trial = self._again.pop(0) if self._again else self._source.next()
        if trial is None:
          break
        waits |= not self._start(trial)
      if not self._running:
        return not (self._stopping or waits)
      self._prune()
      time.sleep(POLL_SECONDS)

  def stop(self) -> None:
    """Starts nothing more, and has what runs save and stop."""
    self._stopping = True
    for attempt in list(self._running):
      attempt.process.send_signal(signal.SIGTERM)

  # ---------------------------------------------------------------- parts of it

  def _start(self, trial: Trial) -> bool:
    """Starts a trial unless another command has it; returns whether it did, or the trial needs nothing more."""
    claim = self._folder.claim(trial)
    if claim is None:
      self._report(f"{trial.name}: run by another command")
      return False
    state = self._state(trial)
    if state.state in ENDED or self._over_budget(state):
      claim.__exit__(None, None, None)
      self._end(state)
      return True
    slot, log = self._free.pop(), self._folder.log(trial)
    self._folder.note(trial, "start", slot=slot, number=trial.number, overrides=dict(trial.overrides))
    with log.open("ab") as output:
      process = subprocess.Popen(
        [*_PREFIX, *self._command(trial)], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        env=os.environ | self._environments[slot], start_new_session=True,
      )  # fmt: skip
    self._running.append(Attempt(trial, claim, process, slot, log))
    self._report(f"{trial.name}: {'started' if state.step == 0 else f'resumed at step {state.step:,}'}")
    return True

  def _state(self, trial: Trial) -> TrialState:
    return self._folder.state(trial, self._folder.attempts(), self._metric)

  def _over_budget(self, state: TrialState) -> bool:
    return state.failures > self._retries or state.preemptions > self._preemptions

  def _reap(self) -> None:
    for attempt in [one for one in self._running if one.process.poll() is not None]:
      self._running.remove(attempt)
      self._free.append(attempt.slot)
      trial, code = attempt.trial, attempt.process.returncode
      why = "" if code == DONE else attempt.last_line()
      self._folder.note(trial, "end", code=code, seconds=round(time.time() - attempt.began, 3), why=why)
      if attempt.pruned and code != DONE:
        self._folder.note(trial, PRUNED)
      attempt.claim.__exit__(None, None, None)
      self._after(self._state(trial), code)

  def _after(self, state: TrialState, code: int) -> None:
    """Ends a trial, or puts it in line again."""
    if state.state in ENDED or code == MISTAKE or self._over_budget(state):
      self._end(state)
    elif not self._stopping:
      self._report(f"{state.trial.name}: {'preempted' if was_preempted(code) else 'failed'} (code {code}), again")
      self._again.append(state.trial)
    else:
      self._report(f"{state.trial.name}: stopped at step {state.step:,}")

  def _end(self, state: TrialState) -> None:
    if state.state not in ENDED:
      state.state = FAILED
      self._folder.note(state.trial, FAILED, why=state.why)
    self._source.ended(state)
    value = "" if state.value is None else f", {self._metric} {state.value:.5g}"
    self._report(f"{state.trial.name}: {state.state}{value}{f': {state.why}' if state.why else ''}")

  def _prune(self) -> None:
    for attempt in self._running:
      values = list(values_of(self._folder.run_dir(attempt.trial), self._metric))
      if len(values) > attempt.seen and not attempt.pruned:
        attempt.seen = len(values)
        if self._source.prunes(attempt.trial, values):
          attempt.pruned = True
          attempt.process.send_signal(signal.SIGTERM)


class ListSource:
  """The trials of a list, in order."""

  def __init__(self, trials: Sequence[Trial]):
    self._left = list(trials)

  def next(self) -> Trial | None:
    return self._left.pop(0) if self._left else None

  def ended(self, state: TrialState) -> None:
    pass

  def prunes(self, trial: Trial, values: Sequence[tuple[int, float]]) -> bool:
    return False


def train_command(config: str, overrides: Sequence[str], trial: Trial, run_dir: Path) -> list[str]:
  """`lmx train` of a trial, with this Python."""
  flags = [f"--config.{text}" for text in (*overrides, *trial.arguments)]
  return [sys.executable, "-m", "lmx", "train", f"--config={config}", f"--workdir={run_dir}", *flags]


def slots(jobs: int | None, gpus: Sequence[str]) -> tuple[int, list[dict[str, Any]]]:
  """(commands at once, the environment of each).

  Args:
    jobs: asked for; None: one for each GPU, or one.
    gpus: names of the GPUs of this machine, which the commands share out.
  """
  count = jobs or max(1, len(gpus))
  if not gpus:
    return count, [{} for _ in range(count)]
  shares = [gpus[slot % len(gpus) :: count] or [gpus[slot % len(gpus)]] for slot in range(count)]
  return count, [{"CUDA_VISIBLE_DEVICES": ",".join(share)} for share in shares]
