# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Makes the C library keep memory that XLA has freed, on CPU backends.

XLA allocates a step's buffers with malloc and frees them at the end of the step. glibc returns large ones to the
system at once, so each step faults all of its pages in again: a quarter of the step time of
configs/translation.py:small on one core (0.96 s, and 0.74 s with these settings). Without glibc nothing happens.
Imports no jax.
"""

import ctypes
import importlib.util
import os

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_SETTINGS = {
  _ARENA_MAX: 1,  # Arenas of threads are unmapped when they empty; the main arena is not, so it serves all threads.
  _MMAP_MAX: 0,  # No buffer gets its own mapping.
  _TRIM_THRESHOLD: 2**31 - 1,  # Keep up to 2 GiB of freed memory.
  _TOP_PAD: 64 * 2**20,  # Grow in steps of 64 MiB.
}
_ACCELERATORS = ("libtpu", "jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin")


def keep_freed_memory() -> bool:
  """Makes malloc keep freed memory; must be called before threads are started. Returns whether it did.

  It does nothing with an accelerator, whose host has many threads that allocate at the same time, nor if the user has
  set any of glibc's variables (MALLOC_ARENA_MAX, ...).
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
