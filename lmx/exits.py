# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Exit codes of lmx's processes, and ending a process at once with one message.

| code | meaning |
|---|---|
| 0 | done: a run has reached its end |
| 1 | an unexpected error, with its traceback |
| 2 | a mistake in the input: the message says which, starting again does not help |
| 74 | the disk is full, read-only or has lost files: the same command resumes the run when that is fixed |
| 75 | another process of the run was lost, stopped or never started: start all of them again |
| 78 | the processes of a run were started with different configs, code, tokenizers or data |
| 85 | a signal stopped a run and it was saved: the same command resumes it |
| 130, 143 | Ctrl-C, SIGTERM: there was nothing new to save, or it was the second one |

When one process of several ends with a code other than 0, the others end with the same one. Imports no jax.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

from lmx.errors import DifferentProcessesError, LmxError, LostProcessError, StorageError

DONE = 0
FAILED = 1
MISTAKE = 2
STORAGE = 74  # EX_IOERR of sysexits.h.
LOST_PROCESS = 75  # EX_TEMPFAIL of sysexits.h: trying again may succeed.
DIFFERENT_PROCESSES = 78  # EX_CONFIG of sysexits.h.
SAVED = 85  # What HTCondor's self-checkpointing jobs end with.
SIGNALLED = 128  # Plus the signal's number, as shells count.
INTERRUPTED = SIGNALLED + 2

T = TypeVar("T")
_PATIENCE = 3.0  # Seconds that each last action may take: a disk or another process may hang.
_ending = threading.Lock()
_saved: list[Callable[[], str]] = []
_farewells: dict[str, Callable[[int, str], None]] = {}


def code_of(error: BaseException) -> int:
  """The exit code that an error ends a process with."""
  if isinstance(error, LostProcessError):
    return LOST_PROCESS
  if isinstance(error, StorageError):
    return STORAGE
  if isinstance(error, DifferentProcessesError):
    return DIFFERENT_PROCESSES
  if isinstance(error, KeyboardInterrupt):
    return INTERRUPTED
  return MISTAKE if isinstance(error, LmxError) else FAILED


def set_safe_step(sentence: Callable[[], str]) -> None:
  """Makes `safe()` return this function's sentence: up to which step the run is saved."""
  _saved[:] = [sentence]


def before_leaving(farewell: Callable[[int, str], None] | None, name: str = "processes") -> None:
  """Calls `farewell(code, message)` whenever this process ends by `leave`; None: no more.

  Args:
    farewell: for the other processes of the run, or whoever watches it.
    name: of the farewell; a later one of the same name takes its place.
  """
  _farewells.pop(name, None)
  if farewell is not None:
    _farewells[name] = farewell


def safe() -> str:
  """Up to which step the run is saved, as a sentence; "" if that is not known or the disk does not answer."""
  return _within_patience(lambda: " ".join(sentence() for sentence in _saved)) or ""


def leave(code: int, text: str) -> NoReturn:
  """Ends the process at once, from any thread, after printing one message; a second caller never returns.

  It waits for no thread, destructor or exit handler, since any of them may be waiting for a process that is gone.

  Args:
    code: the exit code.
    text: the message, for stderr.
  """
  if not _ending.acquire(blocking=False):
    while True:
      threading.Event().wait(60)  # The thread that came first is ending the process.
  _within_patience(sys.stdout.flush)  # The main thread may hold its lock.
  os.write(2, f"\n{text}\n".encode(errors="replace"))
  _within_patience(lambda: [farewell(code, text) for farewell in list(_farewells.values())])
  os._exit(code)


def end(code: int) -> NoReturn:
  """Flushes the output and ends the process at once, without exit handlers."""
  for stream in (sys.stdout, sys.stderr):
    _within_patience(stream.flush)
  os._exit(code)


def _within_patience(work: Callable[[], T]) -> T | None:
  """The value that `work` returns; None if it fails or does not return in time."""
  found: list[T] = []

  def attempt() -> None:
    try:
      found.append(work())
    except Exception:
      return

  thread = threading.Thread(target=attempt, daemon=True)
  thread.start()
  thread.join(_PATIENCE)
  return found[0] if found else None
