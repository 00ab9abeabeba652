# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Raw records of text files before they are parsed: lines, or the parts between separators."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lmx.data.document import BadDocuments, ReadOptions
from lmx.data.sources.opening import open_text

_BLOCK = 1 << 20
BOM = b"\xef\xbb\xbf"  # The byte order mark that Windows writes at the start of UTF-8 files; not part of the text.
# (line it starts on, or None if it is the complete file; its bytes)
RawRecord = tuple[int | None, bytes]


def location(path: Path, line: int | None) -> str:
  """File and line for messages."""
  return str(path) if line is None else f"{path}:{line}"


def numbered_lines(file: BinaryIO, limit: int) -> Iterator[tuple[int, bytes | None]]:
  """(number, line with its end); None for a line of more than `limit` bytes, which is skipped in blocks."""
  number = 0
  while line := file.readline(limit + 1):
    number += 1
    if len(line) > limit:
      while line and not line.endswith(b"\n"):
        line = file.readline(_BLOCK)
      yield number, None
    else:
      yield number, line


def line_records(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[RawRecord]:
  """The lines that aren't blank.

  Args:
    path: of the file.
    options: the size limit.
    bad: receives lines that are too long.
  """
  with open_text(path) as file:
    for number, line in numbered_lines(file, options.max_document_bytes):
      if line is None:
        detail = f"over config.data.max_document_bytes={options.max_document_bytes}"
        bad.add(location(path, number), "line too long", detail)
      elif line.strip():
        yield number, line


def _complete_file(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[RawRecord]:
  with open_text(path) as file:
    data = file.read(options.max_document_bytes + 1).removeprefix(BOM)
  if len(data) > options.max_document_bytes:
    detail = f"over config.data.max_document_bytes={options.max_document_bytes}; a separator would split it"
    bad.add(str(path), "document too long", detail)
  else:
    yield None, data


def _separated(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[RawRecord]:
  """The text between separators, read in blocks. Consecutive separators count as one.

  A newline in the separator also matches the CRLF of files from Windows.
  """
  separator = (options.separator or "").encode()
  crlf = b"\r" not in separator
  pattern = re.compile(re.escape(separator).replace(b"\\\n", b"\r?\n") if crlf else re.escape(separator))
  longest = len(separator) + crlf * separator.count(b"\n")  # Bytes that a match can have.
  # `pending` is the unfinished document at the end of what was read. If it exceeds the limit, it is dropped and
  # `skipping` is set until the next separator, so memory stays bounded.
  pending, line, skipping, started = b"", 1, False, False
  with open_text(path) as file:
    while True:
      block = file.read(_BLOCK)
      pending = pending + block if started else block.removeprefix(BOM)
      started = True
      parts = pattern.split(pending)
      pending = parts.pop() if block else b""
      for part in parts:
        if skipping:
          skipping = False
        elif len(part) > options.max_document_bytes:
          bad.add(f"{path}:{line}", "document too long", f"{len(part)} bytes")
        elif part:
          yield line, part
        line += part.count(b"\n") + separator.count(b"\n")
      if len(pending) > options.max_document_bytes:
        if not skipping:
          bad.add(f"{path}:{line}", "document too long", f"over {options.max_document_bytes} bytes")
        skipping = True
        kept = longest - 1  # The end may be the beginning of a separator.
        line += pending.count(b"\n", 0, len(pending) - kept)
        pending = pending[len(pending) - kept :]
      if not block:
        return


def text_records(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[RawRecord]:
  """The complete file as one record, or its parts between separators.

  Args:
    path: of the file.
    options: the separator, or None, and the size limit.
    bad: receives documents that are too long.
  """
  return (_complete_file if options.separator is None else _separated)(path, options, bad)
