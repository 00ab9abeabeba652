# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Digests: what proves that the files of a cache, and those it was made from, are still the ones that were written.

A cache folder has two files next to its data. `digests.json` holds the SHA-256 of every file in the folder, computed
while it was written, and of every source file. `stamps.json` holds what is compared on every start: size, times and a
digest of samples. A file that has its stamp is taken for unchanged; one that hasn't is read whole. Changing what is in
a file always changes its ctime, which neither `cp -p` nor `tar` can set.
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
SAMPLES, SAMPLE_BYTES = 16, 4096  # Of a file: its head, its tail, and places between, evenly spread.
_DIGITS = 32  # Hexadecimal digits of a SHA-256 that are kept: 128 bits.
_BLOCK = 1 << 20


class CacheWriteError(storage.WriteError):
  """A cache could not be written: the disk is full, or the folder may only be read."""


def write_errors(path: Path) -> AbstractContextManager[None]:
  """Makes an OSError of the block a `CacheWriteError` that says where, why and how much is free."""
  return storage.write_errors(
    path, subject="config.data.cache_dir", after=lambda: "Nothing half-written is kept.",
    fix=lambda: "free some space, or --config.data.cache_dir=PATH elsewhere.", kind=CacheWriteError,
  )  # fmt: skip


def digest_of(*parts: Any) -> str:
  """The digest of JSON values."""
  text = json.dumps(parts, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def file_digest(path: Path) -> str:
  """The digest of a whole file; about half a second for each GB."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def sample_digest(path: Path) -> str:
  """The digest of `SAMPLES` places of a file; of all of it where it is no larger than they are."""
  size = path.stat().st_size
  last = max(0, size - SAMPLE_BYTES)
  starts = range(0, size, SAMPLE_BYTES) if size <= SAMPLES * SAMPLE_BYTES else np.linspace(0, last, SAMPLES).astype(int)
  state = hashlib.sha256()
  with path.open("rb", buffering=0) as file:
    for start in starts:
      state.update(os.pread(file.fileno(), SAMPLE_BYTES, int(start)))
  return state.hexdigest()[:_DIGITS]


def stamp_of(path: Path) -> list[Any]:
  """[bytes, mtime, ctime, digest of samples]: what is compared on every start."""
  stat = path.stat()
  return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, sample_digest(path)]


class DigestFile:
  """A new file whose digest is computed while it is written.

  Raises:
    CacheWriteError: the disk is full, or the folder may only be read.
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
    """Waits until the file is on the disk; returns the digest of what was to be written."""
    with write_errors(self.path), self._file:
      self._file.flush()
      os.fsync(self._file.fileno())
      if hasattr(os, "posix_fadvise"):  # So that reading it again reads the disk.
        os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return self._state.hexdigest()[:_DIGITS]

  def abandon(self) -> None:
    """Closes the file without caring for what is in it."""
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
class Sources:
  """The files that something is made from, as they were before they were read.

  Attributes:
    digests: path -> [bytes, digest of the whole file].
    stamps: path -> `stamp_of` it.
  """

  digests: dict[str, list[Any]]
  stamps: dict[str, list[Any]]

  @classmethod
  def of(cls, paths: Iterable[Path]) -> "Sources":
    """Reads every file once.

    Raises:
      LmxError: one can't be read.
    """
    digests, stamps = {}, {}
    for path in dict.fromkeys(map(_resolved, paths)):
      with _read_errors(path):
        stamps[path] = stamp_of(Path(path))
        digests[path] = [stamps[path][0], file_digest(Path(path))]
    return cls(digests, stamps)

  def check_unchanged(self) -> None:
    """Whether the files are what they were.

    Raises:
      LmxError: one was written to while it was read.
    """
    for path, stamp in self.stamps.items():
      with _read_errors(path):
        if stamp_of(Path(path)) != stamp:
          raise LmxError(f"{path} changed while it was read. Fix: start again when nothing writes to it any more.")


def _resolved(path: Path) -> str:
  return str(path.resolve())


@contextmanager
def _read_errors(path: str, *meant: type[OSError]) -> Iterator[None]:
  """Makes an OSError of the block an `LmxError`, but for those that are meant."""
  try:
    yield
  except OSError as error:
    if isinstance(error, meant):
      raise
    raise LmxError(f"{path} cannot be read: {error.strerror or error}") from error


# ---------------------------------------------------------------- folders


def seal(folder: Path, sources: Sources, written: Mapping[str, str]) -> None:
  """Records the digests of a folder that is complete, after reading it back from the disk.

  Args:
    folder: no file in it will change.
    sources: what it was made from.
    written: name -> digest of the files that were written by `DigestFile`; those of others are computed now.

  Raises:
    LmxError: what is on the disk is not what was written, or a source changed while it was read.
  """
  sources.check_unchanged()
  files = {}
  for path in _files(folder):
    name = path.relative_to(folder).as_posix()
    with write_errors(path):
      files[name] = [path.stat().st_size, file_digest(path)]
    if files[name][1] != written.get(name, files[name][1]):
      raise LmxError(f"{path}: what was read back is not what was written. Fix: another disk, --config.data.cache_dir.")
  record = {"files": files, "sources": sources.digests}
  save_text(folder / DIGESTS, json.dumps({"digest": digest_of(record), **record}))
  save_text(folder / STAMPS, json.dumps({**sources.stamps, **{name: stamp_of(folder / name) for name in files}}))


def _files(folder: Path) -> list[Path]:
  return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (DIGESTS, STAMPS))


def read_record(folder: Path) -> dict[str, Any]:
  """{"files": {name: [bytes, digest]}, "sources": {path: [bytes, digest]}} of a folder.

  Raises:
    DamageError: it is not there, or not as it was written.
    LmxError: it is there and can't be read.
  """
  try:
    with _read_errors(str(folder / DIGESTS), FileNotFoundError):
      record = json.loads((folder / DIGESTS).read_text())
    kept = record.pop("digest")
  except (FileNotFoundError, ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
    raise DamageError(f"{DIGESTS} cannot be read ({type(error).__name__})") from error
  if kept != digest_of(record):
    raise DamageError(f"{DIGESTS} is not what was written")
  return record


class DamageError(Exception):
  """Why a cache folder can't be used: what is wrong with which file."""


def check_folder(folder: Path, *, whole: bool = False, with_sources: bool = True) -> int:
  """Compares a folder and the files it was made from with their digests; returns the bytes of the folder's files.

  A file whose stamp fits is believed, one without is read whole; if it is as it was, its new stamp is kept.

  Args:
    folder: sealed.
    whole: read every file of the folder, whatever its stamp.
    with_sources: look at the files it was made from too.

  Raises:
    DamageError: the first file that differs.
    LmxError: a file is there and can't be read.
  """
  record, stamps = read_record(folder), _read_stamps(folder)
  fresh = dict(stamps)
  for name, kept in record["files"].items():
    fresh[name] = _check_file(folder / name, kept, None if whole else stamps.get(name), "is damaged")
  for name, kept in record["sources"].items() if with_sources else ():
    fresh[name] = _check_file(Path(name), kept, stamps.get(name), "changed")
  if fresh != stamps:
    _keep_stamps(folder, fresh)
  return sum(size for size, _ in record["files"].values())


def _check_file(path: Path, kept: list[Any], stamp: list[Any] | None, what: str) -> list[Any]:
  """The stamp of a file that is as it was; it is read whole unless it has the stamp that is given."""
  size, digest = kept
  if not path.is_file():
    raise DamageError(f"{path} {what}: it is not there")
  with _read_errors(str(path)):  # A disk or network that fails is no reason to remove anything.
    found = stamp_of(path)
    if found[0] != size:
      raise DamageError(f"{path} {what}: it has {found[0]:,} bytes, and had {size:,}")
    if found != stamp and file_digest(path) != digest:
      raise DamageError(f"{path} {what}: its size is the same and its contents are not")
  return found


def _read_stamps(folder: Path) -> dict[str, Any]:
  try:
    stamps = json.loads((folder / STAMPS).read_text())
  except (OSError, ValueError):
    return {}  # Everything is read then.
  return stamps if isinstance(stamps, dict) else {}


def _keep_stamps(folder: Path, stamps: Mapping[str, Any]) -> None:
  partial = folder / f"{STAMPS}.{os.getpid()}"
  try:
    partial.write_text(json.dumps(stamps))
    partial.replace(folder / STAMPS)
  except OSError:
    partial.unlink(missing_ok=True)  # A cache that may only be read is read whole the next time too.
