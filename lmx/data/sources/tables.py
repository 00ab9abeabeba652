# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Records from TSV and CSV files."""

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lmx.data.document import BadDocuments, Columns, ReadOptions, Record, RequiredColumns, columns_hint
from lmx.data.sources.opening import open_text
from lmx.data.sources.raw_lines import numbered_lines
from lmx.errors import LmxError


@dataclasses.dataclass(frozen=True)
class _Layout:
  """The layout of a table.

  Attributes:
    indices: lmx's name of a column -> index of the cell.
    header: whether the first line is a header.
    width: cells in the first line.
  """

  indices: dict[str, int]
  header: bool
  width: int

  def problem(self, row: list[str]) -> str | None:
    """What is wrong with the number of cells of a row, or None. Without a header, a row may have additional cells."""
    if len(row) == self.width or (not self.header and len(row) > self.width):
      return None
    return f"{len(row)} cells instead of {self.width} as the first line"


def tsv_records(path: Path, wanted: RequiredColumns, options: ReadOptions, bad: BadDocuments) -> Iterator[Record]:
  """Rows of cells separated by tabs, without quoting.

  Args:
    path: of the file.
    wanted: the columns to read.
    options: the columns' names in the file, and the size limit of a line.
    bad: receives rows that can't be used.

  Raises:
    LmxError: a column doesn't exist.
  """
  return _records(path, wanted, options, bad, tabs=True)


def csv_records(path: Path, wanted: RequiredColumns, options: ReadOptions, bad: BadDocuments) -> Iterator[Record]:
  """Rows of cells separated by commas. A cell in double quotes may span lines.

  Args:
    path, wanted, options, bad: as in `tsv_records`.

  Raises:
    LmxError: a column doesn't exist.
  """
  return _records(path, wanted, options, bad, tabs=False)


def _records(
  path: Path, wanted: RequiredColumns, options: ReadOptions, bad: BadDocuments, *, tabs: bool
) -> Iterator[Record]:
  """The rows. The first line is the header, unless the config names columns by number, from 1.

  Raises:
    LmxError: a column doesn't exist, which is an error of the config and not a bad document.
  """
  csv.field_size_limit(max(csv.field_size_limit(), options.max_document_bytes + 1))
  with open_text(path) as file:
    lines = _decoded_lines(path, file, options, bad)
    plain = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else None
    reader = plain or csv.reader(lines, strict=True)
    first = _next_row(path, reader, bad) or []
    layout = _find_columns(path, [name.removeprefix("\ufeff") for name in first], options.resolve(wanted))
    row: list[str] | None = [] if layout.header else first
    while row is not None:
      where = f"{path}:{reader.line_num}"
      if row and (problem := layout.problem(row)):
        bad.add(where, "wrong number of columns", problem)
      elif row:
        yield Record({ours: row[index] for ours, index in layout.indices.items()}, where)
      row = _next_row(path, reader, bad)


def _find_columns(path: Path, first: list[str], columns: Columns) -> _Layout:
  names = {**columns.optional, **columns.required}
  needed = list(columns.required.values()) or [name for name in names.values() if name.isdecimal()]
  numbers = bool(needed) and all(name.isdecimal() for name in needed)
  # A first line of numbers only, with those of the config among them, is a header that a program wrote.
  named = all(cell.isdecimal() for cell in first) and all(name in first for name in needed)
  header = not numbers or named
  indices: dict[str, int] = {}
  for ours, name in names.items():
    index = _index_of(name, first, header)
    if index is not None:
      indices[ours] = index
    elif columns.must_exist(ours):
      hint = columns_hint(ours, name, first, columns) if first else "the file is empty"
      raise LmxError(f"{path}:1: no column {name!r} ({hint}). A number counts columns of a table without a header.")
  if not indices:
    ours = next(iter(names))
    raise LmxError(
      f"{path}:1: none of the columns {', '.join(names.values())} ({columns_hint(ours, ours, first, columns)})"
    )
  return _Layout(indices, header, len(first))


def _index_of(name: str, first: list[str], header: bool) -> int | None:
  if header:
    return first.index(name) if name in first else None
  return int(name) - 1 if name.isdecimal() and 1 <= int(name) <= len(first) else None


def _decoded_lines(path: Path, file: BinaryIO, options: ReadOptions, bad: BadDocuments) -> Iterator[str]:
  """Lines for the csv module. A bad line is reported and replaced by an empty one, so that line numbers stay right."""
  for number, line in numbered_lines(file, options.max_document_bytes):
    if line is None:
      bad.add(f"{path}:{number}", "line too long", f"over {options.max_document_bytes} bytes")
      yield "\n"
      continue
    text = bad.decode(line, str(path), number)
    yield "\n" if text is None else text


def _next_row(path: Path, reader: Any, bad: BadDocuments) -> list[str] | None:
  try:
    return next(reader, None)
  except csv.Error as error:
    bad.add(f"{path}:{reader.line_num}", "broken row", str(error))
    return []
