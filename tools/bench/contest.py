# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Times contestants against each other: short turns, one after another, many rounds.

Every contestant has its own process (tools/bench/contestant.py), and those whose turn it isn't are stopped by a signal,
so that ratios within a round hold also on a machine that is not quiet. Contestants that don't fit into memory together
take part in contests of one. Contestants whose losses are not the same are not compared.
"""

import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench.contestant import PACKAGES
from tools.bench.process import Process, python_module
from tools.bench.reporting import Load
from tools.bench.shapes import WINDOW

WARM_UP = 2  # Steps before the rounds; the first one compiles.
# Relative differences of losses that are allowed: of the first one, and of the mean over the first window of steps.
# They are sums of float32 in other orders, and training lets differences grow.
SAME_FIRST, SAME_WINDOW = 1e-5, 1e-4
Times = dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class Contestant:
  """Who takes part.

  Attributes:
    name: in results.
    module: of tools.bench, with `make(setting)`.
    setting: JSON values.
    python: the interpreter.
  """

  name: str
  module: str
  setting: Mapping[str, Any]
  python: str = sys.executable

  def importable(self) -> bool:
    """Whether the interpreter has the contestant's packages."""
    check = f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {PACKAGES[self.module]!r})))"
    return subprocess.run([self.python, "-c", check], check=False).returncode == 0

  def start(self, log: Path, limit: float | None) -> Process:
    command = python_module("contestant", self.module, json.dumps(self.setting), python=self.python)
    return Process(command, log=log, limit=limit, stop=True)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What a contest measured, by contestant.

  Attributes:
    first_step_seconds: with the compilation.
    seconds, cpu_seconds: of a step in each round: by the clock, and of all threads.
    results: what each reported at the end: losses, and whatever else.
    versions: of all packages; one that two contestants have in different versions is named with both.
    others: the share of the cores that other processes took during the rounds, or None where it is not known.
  """

  first_step_seconds: dict[str, float]
  seconds: Times
  cpu_seconds: Times
  results: dict[str, dict[str, Any]]
  versions: dict[str, str]
  others: float | None


def hold(contestants: Sequence[Contestant], steps: int, rounds: int, limit: float | None = None) -> Outcome:
  """A contest.

  Args:
    contestants: in rounds of one turn for each; another one starts each round.
    steps: of a turn.
    rounds: how many.
    limit: seconds for one answer.

  Raises:
    NoAnswerError: a contestant failed or took longer than the limit.
  """
  with started(contestants, limit) as (processes, versions):
    first = {name: process.ask({"steps": 1})["seconds"] for name, process in processes.items()}
    for process in processes.values():
      process.ask({"steps": WARM_UP - 1})
    load = Load([process.pid for process in processes.values()])
    seconds, cpu_seconds = play(processes, steps, rounds)
    others = load.others()
    results = {name: process.ask({}) for name, process in processes.items()}
  return Outcome(first, seconds, cpu_seconds, results, versions, others)


@contextlib.contextmanager
def started(
  contestants: Sequence[Contestant], limit: float | None
) -> Iterator[tuple[dict[str, Process], dict[str, str]]]:
  """The contestants' processes, started one after another and ended however the contest ends, also by SIGTERM; and the
  versions that they have."""
  signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
  with contextlib.ExitStack() as stack:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    processes, versions = {}, []
    for number, one in enumerate(contestants):
      processes[one.name] = stack.enter_context(one.start(folder / f"{number}.log", limit))
      versions.append(processes[one.name].answer()["versions"])
    yield processes, merged(versions)


def play(processes: Mapping[str, Process], steps: int, rounds: int) -> tuple[Times, Times]:
  """Seconds of a step in each round, by contestant: by the clock, and of all threads. Another starts each round."""
  names = list(processes)
  seconds: Times = {name: [] for name in names}
  cpu_seconds: Times = {name: [] for name in names}
  for number in range(rounds):
    first = number % len(names)
    for name in [*names[first:], *names[:first]]:
      times = processes[name].ask({"steps": steps})
      seconds[name].append(times["seconds"] / steps)
      cpu_seconds[name].append(times["cpu_seconds"] / steps)
  return seconds, cpu_seconds


def merged(versions: Sequence[Mapping[str, str]]) -> dict[str, str]:
  """Versions of all contestants; a package that two of them have in different versions is named with both."""
  found: dict[str, list[str]] = {}
  for each in versions:
    for name, version in each.items():
      found.setdefault(name, [])
      found[name] += [version] if version not in found[name] else []
  return {name: " and ".join(each) for name, each in found.items()}


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
    if curve["windows"]:  # `lmx train` reads its metrics late, and may have one window less.
      pairs.append((f"mean of steps 1 to {WINDOW}", curve["windows"][0], base["windows"][0], SAME_WINDOW))
    for what, got, expected, tolerance in pairs:
      if got is not None and not abs(got - expected) <= tolerance * abs(expected):
        found.append(f"{name}: {what} is {got:.7g}, hand-written has {expected:.7g}")
  return found


def drift(curves: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
  """The greatest relative difference of a window's mean loss from the hand-written contestant's."""
  base = curves["hand-written"]["windows"]
  each = {name: zip(curve["windows"], base, strict=False) for name, curve in curves.items()}
  return {name: max((abs(a / b - 1) for a, b in pairs), default=0.0) for name, pairs in each.items()}


def load_average() -> float:
  return os.getloadavg()[0]
