# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Times contestants against each other on a machine that is not quiet: short turns, one after another, many rounds.

Every contestant lives in a process of its own, and those whose turn it isn't are stopped by a signal, so that neither
their spinning threads nor their prefetching can take time from the one that runs. Ratios are taken within a round.
Contestants whose losses are not the same are not compared.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench.reporting import ROOT
from tools.bench.shapes import WINDOW
from tools.bench.worker import CONTESTANTS

# Relative differences of losses that are allowed: of the first one, and of the mean over the first window of steps.
# They are sums of float32 in other orders, and training lets differences grow.
SAME_FIRST, SAME_WINDOW = 1e-5, 1e-4


class Worker:
  """A contestant in its process, stopped unless it is asked something."""

  def __init__(self, name: str, shape: str, folder: Path, python: str):
    self.name = name
    self._log = folder / f"{name.replace(' ', '_')}.log"
    arguments = [python, "-m", "tools.bench.worker", name, shape, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with self._log.open("w") as log:
      self._process = subprocess.Popen(arguments, stderr=log, **pipes)
    self.versions: dict[str, str] = self._answer()["versions"]

  @property
  def pid(self) -> int:
    return self._process.pid

  def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
    """Lets the process run until it has answered."""
    self._process.send_signal(signal.SIGCONT)
    self._process.stdin.write(json.dumps(request) + "\n")
    self._process.stdin.flush()
    return self._answer()

  def _answer(self) -> dict[str, Any]:
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError(f"{self.name} ended:\n{self._log.read_text()[-3000:]}")
    self._process.send_signal(signal.SIGSTOP)
    return json.loads(line)

  def end(self) -> None:
    self._process.kill()
    self._process.communicate()


def importable(python: str, name: str) -> bool:
  """Whether an interpreter has the packages of a contestant."""
  packages = CONTESTANTS[name][1]
  check = f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {packages!r})))"
  return subprocess.run([python, "-c", check], check=False).returncode == 0


@contextlib.contextmanager
def workers(names: Sequence[str], shape: str, folder: Path, pythons: Mapping[str, str]) -> Iterator[list[Worker]]:
  """The contestants, started one after another and ended however the contest ends, by SIGTERM, too."""
  signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
  started: list[Worker] = []
  try:
    for name in names:
      started.append(Worker(name, shape, folder, pythons[name]))
    yield started
  finally:
    for worker in started:
      worker.end()


Times = dict[str, list[float]]


def play(contestants: Sequence[Worker], steps: int, rounds: int) -> tuple[Times, Times]:
  """Seconds of a step in each round, by contestant: by the clock, and of all threads. Another starts each round."""
  seconds: Times = {worker.name: [] for worker in contestants}
  cpu_seconds: Times = {worker.name: [] for worker in contestants}
  for number in range(rounds):
    first = number % len(contestants)
    for worker in [*contestants[first:], *contestants[:first]]:
      times = worker.ask({"steps": steps})
      seconds[worker.name].append(times["seconds"] / steps)
      cpu_seconds[worker.name].append(times["cpu_seconds"] / steps)
  return seconds, cpu_seconds


def ratios(seconds: Mapping[str, Sequence[float]], name: str, base: str) -> dict[str, float] | None:
  """Median, least and greatest of the rounds' ratios of one contestant's time to another's."""
  if name not in seconds or base not in seconds:
    return None
  each = [a / b for a, b in zip(seconds[name], seconds[base], strict=True)]
  return {"median": statistics.median(each), "min": min(each), "max": max(each)}


def disagreements(curves: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """Contestants whose losses are not those of the hand-written one."""
  base = curves["hand-written"]
  found = []
  for name, curve in curves.items():
    pairs = [("first loss", curve["first"], base["first"], SAME_FIRST)]
    if curve["windows"]:  # `lmx train` reads its metrics late, and may know one window less.
      pairs.append((f"mean of steps 1 to {WINDOW}", curve["windows"][0], base["windows"][0], SAME_WINDOW))
    for what, got, wanted, tolerance in pairs:
      if got is not None and not abs(got - wanted) <= tolerance * abs(wanted):
        found.append(f"{name}: {what} is {got:.7g}, hand-written has {wanted:.7g}")
  return found


def drift(curves: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
  """The greatest relative difference of a window's mean loss from the hand-written contestant's."""
  base = curves["hand-written"]["windows"]
  each = {name: zip(curve["windows"], base, strict=False) for name, curve in curves.items()}
  return {name: max((abs(a / b - 1) for a, b in pairs), default=0.0) for name, pairs in each.items()}


def load_average() -> float:
  return os.getloadavg()[0]
