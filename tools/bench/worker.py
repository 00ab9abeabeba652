# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""One contestant in a process of its own: reads requests from standard input, a JSON line each, and answers in kind.

`{"steps": n}` runs n steps and answers with the seconds they took, and those of all its threads; `{}` answers with
the losses so far.
Command:  python -m tools.bench.worker CONTESTANT SHAPE FOLDER   (started by tools.bench.step)
"""

import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from tools.bench.shapes import SHAPES, read

# contestant -> (its module, the packages whose versions matter)
_JAX = ("jax", "jaxlib", "numpy")
CONTESTANTS: dict[str, tuple[str, tuple[str, ...]]] = {
  "lmx": ("with_lmx", (*_JAX, "flax", "optax", "grain")),
  "lmx step": ("with_lmx", (*_JAX, "flax", "optax")),
  "hand-written": ("hand_written", _JAX),
  "plain": ("hand_written", _JAX),
  "torch": ("with_torch", ("torch", "transformers", "numpy")),
  "torch, one-piece GELU": ("with_torch", ("torch", "transformers", "numpy")),
}


# Those whose malloc keeps what is freed, as it does in `lmx train`: lmx, and what its overhead is measured against.
KEEPS_MEMORY = ("lmx", "lmx step", "hand-written")


class Turns:
  """The requests of the benchmark, seen from a contestant: how many steps to do, and then how many more.

  Args:
    answers: where to write to.
    packages: those whose versions matter.
    curve: the losses so far, see `tools.bench.shapes.curve`.
  """

  def __init__(self, answers: TextIO, packages: Sequence[str], curve: Callable[[], dict[str, Any]]):
    self._answers, self._curve = answers, curve
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
      print(json.dumps(self._curve()), file=self._answers)
    os._exit(0)  # The loop of lmx would go on to save; nothing here is worth keeping.


def make(name: str, shape_name: str, folder: Path) -> Any:
  """The contestant, with `play(turns)`, which never returns, and `curve()`."""
  shape = SHAPES[shape_name]
  if name in KEEPS_MEMORY:
    importlib.import_module("lmx.cli.allocator").keep_freed_memory()  # Before anything starts threads.
  module = importlib.import_module(f"tools.bench.{CONTESTANTS[name][0]}")
  parameters, batches = read(folder)
  if name == "lmx":
    return module.Loop(shape, folder)
  if name == "lmx step":
    return module.Step(shape, folder, batches)
  if name in ("hand-written", "plain"):
    ops = module.TUNED if name == "hand-written" else module.PLAIN
    return module.HandWritten(ops, shape, parameters, batches)
  return module.Torch(shape, parameters, batches, "gelu_new" if name == "torch" else "gelu_pytorch_tanh")


def serve(name: str, shape_name: str, folder: Path) -> None:
  answers = os.fdopen(os.dup(1), "w", buffering=1)
  os.dup2(2, 1)  # Whatever else prints must not mix with the answers.
  contestant = make(name, shape_name, folder)
  contestant.play(Turns(answers, CONTESTANTS[name][1], contestant.curve))


if __name__ == "__main__":
  serve(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
