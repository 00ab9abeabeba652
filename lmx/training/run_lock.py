# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Lock of a run's folder: one command at a time writes to it, and a dead process does not keep the lock.

On one machine the lock is the operating system's lock on the file, which ends with the process. Between machines, and
on file systems without such locks, it is a heartbeat: the holder touches the file every few seconds. The lock of a run
in a bucket is in bucket_lock.py.
"""

import datetime
import errno
import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from lmx.errors import LmxError

try:
  import fcntl
except ImportError:  # Windows.
  fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"
HEARTBEAT_SECONDS = 5.0
DEAD_AFTER_SECONDS = 30.0  # A holder on another machine counts as dead this long after its last heartbeat.


class RunLockedError(LmxError):
  """Another command is writing to the run folder."""


class RunLock:
  """The lock of one run's folder, a context manager for the first process of a run.

  Raises:
    RunLockedError: another command holds it.
    OSError: the file can't be written.
  """

  def __init__(self, run_dir: Path):
    self._path = run_dir / LOCK_FILE
    self._file: int | None = None
    self._made = not run_dir.exists()
    self._over = threading.Event()

  def __enter__(self) -> "RunLock":
    self._take()
    threading.Thread(target=self._beat, daemon=True).start()
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    self._over.set()
    if self._file is not None:
      with suppress(OSError):
        os.truncate(self._file, 0)
      if self._made:  # A folder in which nothing was started is removed again.
        with suppress(OSError):
          if os.listdir(self._path.parent) == [LOCK_FILE]:
            self._path.unlink()
            self._path.parent.rmdir()
      with suppress(OSError):
        os.close(self._file)

  def take_again(self) -> None:
    """Takes the lock again if the file was deleted or moved away while it was held.

    Raises:
      RunLockedError: another command has taken it meanwhile.
      OSError: the file can't be written.
    """
    try:
      same = self._file is not None and os.path.samestat(os.fstat(self._file), self._path.stat())
    except OSError:
      same = False
    if not same:
      old, self._file = self._file, None
      if old is not None:
        os.close(old)
      self._take()

  def _take(self) -> None:
    self._path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
      locked = _system_lock(file)
      holder = _read(file)
      if locked is False or (holder and not self._is_dead(holder, file, locked)):
        raise RunLockedError(in_use(self._path.parent, holder))
      record = {"host": socket.gethostname(), "process": os.getpid(), "since": time.time()}
      os.truncate(file, 0)
      os.pwrite(file, json.dumps(record).encode(), 0)
    except BaseException:
      os.close(file)
      raise
    self._file = file

  def _is_dead(self, holder: dict[str, Any], file: int, locked: bool | None) -> bool:
    """Whether the holder in the file is dead. `locked`: this process has the system's lock; None: there is none."""
    if holder.get("host") == socket.gethostname():
      return bool(locked) or not is_alive(holder.get("process"))
    return time.time() - os.fstat(file).st_mtime > DEAD_AFTER_SECONDS

  def _beat(self) -> None:
    while not self._over.wait(HEARTBEAT_SECONDS):
      with suppress(OSError, TypeError):
        os.utime(self._file)  # type: ignore[arg-type]


def _system_lock(file: int) -> bool | None:
  """Whether the operating system's lock was acquired; None where it has none for this file."""
  if fcntl is None:
    return None
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
  return True


def is_alive(process: Any) -> bool:
  """Whether a process of this machine, other than this one, is alive."""
  if not isinstance(process, int) or process == os.getpid():
    return False
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except OSError:
    return True
  return True


def _read(file: int) -> dict[str, Any]:
  try:
    record = json.loads(os.pread(file, 4096, 0))
  except ValueError:
    return {}
  return record if isinstance(record, dict) else {}


def in_use(run_dir: Path, holder: dict[str, Any]) -> str:
  """The message about a folder that another command has locked."""
  host, process, since = holder.get("host", "unknown"), holder.get("process", "unknown"), holder.get("since")
  started = datetime.datetime.fromtimestamp(since).strftime("%Y-%m-%d %H:%M:%S") if isinstance(since, float) else "?"
  there = "" if host == socket.gethostname() else (
    f" If that process is dead, the lock lapses {DEAD_AFTER_SECONDS:.0f} s after its last sign of life."
  )  # fmt: skip
  return (
    f"{run_dir} is in use: process {process} on {host} has been training in it since {started}.{there} "
    "Fix: wait for it, stop it, or --workdir=PATH for another run."
  )
