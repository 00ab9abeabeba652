# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Documents from files: plain text, JSON lines, TSV and CSV, each also gzipped."""

import csv
import dataclasses
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from lmx.data.document import BadDocuments, Document, ReadOptions
from lmx.errors import LmxError, nearest

_BLOCK = 1 << 20
# One raw record, before it is parsed: the line it starts on (None for a whole file), and its bytes.
Record = tuple[int | None, bytes]


def _place(path: Path, line: int | None) -> str:
  return str(path) if line is None else f"{path}:{line}"


def open_binary(path: Path) -> BinaryIO:
  """The file's bytes, unpacked if its name ends in .gz."""
  return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _lines(file: BinaryIO, limit: int) -> Iterator[tuple[int, bytes | None]]:
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


def _line_records(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[Record]:
  with open_binary(path) as file:
    for number, line in _lines(file, options.max_document_bytes):
      if line is None:
        detail = f"over config.data.max_document_bytes={options.max_document_bytes}"
        bad.add(_place(path, number), "line too long", detail)
      elif line.strip():
        yield number, line


def _whole_file(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[Record]:
  with open_binary(path) as file:
    data = file.read(options.max_document_bytes + 1)
  if len(data) > options.max_document_bytes:
    detail = f"over config.data.max_document_bytes={options.max_document_bytes}; a separator would split it"
    bad.add(str(path), "document too long", detail)
  else:
    yield None, data


def _separated(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[Record]:
  """The text between separators, read in blocks. Separators in a row count as one."""
  separator = (options.separator or "").encode()
  pending, line, skipping = b"", 1, False
  with open_binary(path) as file:
    while True:
      block = file.read(_BLOCK)
      pending += block
      pieces = pending.split(separator)
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
        kept = len(separator) - 1
        line += pending.count(b"\n", 0, len(pending) - kept)
        pending = pending[len(pending) - kept :]
      if not block:
        return


def _text_records(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[Record]:
  return (_whole_file if options.separator is None else _separated)(path, options, bad)


def _parse_text(record: Record, path: Path, options: ReadOptions, bad: BadDocuments) -> str | None:
  return bad.decode(record[1], str(path), record[0])


def _parse_json(record: Record, path: Path, options: ReadOptions, bad: BadDocuments) -> str | None:
  where = _place(path, record[0])
  line = bad.decode(record[1], str(path), record[0])
  if line is None:
    return None
  try:
    row = json.loads(line)
  except (ValueError, RecursionError) as error:
    bad.add(where, "broken JSON", str(error))
    return None
  if not isinstance(row, dict):
    bad.add(where, "broken JSON", f"a line must be an object, this is a {type(row).__name__}")
    return None
  column = options.text_column
  if column not in row:
    bad.add(where, f"no column {column!r}", _columns_hint(column, list(row)))
    return None
  if not isinstance(row[column], str):
    bad.add(where, f"column {column!r} is not text", f"it is {type(row[column]).__name__}")
    return None
  return row[column]


def _columns_hint(column: str, present: list[str]) -> str:
  close = nearest(column, present) or (present[0] if present else "NAME")
  return f"there are {', '.join(present) or 'none'}; try --config.data.columns.text={close}"


def _parsed(path: Path, options: ReadOptions, bad: BadDocuments, records, parse) -> Iterator[Document]:
  for record in records(path, options, bad):
    text = parse(record, path, options, bad)
    where = _place(path, record[0])
    if text is not None and bad.check_text(text, where):
      yield Document(text, where)


def _text_documents(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[Document]:
  return _parsed(path, options, bad, _text_records, _parse_text)


def _json_documents(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[Document]:
  return _parsed(path, options, bad, _line_records, _parse_json)


def _decoded_lines(path: Path, file: BinaryIO, options: ReadOptions, bad: BadDocuments) -> Iterator[str]:
  """Lines for the csv module. A bad line is reported and becomes an empty one, so that line numbers hold."""
  for number, line in _lines(file, options.max_document_bytes):
    if line is None:
      bad.add(f"{path}:{number}", "line too long", f"over {options.max_document_bytes} bytes")
      yield "\n"
      continue
    text = bad.decode(line, str(path), number)
    yield "\n" if text is None else text


def _table_documents(path: Path, options: ReadOptions, bad: BadDocuments, *, tabs: bool) -> Iterator[Document]:
  """Rows of a table. TSV has no quoting; CSV quotes with ", and a quoted cell may span lines.

  The first line is the header, unless the column is a number that it lacks: then columns are counted from 1 in a table
  without a header.
  """
  csv.field_size_limit(max(csv.field_size_limit(), options.max_document_bytes + 1))
  with open_binary(path) as file:
    lines = _decoded_lines(path, file, options, bad)
    plain = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else None
    reader = plain or csv.reader(lines, strict=True)
    first = _next_row(path, reader, bad) or []
    index, is_header = _column(path, [name.removeprefix("\ufeff") for name in first], options.text_column)
    row: list[str] | None = [] if is_header else first
    while row is not None:
      where = f"{path}:{reader.line_num}"
      if row and len(row) != len(first):
        bad.add(where, "wrong number of columns", f"{len(row)} cells, where the first line has {len(first)}")
      elif row and bad.check_text(row[index], where):
        yield Document(row[index], where)
      row = _next_row(path, reader, bad)


def _column(path: Path, header: list[str], column: str) -> tuple[int, bool]:
  """(index of the column, whether the first line is a header).

  A file without the column is a mistake in the config, not a bad document.
  """
  if column in header:
    return header.index(column), True
  if column.isdecimal() and 1 <= int(column) <= len(header):
    return int(column) - 1, False
  hint = _columns_hint(column, header) if header else "the file is empty"
  raise LmxError(f"{path}:1: no column {column!r} ({hint}). A number counts columns of a table without a header.")


def _next_row(path: Path, reader, bad: BadDocuments) -> list[str] | None:
  try:
    return next(reader, None)
  except csv.Error as error:
    bad.add(f"{path}:{reader.line_num}", "broken row", str(error))
    return []


def _tsv_documents(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[Document]:
  return _table_documents(path, options, bad, tabs=True)


def _csv_documents(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[Document]:
  return _table_documents(path, options, bad, tabs=False)


Reader = Callable[[Path, ReadOptions, BadDocuments], Iterator[Document]]
FORMATS: dict[str, Reader] = {
  "text": _text_documents,
  "jsonl": _json_documents,
  "tsv": _tsv_documents,
  "csv": _csv_documents,
}
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".tsv": "tsv", ".csv": "csv"}


def format_of(path: Path) -> str:
  """The format that a file's name promises: text unless the suffix is known."""
  suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
  return _SUFFIXES.get(suffixes[-1], "text") if suffixes else "text"


def read_documents(path: Path, reading: str | None, options: ReadOptions, bad: BadDocuments) -> Iterator[Document]:
  """The documents of one file.

  Args:
    path: the file.
    reading: a row of FORMATS, or None to go by the name.
    options: the column, separator and size limit.
    bad: what to do with bad documents; a gzip that ends too early is one.

  Raises:
    LmxError: a bad document under the policy "error", or a table without the column.
  """
  last = str(path)
  try:
    for document in FORMATS[reading or format_of(path)](path, options, bad):
      last = document.where
      yield document
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    bad.add(str(path), "broken gzip", f"{error}; the last whole document before it: {last}")
  except OSError as error:
    raise LmxError(f"{path} cannot be read: {error.strerror or error}") from error


@dataclasses.dataclass
class FileSource:
  """Documents of files, in the order of the list."""

  name: str
  paths: list[Path]
  reading: str | None
  options: ReadOptions

  @property
  def total_bytes(self) -> int | None:
    """Bytes on disk; text unpacked from .gz is longer."""
    return None if any(path.suffix == ".gz" for path in self.paths) else sum(p.stat().st_size for p in self.paths)

  def documents(self, bad: BadDocuments) -> Iterator[Document]:
    for path in self.paths:
      yield from read_documents(path, self.reading, self.options, bad)

  def fingerprint(self) -> dict:
    """Names, sizes and times of the files, and the options that change what is read from them."""
    stats = [(str(path.resolve()), path.stat()) for path in self.paths]
    return {
      "kind": "files",
      "reading": self.reading or "by name",
      "column": self.options.text_column,
      "separator": self.options.separator,
      "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
    }
