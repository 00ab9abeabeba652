# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The lines of metrics.jsonl, on a disk or in a bucket."""

import contextlib
import os
from pathlib import Path
from typing import Protocol

from lmx.paths import in_bucket
from lmx.storage import patiently
from lmx.uploads import Upload


class MetricsLines(Protocol):
  """A file of lines that is only appended to, except for `replace`."""

  def append(self, line: str) -> None:
    """Adds a line, with its newline."""

  def replace(self, text: str) -> None:
    """Replaces the file in one step."""

  def restore(self) -> bool:
    """Writes the file again if it was deleted or moved away; returns whether it was."""

  def flush(self) -> None:
    """Returns when all lines would survive the end of this process."""

  def close(self) -> None:
    """Flushes, and does nothing the second time."""


def open_lines(path: Path) -> MetricsLines:
  """The file at a path, which is made if it is missing. A last line without a newline is cut off."""
  return BucketLines(path) if in_bucket(path) else LocalLines(path)


class LocalLines:
  """A file on a disk, flushed at every line."""

  def __init__(self, path: Path):
    self._path = path
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):  # What a killed process left, to which a new line would be glued.
      os.truncate(path, data.rfind(b"\n") + 1)
    self._file = path.open("a+", encoding="utf-8")

  def append(self, line: str) -> None:
    self._file.write(line)
    self._file.flush()

  def replace(self, text: str) -> None:
    self._file.close()
    self._path.parent.mkdir(parents=True, exist_ok=True)
    temporary = self._path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(self._path)
    self._file = self._path.open("a+", encoding="utf-8")

  def restore(self) -> bool:
    with contextlib.suppress(OSError):
      if os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()):
        return False
    self._file.seek(0)  # The file is still there for the one that has it open.
    self.replace(self._file.read())
    return True

  def flush(self) -> None:
    """Nothing: every line was flushed."""

  def close(self) -> None:
    self._file.close()


class BucketLines:
  """An object in a bucket: its lines are held in memory and uploaded whole, at the latest by `flush`.

  A process that is killed loses the lines of the last seconds, all of them after the last checkpoint, since a
  checkpoint is saved after a `flush`; the resumed run makes those steps again.
  """

  def __init__(self, path: Path):
    self._path = path
    data = patiently(lambda: path.read_bytes() if path.exists() else b"", path)
    self._lines = [data[: data.rfind(b"\n") + 1].decode("utf-8", errors="replace")]
    self._upload, self._closed = Upload(path), False
    if not data:
      self.replace("")

  def append(self, line: str) -> None:
    self._lines.append(line)
    self._upload.set(self._text)

  def replace(self, text: str) -> None:
    self._lines = [text]
    self._upload.set(self._text)
    self.flush()

  def restore(self) -> bool:
    if self._path.exists():
      return False
    self.replace(self._text())
    return True

  def flush(self) -> None:
    self._upload.flush()

  def close(self) -> None:
    if not self._closed:
      self._closed = True
      self._upload.close()

  def _text(self) -> str:
    return "".join(list(self._lines))
