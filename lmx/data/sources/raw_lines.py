# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The raw records of a file before they are parsed: its lines, or its parts between separators."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lmx.data.document import BadDocuments, ReadOptions
from lmx.data.sources.opening import open_text

_BLOCK = 1 << 20
BOM = b"\xef\xbb\xbf"  # What Windows begins UTF-8 files with; no part of the text.
# The line it starts on (None for a whole file), and its bytes.
RawRecord = tuple[int | None, bytes]


def place(path: Path, line: int | None) -> str:
  """A file and a line, as they are written in messages."""
  return str(path) if line is None else f"{path}:{line}"


def numbered_lines(file: BinaryIO, limit: int) -> Iterator[tuple[int, bytes | None]]:
  """Numbered lines with their ends, None for one longer than `limit` bytes (which is read past in blocks)."""
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
  """The lines that are not blank."""
  with open_text(path) as file:
    for number, line in numbered_lines(file, options.max_document_bytes):
      if line is None:
        detail = f"over config.data.max_document_bytes={options.max_document_bytes}"
        bad.add(place(path, number), "line too long", detail)
      elif line.strip():
        yield number, line


def _whole_file(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[RawRecord]:
  with open_text(path) as file:
    data = file.read(options.max_document_bytes + 1).removeprefix(BOM)
  if len(data) > options.max_document_bytes:
    detail = f"over config.data.max_document_bytes={options.max_document_bytes}; a separator would split it"
    bad.add(str(path), "document too long", detail)
  else:
    yield None, data


def _separated(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[RawRecord]:
  """The text between separators, read in blocks. Separators in a row count as one.

  A newline of the separator also stands for the CRLF of files from Windows.
  """
  separator = (options.separator or "").encode()
  crlf = b"\r" not in separator
  pattern = re.compile(re.escape(separator).replace(b"\\\n", b"\r?\n") if crlf else re.escape(separator))
  longest = len(separator) + crlf * separator.count(b"\n")
  pending, line, skipping, started = b"", 1, False, False
  with open_text(path) as file:
    while True:
      block = file.read(_BLOCK)
      pending = pending + block if started else block.removeprefix(BOM)
      started = True
      pieces = pattern.split(pending)
      pending = pieces.pop() if block else b""
      for piece in pieces:
        if skipping:
          skipping = False
        elif len(piece) > options.max_document_bytes:
          bad.add(f"{path}:{line}", "document too long", f"{len(piece)} bytes")
        elif piece:
          yield line, piece
        line += piece.count(b"\n") + separator.count(b"\n")
      if len(pending) > options.max_document_bytes:
        if not skipping:
          bad.add(f"{path}:{line}", "document too long", f"over {options.max_document_bytes} bytes")
        skipping = True
        kept = longest - 1
        line += pending.count(b"\n", 0, len(pending) - kept)
        pending = pending[len(pending) - kept :]
      if not block:
        return


def text_records(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[RawRecord]:
  """The whole file, or its parts where a separator is given."""
  return (_whole_file if options.separator is None else _separated)(path, options, bad)
