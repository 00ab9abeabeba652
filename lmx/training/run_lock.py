# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""One command at a time in a run's folder: a lock that ends with the process that holds it, however that dies."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from lmx.config.run_config import LOCK_FILE
from lmx.errors import LmxError

_held: set[Path] = set()  # By this process, which may ask again.


@contextlib.contextmanager
def alone_in(run_dir: Path) -> Iterator[None]:
  """Holds the run's folder for this process, making it where it is missing, for as long as the block takes.

  The lock is the system's (flock), on local disks and NFS; where a disk has none, nothing is held. A folder that was
  made here and is still empty afterwards is removed.

  Raises:
    LmxError: another process trains there; it says which, and since when.
  """
  key = run_dir.absolute()
  if key in _held:
    yield
    return
  made = not run_dir.exists()
  run_dir.mkdir(parents=True, exist_ok=True)
  descriptor = _locked(run_dir / LOCK_FILE)
  _held.add(key)
  try:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    with contextlib.suppress(OSError):  # A full disk: the lock holds all the same.
      os.write(descriptor, json.dumps(holder).encode())
    yield
  finally:
    _held.discard(key)
    with contextlib.suppress(OSError):
      (run_dir / LOCK_FILE).unlink(missing_ok=True)
      if made:
        run_dir.rmdir()
    os.close(descriptor)


def _locked(file: Path) -> int:
  """A descriptor of the file, which is locked and, since it was opened, not replaced."""
  while True:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      os.close(descriptor)
      raise LmxError(
        f"{file.parent} is in use: {_holder(file)}. Fix: wait until it has ended or stop it, or train in another "
        "folder with --workdir."
      ) from None
    except OSError:
      return descriptor  # This disk has no locks.
    with contextlib.suppress(FileNotFoundError):
      if os.fstat(descriptor).st_ino == file.stat().st_ino:
        os.ftruncate(descriptor, 0)
        return descriptor
    os.close(descriptor)  # Its holder has just removed it.


def _holder(file: Path) -> str:
  try:
    holder = json.loads(file.read_text())
    return f"process {holder['pid']} on {holder['host']} has trained there since {holder['since']}"
  except (OSError, ValueError, KeyError, TypeError):
    return "another process trains there"
