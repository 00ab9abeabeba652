# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""How the C library keeps memory that XLA has freed, where the CPU computes.

XLA takes a step's buffers with malloc and frees them at its end. glibc gives large ones back to the system at once, so
each step faults all of its pages in again: a quarter of the time of a step of configs/translation.py:small on one core
(0.96 s, and 0.74 s with what is set here). Needs glibc; elsewhere nothing happens. Imports no jax.
"""

import ctypes
import importlib.util
import os

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_SETTINGS = {
  _ARENA_MAX: 1,  # Threads' own arenas are unmapped as they empty; the one arena that is not serves them all.
  _MMAP_MAX: 0,  # No buffer gets a mapping of its own.
  _TRIM_THRESHOLD: 2**31 - 1,  # Up to 2 GiB of freed memory are kept.
  _TOP_PAD: 64 * 2**20,  # Grown in steps of 64 MiB.
}
_ACCELERATORS = ("libtpu", "jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin")


def keep_freed_memory() -> bool:
  """Makes malloc keep what is freed; to be called before threads are started. Says whether it did.

  It does not where an accelerator computes, whose hosts have many threads that allocate at once, nor where the user has
  set any of glibc's own variables (MALLOC_ARENA_MAX, ...).
  """
  if os.environ.get("JAX_PLATFORMS") != "cpu" and any(map(importlib.util.find_spec, _ACCELERATORS)):
    return False
  if any(name.startswith("MALLOC_") for name in os.environ):
    return False
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (OSError, AttributeError):
    return False
  return all([mallopt(name, value) == 1 for name, value in _SETTINGS.items()])
