# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Settings of jax itself that a run makes once, before it compiles anything."""

from pathlib import Path

import jax


def use_compilation_cache(folder: str) -> None:
  """Keeps compiled programs in `folder` between processes, so that a second start need not compile; "" does not."""
  if not folder:
    return
  path = Path(folder).expanduser()
  path.mkdir(parents=True, exist_ok=True)
  jax.config.update("jax_compilation_cache_dir", str(path))
  # Below a second, reading a program back takes about as long as compiling it.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def start_processes(coordinator: str | None, count: int | None, index: int | None) -> None:
  """Joins this process with the others of a run; with None everywhere, jax asks the cluster (TPU, Slurm, ...).

  Args:
    coordinator: host:port of process 0.
    count: processes in all.
    index: of this one, from 0.
  """
  jax.distributed.initialize(coordinator, count, index)
