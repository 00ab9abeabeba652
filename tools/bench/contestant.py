# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""One contestant in a process of its own: reads requests from standard input, a JSON line each, and answers in kind.

The first answer has the versions of its packages. `{"steps": n}` runs n steps and answers with the seconds they took,
and those of all its threads; `{}` answers with its results so far: the losses, and whatever else it reports.
Command:  python -m tools.bench.contestant MODULE SETTING   (started by tools.bench.contest; SETTING is JSON)

A contestant's module has `make(setting)`, which returns an object with `play(turns)`, which never returns, and
`results()`. The module's row in `PACKAGES` names the packages whose versions matter.
"""

import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

_JAX = ("jax", "jaxlib", "numpy")
PACKAGES: dict[str, tuple[str, ...]] = {
  "with_lmx": (*_JAX, "flax", "optax", "grain"),
  "hand_written": _JAX,
  "with_torch": ("torch", "transformers", "numpy"),
}


class Turns:
  """The requests of the benchmark, seen from a contestant: how many steps to do, and then how many more.

  Args:
    answers: where to write to.
    packages: those whose versions matter.
    results: what the contestant has to report, as JSON values.
  """

  def __init__(self, answers: TextIO, packages: Sequence[str], results: Callable[[], dict[str, Any]]):
    self._answers, self._results = answers, results
    versions = {package: importlib.metadata.version(package) for package in packages}
    self._answer: dict[str, Any] = {"versions": {"python": platform.python_version(), **versions}}
    self._clocks = (0.0, 0.0)

  def next(self) -> int:
    """Ends a turn: answers, waits for the next request, and starts the clock for that many steps.

    Nothing may be in progress when this is called; when there are no more requests, the process ends here.
    """
    if "versions" not in self._answer:
      wall, cpu = self._clocks
      self._answer = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    print(json.dumps(self._answer), file=self._answers)
    self._answer = {}
    for line in sys.stdin:
      request = json.loads(line)
      if "steps" in request:
        self._clocks = time.perf_counter(), time.process_time()
        return request["steps"]
      print(json.dumps(self._results()), file=self._answers)
    os._exit(0)  # The loop of lmx would save a checkpoint now; nothing here is worth keeping.


def serve(module: str, setting: dict[str, Any]) -> None:
  answers = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)  # Whatever else prints must not mix with the answers.
  if setting.get("keep_freed_memory"):
    importlib.import_module("lmx.cli.allocator").keep_freed_memory()  # Before anything starts threads.
  contestant = importlib.import_module(f"tools.bench.{module}").make(setting)
  contestant.play(Turns(answers, PACKAGES[module], contestant.results))


if __name__ == "__main__":
  serve(sys.argv[1], json.loads(sys.argv[2]))
