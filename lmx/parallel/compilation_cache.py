# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""JAX's persistent compilation cache: switched on for a run, and off for programs that can't be read back."""

import contextlib
from collections.abc import Iterator

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from lmx.paths import any_path
from lmx.storage import write_errors

_CACHE_KEY = "compute.compilation_cache"


def use_compilation_cache(folder: str) -> None:
  """Caches compiled programs in `folder`, so that a second start need not compile; "": no cache.

  Raises:
    WriteError: the folder can't be created.
  """
  if not folder:
    return
  path = any_path(folder, f"config.{_CACHE_KEY}")
  fix = f'--config.{_CACHE_KEY}=PATH elsewhere, or --config.{_CACHE_KEY}="" for none.'
  with write_errors(path, subject=f"config.{_CACHE_KEY}", fix=lambda: fix):
    path.mkdir(parents=True, exist_ok=True)
  jax.config.update("jax_compilation_cache_dir", str(path))
  # Reading a program back takes milliseconds; programs that compile faster than this are not worth a file.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@contextlib.contextmanager
def without_compilation_cache() -> Iterator[None]:
  """Without JAX's persistent cache, which stores programs for devices that aren't here, but can't read them back."""
  enabled = jax.config.values["jax_enable_compilation_cache"]
  jax.config.update("jax_enable_compilation_cache", False)
  reset_cache()  # JAX looks at the setting once, at the first compilation of a process.
  try:
    yield
  finally:
    jax.config.update("jax_enable_compilation_cache", enabled)
    reset_cache()
