# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Settings of jax itself that a run makes once, before it compiles anything; and how its processes find each other."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from lmx.errors import LmxError, LostProcessError, message

AUTO = "auto"  # As a coordinator: the cluster says who belongs to the run (TPU pods, Slurm, Open MPI, Kubernetes).
T = TypeVar("T")
BARRIER_SECONDS = 600  # The slowest process may come so much later than the first.
_LOST = re.compile(r"(?i)gloo|nccl|connection|peer|heartbeat|coordination|unavailable|deadline|barrier")


def use_compilation_cache(folder: str) -> None:
  """Keeps compiled programs in `folder` between processes, so that a second start need not compile; "" does not."""
  if not folder:
    return
  path = Path(folder).expanduser()
  path.mkdir(parents=True, exist_ok=True)
  jax.config.update("jax_compilation_cache_dir", str(path))
  # Reading a program back takes milliseconds; what compiles faster than this is not worth a file.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@contextlib.contextmanager
def without_compilation_cache() -> Iterator[None]:
  """Without JAX's persistent cache, which takes programs for devices that aren't here, but can't give them back."""
  enabled = jax.config.values["jax_enable_compilation_cache"]
  jax.config.update("jax_enable_compilation_cache", False)
  reset_cache()  # JAX looks at the setting once, at the first compilation of a process.
  try:
    yield
  finally:
    jax.config.update("jax_enable_compilation_cache", enabled)
    reset_cache()


def start_processes(coordinator: str | None, count: int | None, index: int | None) -> None:
  """Joins this process with the others of a run. Nothing may have touched jax's devices yet.

  Without arguments the run is this one process. CPUs talk to each other through Gloo, over TCP.

  Args:
    coordinator: host:port of process 0, free there and reachable from all; or "auto".
    count: processes in all.
    index: of this one, from 0.

  Raises:
    LmxError: only some of them are given, or they don't fit each other.
  """
  if coordinator is None and count is None and index is None:
    return
  if coordinator == AUTO:
    if count is not None or index is not None:
      raise LmxError("--coordinator=auto: the cluster knows. Fix: leave out --process-count and --process-index.")
    jax.distributed.initialize()
    return
  if coordinator is None or count is None or index is None:
    given = {"--coordinator": coordinator, "--process-count": count, "--process-index": index}
    missing = [flag for flag, value in given.items() if value is None]
    raise LmxError(
      "A run of several processes needs --coordinator, --process-count and --process-index; missing: "
      f"{', '.join(missing)}. Fix: --coordinator=HOST:PORT --process-count=2 --process-index=0 (and 1 on the other)"
    )
  _, colon, port = coordinator.rpartition(":")
  if not colon or not port.isdigit():
    raise LmxError(message("--coordinator", got=coordinator, allowed="host:port of process 0, or auto"))
  if count < 1:
    raise LmxError(message("--process-count", got=count, allowed="at least 1"))
  if not 0 <= index < count:
    raise LmxError(message("--process-index", got=index, allowed=f"0 to {count - 1}, as --process-count is {count}"))
  jax.distributed.initialize(coordinator, count, index)


def is_first_process() -> bool:
  """Whether this is process 0, which alone prints and writes what isn't a checkpoint."""
  return jax.process_index() == 0


def first_process_first(work: Callable[[], T]) -> T:
  """Does `work` in process 0 and then in the others, which find in the cache what it has made.

  Raises:
    LmxError: what `work` raised; in the other processes, that process 0 failed, so that none waits for it.
  """
  if jax.process_count() == 1:
    return work()
  done: list[T] = []
  failure: LmxError | None = None
  if is_first_process():
    try:
      done = [work()]
    except LmxError as error:
      failure = error
  failed = bool(multihost_utils.broadcast_one_to_all(np.asarray(failure is not None)))
  if failure is not None:
    raise failure
  if failed:
    raise LmxError("Process 0 stopped; its own message says why.")
  return done[0] if done else work()


def wait_for_all(place: str) -> None:
  """Returns when every process has come to `place`.

  Raises:
    LostProcessError: after `BARRIER_SECONDS`, with those that have not come.
  """
  if jax.process_count() == 1:
    return
  client: Any = distributed.global_state.client
  try:
    client.wait_at_barrier(f"lmx: {place}", BARRIER_SECONDS * 1000)
  except jax.errors.JaxRuntimeError as error:
    raise LostProcessError(
      f"not every process came to {place!r} within {BARRIER_SECONDS} s. {str(error)[:600]}"
    ) from error


@contextlib.contextmanager
def noticing_lost_processes(saved: Callable[[], str]) -> Iterator[None]:
  """Turns the error of a collective whose other end has gone into one that says so.

  Args:
    saved: says what of the run is safe.

  Raises:
    LostProcessError: another process has ended or does not answer.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if jax.process_count() == 1 or not _LOST.search(str(error)):
      raise
    raise LostProcessError(
      f"another of the {jax.process_count()} processes has ended, or does not answer: {str(error)[:200]}. {saved()} "
      "Fix: look at its own output, then start all of them again with the same command."
    ) from error
