# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Errors of disks and buckets as one message: full, read-only, over a quota, not answering. Imports no jax."""

import asyncio
import contextlib
import logging
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from lmx.errors import LmxError, StorageError
from lmx.exits import safe
from lmx.paths import in_bucket, is_bucket_error, is_storage_error, may_pass, temporary_folder, upload_folder
from lmx.units import human_bytes

# OSErrors of networks, other processes and pipes, which say nothing about a disk.
_ELSEWHERE = (ConnectionError, TimeoutError, ChildProcessError, ProcessLookupError, InterruptedError)
# Errors about files and folders, also where a library raises them without the system's number.
_FILES = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
# ValueErrors of TensorStore, which writes the arrays of checkpoints, and of Orbax when a checkpoint's folder vanished.
_ARRAYS = re.compile(
  r"[A-Z_]+: (All \d+ retry attempts failed: )?Error (reading|writing|opening|deleting|listing) "
  r"|No ArrayMetadata found "
)
_DETAILS = re.compile(r" \[(tensorstore_spec|source locations)=.*", re.DOTALL)
_FIX = "Fix: free some space there, or bring back what was there; the same command then resumes the run."
_FIX_BUCKET = "Fix: check the network, the bucket and your permissions; the same command then resumes the run."
PATIENCE = 300.0  # Seconds for which a request to a bucket that fails is tried again.
_BETWEEN = 5.0  # Seconds between two tries; gcsfs itself tries each of them for half a minute.
PARTIAL = ".partial"  # A name's ending while its file or folder is incomplete.


T = TypeVar("T")


class WriteError(StorageError):
  """A file could not be written: the disk or a quota is full, or the folder is read-only or gone."""


def write_atomically(file: Path, text: str) -> None:
  """Writes a text file that appears complete or not at all, whenever the process is killed or the disk is full."""
  if in_bucket(file):  # Objects appear whole.
    file.write_bytes(text.encode())
    return
  partial = file.with_name(f"{file.name}{PARTIAL}")
  partial.write_text(text, encoding="utf-8")
  partial.replace(file)


def patiently(work: Callable[[], T], where: Path) -> T:
  """The value of `work`, which is called again for up to `PATIENCE` seconds while a bucket fails.

  Args:
    work: may be called several times.
    where: the path that it uses; on a disk it is called once.

  Raises:
    Exception: what `work` raised last.
  """
  deadline = time.monotonic() + PATIENCE
  while True:
    try:
      return work()
    except Exception as error:
      cause = error.__cause__ if isinstance(error, LmxError) and error.__cause__ is not None else error
      if not in_bucket(where) or not may_pass(cause) or time.monotonic() > deadline:
        raise
    time.sleep(_BETWEEN)


@contextlib.contextmanager
def writing_folder(target: Path, *, last: str = "") -> Iterator[Path]:
  """A local folder to make and fill, which becomes `target` at the end: at once, or in a bucket file by file.

  Args:
    target: must not exist, except in a bucket.
    last: in a bucket, the file that is written when all others are there.
  """
  if in_bucket(target):
    folder = temporary_folder() / target.name
    yield folder
    upload_folder(folder, target, last=last)
    shutil.rmtree(folder.parent)
    return
  partial = target.with_name(f"{target.name}{PARTIAL}")
  shutil.rmtree(partial, ignore_errors=True)
  target.parent.mkdir(parents=True, exist_ok=True)
  yield partial
  partial.replace(target)


def free_bytes(path: Path) -> tuple[int, Path]:
  """(bytes free, the nearest folder above `path` that exists)."""
  if in_bucket(path):
    return sys.maxsize, path
  there = next(parent for parent in [path.absolute(), *path.absolute().parents] if parent.is_dir())
  return shutil.disk_usage(there).free, there


def _room(path: Path) -> str:
  """Such as " (1.2 GB free in /data)"; "" for a bucket, which is never full."""
  if in_bucket(path):
    return ""
  free, there = free_bytes(path)
  return f" ({human_bytes(free)} free in {there})"


def cannot_write(path: Path, error: BaseException, *, subject: str = "", after: str = "", fix: str = "") -> str:
  """The message of an error of the file system while writing.

  Args:
    path: the file or folder, where the error doesn't name one.
    error: an OSError, or the error that a library raised for one.
    subject: the config key or flag that chose the path.
    after: what is safe nevertheless, as sentences.
    fix: what to type or do.
  """
  name = getattr(error, "filename", None) or path
  reason = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0][:300] or type(error).__name__
  head = f"{subject}: " if subject else ""
  parts = [f"{head}{name} can't be written: {reason}{_room(path)}.", after]
  return " ".join(part for part in [*parts, f"Fix: {fix}" if fix else ""] if part)


@contextlib.contextmanager
def write_errors(
  path: Path, *, subject: str = "", after: Callable[[], str] = str, fix: Callable[[], str] = str,
  kind: type[WriteError] = WriteError,
) -> Iterator[None]:  # fmt: skip
  """Turns an error of a disk or a bucket in the block into a `WriteError`.

  Args:
    path, subject, after, fix: as in `cannot_write`; the last two are called only when there is an error.
    kind: the class to raise.

  Raises:
    WriteError: of the class `kind`.
  """
  try:
    yield
  except Exception as error:
    if isinstance(error, LmxError) or not is_storage_error(error):
      raise
    raise kind(cannot_write(path, error, subject=subject, after=after(), fix=fix())) from error


@contextlib.contextmanager
def naming_disk_errors(folder: Path) -> Iterator[None]:
  """Turns any error of a disk or a bucket in the block into one message: what failed, and what is safe.

  It is the outermost net of a command, for errors that no `write_errors` further in has turned into a message.

  Args:
    folder: the run's, which need not exist.

  Raises:
    StorageError: a file could not be read or written.
  """
  try:
    yield
  except Exception as error:
    what = disk_problem(error)
    if what is None:
      raise
    fix = _FIX_BUCKET if in_bucket(folder) else _FIX
    raise StorageError(" ".join(filter(None, (f"{what}{_room(folder)}.", safe(), fix)))) from error


def disk_problem(error: BaseException | None) -> str | None:
  """The disk's part in an error or its causes, such as "/run/x: No space left on device"; None where there is none."""
  found = None
  if isinstance(error, LmxError):
    return None
  while error is not None:
    if is_bucket_error(error):
      found = f"the bucket: {str(error).strip()[:300].replace(chr(10), ' ') or type(error).__name__}"
    elif isinstance(error, OSError) and error.errno is not None and not isinstance(error, _ELSEWHERE):
      found = f"{error.filename or 'a file'}: {error.strerror}"
    elif isinstance(error, _FILES):
      found = str(error)[:500]
    elif isinstance(error, ValueError) and _ARRAYS.match(text := str(error)):
      found = _DETAILS.sub("", text)[:500]
    error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
  return found


def quiet_background() -> None:
  """Silences the tracebacks of failed background saves; the thread that waits for a save raises its error again.

  Without this, one failed save of Orbax prints dozens of tracebacks before lmx's own message.
  """
  logger = logging.getLogger("absl")
  for target in (logger, *logger.handlers):
    target.addFilter(lambda record: not record.exc_info)
  before = sys.unraisablehook

  def report(unraisable: "sys.UnraisableHookArgs") -> None:
    # TensorStore's C++ reports here that the event loop of a failed save is closed; no Python code called it.
    trace = unraisable.exc_traceback
    if trace is None or trace.tb_frame.f_code is not asyncio.BaseEventLoop.call_soon_threadsafe.__code__:
      before(unraisable)

  sys.unraisablehook = report
