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
from pathlib import Path
from typing import Any

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


def make(name: str, shape_name: str, folder: Path) -> Any:
  """The contestant, with `run(steps)` and `curve()`."""
  shape = SHAPES[shape_name]
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
  versions = {package: importlib.metadata.version(package) for package in CONTESTANTS[name][1]}
  print(json.dumps({"versions": {"python": platform.python_version(), **versions}}), file=answers)
  for line in sys.stdin:
    request = json.loads(line)
    if "steps" in request:
      start, before = time.perf_counter(), time.process_time()
      contestant.run(request["steps"])
      times = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - before}
      print(json.dumps(times), file=answers)
    else:
      print(json.dumps(contestant.curve()), file=answers)
  os._exit(0)  # The loop of lmx would go on to save; nothing here is worth keeping.


if __name__ == "__main__":
  serve(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
