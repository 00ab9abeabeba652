# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Cache folders: complete or absent, and made again when they are damaged."""

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from lmx.console import console
from lmx.data.digests import CacheWriteError, DamageError, SourceSnapshot, check_folder, seal, write_errors
from lmx.errors import LmxError

try:
  import fcntl
except ImportError:  # Windows.
  fcntl = None  # type: ignore[assignment]

_ATTEMPTS = 3
Identity = tuple[int, int, int]


def cache_name(*parts: str) -> str:
  """A readable folder name that ends in the first 16 digits of a hash (the last part)."""
  readable = [re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_.")[-40:] for part in parts[:-1]]
  return "-".join([*readable, parts[-1][:16]])


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
  """A temporary folder to write into: renamed to `folder` if the block succeeds, removed if it raises.

  If another process finished the same folder first, its result stays.

  Raises:
    CacheWriteError: the disk is full, or the folder is read-only.
  """
  with write_errors(folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    partial = Path(tempfile.mkdtemp(prefix=_partial_prefix(folder), dir=folder.parent))
  try:
    yield partial
    with write_errors(folder):
      partial.chmod(0o755)
      try:
        partial.rename(folder)
      except OSError:
        if not folder.exists():
          raise
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def cached(folder: Path, sources: Iterable[Path], make: Callable[[Path], Mapping[str, str]]) -> bool:
  """Makes a cache folder unless it exists and matches its digests; returns whether it existed.

  One that is damaged, or whose sources changed, is reported, removed and made again.

  Args:
    folder: of the cache.
    sources: the files that it is made from.
    make: fills an empty folder; returns the digests of the files as they were written, see `digests.seal`.

  Raises:
    CacheWriteError: it can't be written, or a damaged one can't be removed.
    LmxError: it is damaged every time it is made.
  """
  sources, made, why = list(sources), False, ""
  for _ in range(_ATTEMPTS):
    judged = _identity(folder)
    if judged:
      try:
        check_folder(folder)
        return not made
      except DamageError as error:
        why = str(error)
        if not discard(folder, why, judged):
          continue  # Another process has replaced it: that one is checked next.
        console().print(f"cache: {why}; making {folder} again", markup=False)
    before = SourceSnapshot.of(sources)
    with replacing(folder) as partial:
      seal(partial, before, make(partial))
    made = True
  check = "Fix: another disk, --config.data.cache_dir=PATH"
  raise LmxError(f"The cache {folder} was made {_ATTEMPTS} times and is still damaged: {why}. {check}")


def discard(folder: Path, why: str, judged: Identity) -> bool:
  """Removes a cache folder atomically: it is renamed first. Processes that have it open can still read it.

  Args:
    folder: of the cache.
    why: the reason, for the message if it can't be removed.
    judged: the folder that was found damaged; one that has taken its place stays.

  Returns:
    False if another folder has taken its place.

  Raises:
    CacheWriteError: it can't be removed.
  """
  trash = None
  try:
    with _locked(folder.parent):
      if _identity(folder) not in (judged, None):
        return False
      trash = Path(tempfile.mkdtemp(prefix=_partial_prefix(folder), dir=folder.parent))
      folder.rename(trash / folder.name)
  except FileNotFoundError:
    pass  # Another process removed it first.
  except OSError as error:
    text = f"The cache {folder} can't be used ({why}), and it can't be removed: {error.strerror}."
    raise CacheWriteError(f"{text} Fix: rm -r {folder}; lmx makes it again.") from error
  finally:
    if trash:
      shutil.rmtree(trash, ignore_errors=True)
  return True


def _identity(folder: Path) -> Identity | None:
  """What tells a folder from one that takes its place; None if there is none."""
  try:
    stat = folder.stat()
  except (FileNotFoundError, NotADirectoryError):  # As `Path.exists` counts them.
    return None
  return stat.st_dev, stat.st_ino, stat.st_ctime_ns


@contextmanager
def _locked(parent: Path) -> Iterator[None]:
  """Lets one process at a time remove cache folders, on file systems that lock folders."""
  descriptor = os.open(parent, os.O_RDONLY)
  try:
    if fcntl is not None:
      with suppress(OSError):  # Network file systems may not lock folders.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
  finally:
    os.close(descriptor)  # Also releases the lock.


def _partial_mark() -> str:
  return f".partial-{socket.gethostname()}-"


def _partial_prefix(folder: Path) -> str:
  return f"{folder.name}{_partial_mark()}{os.getpid()}-"


def _remove_abandoned(parent: Path) -> None:
  """Removes unfinished folders of processes on this machine that have ended."""
  mark = _partial_mark()
  for path in parent.glob(f"*{mark}*"):
    pid = path.name.rpartition(mark)[2].partition("-")[0]
    try:
      os.kill(int(pid), 0)  # Signal 0 only checks that the process exists.
    except ProcessLookupError:
      shutil.rmtree(path, ignore_errors=True)
    except (PermissionError, ValueError):
      continue
