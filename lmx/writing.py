# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Files that can't be written: one message for every OSError, which says what, where, why and how much is free."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lmx.errors import StorageError
from lmx.units import human_bytes

PARTIAL = ".partial"  # A name's ending while its file or folder is not complete.


class WriteError(StorageError):
  """Something could not be written: the disk or a quota is full, or the folder may only be read or is gone."""


def free_bytes(path: Path) -> tuple[int, Path]:
  """(bytes free, the nearest folder above `path` that exists)."""
  there = next(parent for parent in [path.absolute(), *path.absolute().parents] if parent.is_dir())
  return shutil.disk_usage(there).free, there


def cannot_write(path: Path, error: BaseException, *, subject: str = "", after: str = "", fix: str = "") -> str:
  """The message of an error of the file system.

  Args:
    path: what was to be written, where the error doesn't name it.
    error: an OSError, or what a library made of one.
    subject: the config key or flag that chose the place.
    after: what is safe nevertheless, as sentences.
    fix: what to type or do.
  """
  name = getattr(error, "filename", None) or path
  reason = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0][:300] or type(error).__name__
  free, there = free_bytes(path)
  head = f"{subject}: " if subject else ""
  parts = [f"{head}{name} can't be written: {reason} ({human_bytes(free)} free in {there}).", after]
  return " ".join(part for part in [*parts, f"Fix: {fix}" if fix else ""] if part)


@contextmanager
def write_errors(
  path: Path, *, subject: str = "", after: Callable[[], str] = str, fix: Callable[[], str] = str,
  kind: type[WriteError] = WriteError,
) -> Iterator[None]:  # fmt: skip
  """Makes an OSError of the block a `WriteError`; arguments as in `cannot_write`, `kind`: the class to raise."""
  try:
    yield
  except OSError as error:
    raise kind(cannot_write(path, error, subject=subject, after=after(), fix=fix())) from error


def write_whole(file: Path, text: str) -> None:
  """Writes a text file that appears complete or not at all, whenever the process is killed or the disk is full."""
  partial = file.with_name(f"{file.name}{PARTIAL}")
  partial.write_text(text, encoding="utf-8")
  partial.replace(file)
