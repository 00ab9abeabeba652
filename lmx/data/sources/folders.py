# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Cache folders that are whole or not there at all, and are made again when they are damaged."""

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lmx.console import console
from lmx.data.digests import CacheWriteError, DamageError, Sources, check_folder, seal, write_errors
from lmx.errors import LmxError

_ATTEMPTS = 3


def cache_name(*parts: str) -> str:
  """A folder name that a person can read, ending in the first half of a hash (the last part)."""
  readable = [re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_.")[-40:] for part in parts[:-1]]
  return "-".join([*readable, parts[-1][:16]])


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
  """A folder to write into, which gets its name when the block ends well and is removed when it does not.

  When another process has finished the same folder first, its result stays.

  Raises:
    CacheWriteError: the disk is full, or the folder may only be read.
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
  """Makes sure that a cache folder is there and is what was written; returns whether it was there before.

  One that is damaged, or whose sources changed, is named, removed and made again.

  Args:
    folder: of the cache.
    sources: the files that it is made from.
    make: fills an empty folder; returns the digests of the files as they were written, see `digests.seal`.

  Raises:
    CacheWriteError: it can't be written, or a damaged one can't be removed.
    LmxError: it is damaged again each time it was made.
  """
  sources, made, why = list(sources), False, ""
  for _ in range(_ATTEMPTS):
    if folder.exists():
      try:
        check_folder(folder)
        return not made
      except DamageError as error:
        why = str(error)
        console().print(f"cache: {why}; {folder} is made again", markup=False)
        discard(folder, why)
    before = Sources.of(sources)
    with replacing(folder) as partial:
      seal(partial, before, make(partial))
    made = True
  check = "Fix: another disk, --config.data.cache_dir=PATH"
  raise LmxError(f"The cache {folder} was made {_ATTEMPTS} times and is damaged: {why}. {check}")


def discard(folder: Path, why: str) -> None:
  """Removes a cache folder, at once for all that look for it. Who has it open can still read it.

  Raises:
    CacheWriteError: it may not be removed.
  """
  try:
    trash = Path(tempfile.mkdtemp(prefix=_partial_prefix(folder), dir=folder.parent))
    folder.rename(trash / folder.name)
  except FileNotFoundError:
    return  # Another process was faster.
  except OSError as error:
    text = f"The cache {folder} can't be used: {why}; and it can't be removed: {error.strerror}."
    raise CacheWriteError(f"{text} Fix: remove it; it will be made again.") from error
  shutil.rmtree(trash, ignore_errors=True)


def _partial_mark() -> str:
  return f".partial-{socket.gethostname()}-"


def _partial_prefix(folder: Path) -> str:
  return f"{folder.name}{_partial_mark()}{os.getpid()}-"


def _remove_abandoned(parent: Path) -> None:
  """Removes what processes of this machine that are gone have left half-written."""
  mark = _partial_mark()
  for path in parent.glob(f"*{mark}*"):
    pid = path.name.rpartition(mark)[2].partition("-")[0]
    try:
      os.kill(int(pid), 0)
    except ProcessLookupError:
      shutil.rmtree(path, ignore_errors=True)
    except (PermissionError, ValueError):
      continue
