# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Records from JSON: one object a line, or one array of objects."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmx.data.document import BadDocuments, Columns, ReadOptions, Record, Wanted, columns_hint
from lmx.data.raw_lines import line_records, open_binary, place
from lmx.errors import LmxError

_SPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"


def json_records(path: Path, wanted: Wanted, options: ReadOptions, bad: BadDocuments) -> Iterator[Record]:
  """The columns of each object. Values keep their types.

  A file whose first character is [ holds one array; any other holds an object a line.

  Raises:
    LmxError: no object has an optional column that the config names.
  """
  columns = options.resolve(wanted)
  absent = {ours for ours in columns.optional if columns.must_exist(ours)}
  present: dict[str, None] = {}
  rows = (_array_rows if _is_array(path) else _line_rows)(path, options, bad)
  for where, row in rows:
    values = _choose(row, where, columns, bad)
    if values is not None:
      absent -= values.keys()
      present.update(dict.fromkeys(row))
      yield Record(values, where)
  if present and absent:
    ours = sorted(absent)[0]
    column = columns.optional[ours]
    raise LmxError(f"{path}: no column {column!r} in any row ({columns_hint(ours, column, present, columns)})")


def _choose(row: dict[str, Any], where: str, columns: Columns, bad: BadDocuments) -> dict[str, Any] | None:
  """The wanted columns of a row, or None after reporting that one is not there."""
  for ours, column in columns.required.items():
    if column not in row:
      bad.add(where, f"no column {column!r}", columns_hint(ours, column, row, columns))
      return None
  chosen = {**columns.optional, **columns.required}
  values = {ours: row[column] for ours, column in chosen.items() if column in row}
  if not values:
    ours = next(iter(chosen))
    bad.add(where, f"none of the columns {', '.join(chosen.values())}", columns_hint(ours, ours, row, columns))
  return values or None


def _is_array(path: Path) -> bool:
  with open_binary(path) as file:
    while block := file.read(1 << 12):
      if start := block.removeprefix(_BOM).lstrip(_SPACE):
        return start.startswith(b"[")
  return False


def _line_rows(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[tuple[str, dict[str, Any]]]:
  for number, data in line_records(path, options, bad):
    where = place(path, number)
    line = bad.decode(data.removeprefix(_BOM), str(path), number)
    if line is None:
      continue
    try:
      row = json.loads(line)
    except (ValueError, RecursionError) as error:
      bad.add(where, "broken JSON", str(error))
      continue
    if isinstance(row, dict):
      yield where, row
    else:
      bad.add(where, "broken JSON", f"a line must be an object, this is a {type(row).__name__}")


def _array_rows(path: Path, options: ReadOptions, bad: BadDocuments) -> Iterator[tuple[str, dict[str, Any]]]:
  """The objects of an array; the file is read whole. What is broken ends it, since nothing after it can be found."""
  with open_binary(path) as file:
    text = bad.decode(file.read().removeprefix(_BOM), str(path))
  if text is None:
    return
  decoder, line, counted = json.JSONDecoder(), 1, 0
  position = _skip_space(text, text.index("[") + 1)
  while position < len(text) and text[position] != "]":
    line, counted = line + text.count("\n", counted, position), position
    where = place(path, line)
    try:
      row, position = decoder.raw_decode(text, position)
    except (ValueError, RecursionError) as error:
      bad.add(where, "broken JSON", str(error))
      return
    if not isinstance(row, dict):
      bad.add(where, "broken JSON", f"the array must hold objects, this is a {type(row).__name__}")
    elif position - counted > options.max_document_bytes:
      bad.add(where, "document too long", f"over config.data.max_document_bytes={options.max_document_bytes}")
    else:
      yield where, row
    position = _skip_space(text, position)
    if text[position : position + 1] == ",":
      position = _skip_space(text, position + 1)
    elif text[position : position + 1] != "]":
      bad.add(where, "broken JSON", "neither a comma nor the array's end comes after it")
      return


def _skip_space(text: str, position: int) -> int:
  while position < len(text) and text[position].isspace():
    position += 1
  return position
