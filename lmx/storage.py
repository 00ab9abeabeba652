# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Errors of disks as one message: full, read-only, over a quota, or without what was on them. Imports no jax."""

import asyncio
import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from lmx.errors import LmxError, StorageError
from lmx.exits import safe
from lmx.units import human_bytes
from lmx.writing import free_bytes

# OSErrors of networks, other processes and pipes, which say nothing about a disk.
_ELSEWHERE = (ConnectionError, TimeoutError, ChildProcessError, ProcessLookupError, InterruptedError)
# TensorStore, which writes the arrays of checkpoints, raises ValueErrors that begin like this.
_ARRAYS = re.compile(r"[A-Z_]+: Error (reading|writing|opening|deleting|listing) ")
_DETAILS = re.compile(r" \[(tensorstore_spec|source locations)=.*", re.DOTALL)
_FIX = "Fix: free some space there, or bring back what was there; the same command then resumes the run."


@contextlib.contextmanager
def naming_disk_errors(folder: Path) -> Iterator[None]:
  """Turns an error of the disk into one message: what failed, how much is free, up to which step the run is safe.

  Args:
    folder: the run's, which need not exist.

  Raises:
    StorageError: what was written or read could not be.
  """
  try:
    yield
  except Exception as error:
    what = disk_problem(error)
    if what is None:
      raise
    free, there = free_bytes(folder)
    said = f"{what} ({human_bytes(free)} free in {there})."
    raise StorageError(" ".join(filter(None, (said, safe(), _FIX)))) from error


def disk_problem(error: BaseException | None) -> str | None:
  """What an error, or the first of those that it followed, says about a disk; None where it is another's fault."""
  found = None
  if isinstance(error, LmxError):
    return None
  while error is not None:
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, _ELSEWHERE):
      found = f"{error.filename or 'a file'}: {error.strerror}"
    elif isinstance(error, ValueError) and _ARRAYS.match(text := str(error)):
      found = _DETAILS.sub("", text)[:500]
    error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
  return found


def quiet_background() -> None:
  """Leaves errors of background saves to the thread that waits for them: it raises them again, once.

  Without this, one failed save of Orbax prints dozens of tracebacks of its own before lmx says what happened.
  """
  logger = logging.getLogger("absl")
  for place in (logger, *logger.handlers):
    place.addFilter(lambda record: not record.exc_info)
  before = sys.unraisablehook

  def say(unraisable: "sys.UnraisableHookArgs") -> None:
    # TensorStore's C++ reports here that the event loop of a save that failed is closed; no Python code called it.
    trace = unraisable.exc_traceback
    if trace is None or trace.tb_frame.f_code is not asyncio.BaseEventLoop.call_soon_threadsafe.__code__:
      before(unraisable)

  sys.unraisablehook = say
