# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""MaxText's side of the comparison ahead of time: runs its `train_compile` and keeps the program. Imports no lmx.

Reads one JSON line, `{"arguments": ["base.yml", "key=value", ...], "program": FILE}`, writes the compiled program's
text to FILE (gzip), and answers with one JSON line: bytes of memory, seconds and versions.
Command:  PYTHONPATH=CHECKOUT/src PYTHON -P tools/bench/maxtext_worker.py   (started by tools.bench.maxtext)
"""

import contextlib
import gzip
import importlib.metadata
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "tokamax", "qwix")
MEMORY = ("argument", "output", "alias", "temp", "generated_code")


def memory_bytes(compiled: Any) -> dict[str, int]:
  """What the compiler reserves of one device's memory, by kind, and the peak of what is alive where it is given."""
  found = compiled.memory_analysis()
  sizes = {kind: int(getattr(found, f"{kind}_size_in_bytes")) for kind in MEMORY}
  sizes |= {f"host_{kind}": int(getattr(found, f"host_{kind}_size_in_bytes", 0)) for kind in MEMORY}
  return sizes | {"peak": int(getattr(found, "peak_memory_in_bytes", 0))}


def measure(setting: Mapping[str, Any]) -> dict[str, Any]:
  """Compiles the step of those arguments; the program goes to a file instead of MaxText's own."""
  from maxtext.trainers.pre_train import train_compile  # Here, because this module is also imported without it.

  answer: dict[str, Any] = {}

  def keep(compiled: Any, name: str) -> None:
    answer.update(seconds=time.perf_counter() - start, memory=memory_bytes(compiled))
    with gzip.open(name, "wt") as file:
      file.write(compiled.as_text())

  train_compile.save_compiled = keep
  start = time.perf_counter()
  train_compile.main(["train_compile", *setting["arguments"], f"compiled_trainstep_file={setting['program']}"])
  present = {one.metadata["Name"] for one in importlib.metadata.distributions()}
  return answer | {"versions": {name: importlib.metadata.version(name) for name in PACKAGES if name in present}}


def main() -> None:
  setting = json.loads(sys.stdin.readline())
  with contextlib.redirect_stdout(sys.stderr):
    try:
      answer = measure(setting)
    except Exception as error:  # Reported: another policy may fit.
      answer = {"error": f"{type(error).__name__}: {error}"[:4000]}
  print(json.dumps(answer), flush=True)


if __name__ == "__main__":
  main()
