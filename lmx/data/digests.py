# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Digests that detect changes to the files of a cache, and to the files that it was made from.

A cache folder has two files next to its data. `digests.json` holds the SHA-256 of every file in the folder, computed
while it was written, and of every source file. `stamps.json` holds what is compared on every start: size, times and a
digest of samples. A file that matches its stamp is assumed to be unchanged; one that doesn't is read completely.
Changing the contents of a file always changes its ctime, which neither `cp -p` nor `tar` can set.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lmx import storage
from lmx.errors import LmxError

DIGESTS, STAMPS = "digests.json", "stamps.json"
SAMPLES, SAMPLE_BYTES = 16, 4096  # Samples of a file, evenly spaced from its head to its tail.
_DIGITS = 32  # Hexadecimal digits of a SHA-256 that are stored: 128 bits.


class CacheWriteError(storage.WriteError):
  """A cache can't be written: the disk is full, or the folder is read-only."""


def write_errors(path: Path) -> AbstractContextManager[None]:
  """Turns an OSError of the block into a `CacheWriteError` with the path, the reason and the free space."""
  return storage.write_errors(
    path, subject="config.data.cache_dir", after=lambda: "Nothing incomplete is left behind.",
    fix=lambda: "free some space, or --config.data.cache_dir=PATH elsewhere.", kind=CacheWriteError,
  )  # fmt: skip


def digest_of(*parts: Any) -> str:
  """The digest of JSON values."""
  text = json.dumps(parts, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def file_digest(path: Path) -> str:
  """The digest of a complete file; about half a second per GB."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def sample_digest(path: Path) -> str:
  """The digest of `SAMPLES` samples of a file; of the complete file if it isn't larger than they are."""
  size = path.stat().st_size
  last = max(0, size - SAMPLE_BYTES)
  starts = range(0, size, SAMPLE_BYTES) if size <= SAMPLES * SAMPLE_BYTES else np.linspace(0, last, SAMPLES).astype(int)
  state = hashlib.sha256()
  with path.open("rb", buffering=0) as file:
    for start in starts:
      state.update(os.pread(file.fileno(), SAMPLE_BYTES, int(start)))
  return state.hexdigest()[:_DIGITS]


def stamp_of(path: Path) -> list[Any]:
  """[bytes, mtime in ns, ctime in ns, digest of samples]: compared on every start."""
  stat = path.stat()
  return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, sample_digest(path)]


class DigestFile:
  """A new file whose digest is computed while it is written.

  Raises:
    CacheWriteError: the disk is full, or the folder is read-only.
  """

  def __init__(self, path: Path):
    self.path = path
    self._state = hashlib.sha256()
    with write_errors(path):
      self._file: BinaryIO = path.open("wb")

  def write(self, data: Any) -> int:
    """Appends bytes; NumPy's `save` calls it as well."""
    self._state.update(data)
    with write_errors(self.path):
      return self._file.write(data)

  def close(self) -> str:
    """Flushes the file to the disk; returns the digest of the data that was passed to `write`."""
    with write_errors(self.path), self._file:
      self._file.flush()
      os.fsync(self._file.fileno())
      if hasattr(os, "posix_fadvise"):  # So that reading it back reads the disk and not the page cache.
        os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return self._state.hexdigest()[:_DIGITS]

  def abandon(self) -> None:
    """Closes the file, ignoring errors, because its contents won't be used."""
    with suppress(OSError):
      self._file.close()


def save_array(path: Path, array: np.ndarray) -> str:
  """`np.save`; returns the file's digest."""
  file = DigestFile(path)
  try:
    np.save(file, array)
    return file.close()
  finally:
    file.abandon()


def save_text(path: Path, text: str) -> str:
  """Writes a text in UTF-8; returns the file's digest."""
  file = DigestFile(path)
  try:
    file.write(text.encode())
    return file.close()
  finally:
    file.abandon()


# ---------------------------------------------------------------- sources


@dataclasses.dataclass(frozen=True)
class SourceSnapshot:
  """The state of source files before they are read.

  Attributes:
    digests: path -> [bytes, digest of the complete file].
    stamps: path -> its `stamp_of`.
  """

  digests: dict[str, list[Any]]
  stamps: dict[str, list[Any]]

  @classmethod
  def of(cls, paths: Iterable[Path]) -> "SourceSnapshot":
    """Reads every file once.

    Raises:
      LmxError: a file can't be read.
    """
    digests, stamps = {}, {}
    for path in dict.fromkeys(map(_resolved, paths)):
      with _read_errors(path):
        stamps[path] = stamp_of(Path(path))
        digests[path] = [stamps[path][0], file_digest(Path(path))]
    return cls(digests, stamps)

  def check_unchanged(self) -> None:
    """Compares the files with the snapshot.

    Raises:
      LmxError: a file changed since then.
    """
    for path, stamp in self.stamps.items():
      with _read_errors(path):
        if stamp_of(Path(path)) != stamp:
          raise LmxError(f"{path} changed while it was read. Fix: start again once nothing writes to it anymore.")


def _resolved(path: Path) -> str:
  return str(path.resolve())


@contextmanager
def _read_errors(path: str, *excepted: type[OSError]) -> Iterator[None]:
  """Turns an OSError of the block into an `LmxError`, except for the given types."""
  try:
    yield
  except OSError as error:
    if isinstance(error, excepted):
      raise
    raise LmxError(f"{path} cannot be read: {error.strerror or error}") from error


# ---------------------------------------------------------------- folders


def seal(folder: Path, sources: SourceSnapshot, written: Mapping[str, str]) -> None:
  """Records the digests of a complete folder, after reading it back from the disk.

  Args:
    folder: whose files won't change anymore.
    sources: the files that it was made from.
    written: name -> digest of the files that were written by `DigestFile`; the digests of others are computed now.

  Raises:
    LmxError: the contents on disk differ from what was written, or a source changed while it was read.
  """
  sources.check_unchanged()
  files = {}
  for path in _files(folder):
    name = path.relative_to(folder).as_posix()
    with write_errors(path):
      files[name] = [path.stat().st_size, file_digest(path)]
    if files[name][1] != written.get(name, files[name][1]):
      raise LmxError(
        f"{path}: what was read back is not what was written. Fix: another disk, --config.data.cache_dir=PATH"
      )
  record = {"files": files, "sources": sources.digests}
  save_text(folder / DIGESTS, json.dumps({"digest": digest_of(record), **record}))
  save_text(folder / STAMPS, json.dumps({**sources.stamps, **{name: stamp_of(folder / name) for name in files}}))


def _files(folder: Path) -> list[Path]:
  return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (DIGESTS, STAMPS))


def read_record(folder: Path) -> dict[str, Any]:
  """{"files": {name: [bytes, digest]}, "sources": {path: [bytes, digest]}} of a folder.

  Raises:
    DamageError: the record is missing or damaged.
    LmxError: it exists and can't be read.
  """
  try:
    with _read_errors(str(folder / DIGESTS), FileNotFoundError):
      record = json.loads((folder / DIGESTS).read_text())
    kept = record.pop("digest")
  except (FileNotFoundError, ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
    raise DamageError(f"{DIGESTS} cannot be read ({type(error).__name__})") from error
  if kept != digest_of(record):
    raise DamageError(f"{DIGESTS} is damaged: it doesn't match its own digest")
  return record


class DamageError(Exception):
  """A cache folder can't be used; the message names the file and the reason."""


def check_folder(folder: Path, *, full: bool = False, with_sources: bool = True) -> int:
  """Compares a folder and the files it was made from with their digests; returns the bytes of the folder's files.

  A file that matches its stamp is trusted. Any other is read completely; if its contents are unchanged, its new stamp
  is saved.

  Args:
    folder: that `seal` recorded.
    full: read every file of the folder completely, even if it matches its stamp.
    with_sources: also check the files that the folder was made from.

  Raises:
    DamageError: the first file that differs.
    LmxError: a file exists and can't be read.
  """
  record, stamps = read_record(folder), _read_stamps(folder)
  fresh = dict(stamps)
  for name, kept in record["files"].items():
    fresh[name] = _check_file(folder / name, kept, None if full else stamps.get(name), "is damaged")
  for name, kept in record["sources"].items() if with_sources else ():
    fresh[name] = _check_file(Path(name), kept, stamps.get(name), "changed")
  if fresh != stamps:
    _keep_stamps(folder, fresh)
  return sum(size for size, _ in record["files"].values())


def _check_file(path: Path, kept: list[Any], stamp: list[Any] | None, what: str) -> list[Any]:
  """The stamp of an unchanged file, which is read completely unless it matches the given stamp.

  Args:
    path: of the file.
    kept: [bytes, digest], as recorded.
    stamp: as recorded; None: read the file in any case.
    what: the file's state if it differs, for the message ("is damaged").

  Raises:
    DamageError: the file is missing or its contents differ.
  """
  size, digest = kept
  try:
    if not path.is_file():
      raise FileNotFoundError(path)
    with _read_errors(str(path), FileNotFoundError):  # A failing disk or network isn't damage: nothing is removed.
      found = stamp_of(path)
      if found[0] != size:
        raise DamageError(f"{path} {what}: it has {found[0]:,} bytes instead of {size:,}")
      if found != stamp and file_digest(path) != digest:
        raise DamageError(f"{path} {what}: its size is the same and its contents are not")
  except FileNotFoundError as error:  # Also if another process removes the folder meanwhile.
    raise DamageError(f"{path} {what}: it is missing") from error
  return found


def _read_stamps(folder: Path) -> dict[str, Any]:
  try:
    stamps = json.loads((folder / STAMPS).read_text())
  except (OSError, ValueError):
    return {}  # Then every file is read.
  return stamps if isinstance(stamps, dict) else {}


def _keep_stamps(folder: Path, stamps: Mapping[str, Any]) -> None:
  partial = folder / f"{STAMPS}.{os.getpid()}"
  try:
    partial.write_text(json.dumps(stamps))
    partial.replace(folder / STAMPS)
  except OSError:
    partial.unlink(missing_ok=True)  # A read-only cache is read completely the next time too.
