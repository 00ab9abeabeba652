# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""lmx: pretrain and study language models in JAX and Flax.

`lmx.load(path)` opens a finished run, on any number of devices; `lmx.from_hf(path)` a Hugging Face model, and
`lmx.to_hf(run, folder)` writes one. Importing lmx imports nothing heavy; it looks up
whether the installed jax, flax and orbax fit each other, and warns with the way out when they don't.
"""

import importlib
import warnings
from typing import Any

from lmx.errors import LmxError
from lmx.versions import FIX, version_problems

__version__ = "0.2.0"
__all__ = ["from_hf", "load", "to_hf"]

# Attribute -> the module that has it, imported on first use.
_LAZY = {"load": "lmx.api.loading", "from_hf": "lmx.api.exchange", "to_hf": "lmx.api.exchange"}
_problem = "; ".join(version_problems())
if _problem:
  warnings.warn(f"lmx: {_problem}. Fix: {FIX}", RuntimeWarning, stacklevel=2)


def __getattr__(name: str) -> Any:
  if name not in _LAZY:
    raise AttributeError(f"module 'lmx' has no attribute {name!r}")
  if _problem:
    raise LmxError(f"{_problem}. Fix: {FIX}")
  return vars(importlib.import_module(_LAZY[name]))[name]


def __dir__() -> list[str]:
  return sorted([*globals(), *_LAZY])
