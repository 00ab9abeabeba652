# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Records from JSON: one object per line, an array of objects, or one object with an array under "data".

SQuAD's files have the last form (https://rajpurkar.github.io/SQuAD-explorer/): articles of paragraphs of questions,
which are read as one row per question, with the columns of Hugging Face's version.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmx.data.document import BadDocuments, Columns, ReadOptions, Record, RequiredColumns, columns_hint
from lmx.data.sources.opening import bare_suffix, open_text
from lmx.data.sources.raw_lines import BOM, line_records, location
from lmx.data.sources.values import find, nested_names
from lmx.errors import LmxError

_SPACE = b" \t\r\n"
_Rows = Iterator[tuple[str, dict[str, Any]]]


def json_records(path: Path, wanted: RequiredColumns, options: ReadOptions, bad: BadDocuments) -> Iterator[Record]:
  """The wanted columns of each object. Values keep their types.

  A file that starts with [ is an array; a .json file may be one object; any other file has one object per line. A dot
  in
  the name of a column leads into objects: "answers.text".

  Args:
    path: of the file.
    wanted: the columns to read.
    options: the columns' names in the file, and the size limit.
    bad: receives objects that can't be used.

  Raises:
    LmxError: no object has an optional column that the config names.
  """
  columns = options.resolve(wanted)
  absent = {ours for ours in columns.optional if columns.must_exist(ours)}
  present: dict[str, None] = {}
  for where, row in _rows(path, options, bad):
    values = _choose(row, where, columns, bad)
    if values is not None:
      if absent:
        absent -= values.keys()
        present.update(dict.fromkeys(nested_names(row)))
      yield Record(values, where)
  if present and absent:
    ours = sorted(absent)[0]
    column = columns.optional[ours]
    raise LmxError(f"{path}: no column {column!r} in any row ({columns_hint(ours, column, present, columns)})")


def _choose(row: dict[str, Any], where: str, columns: Columns, bad: BadDocuments) -> dict[str, Any] | None:
  """The wanted columns of a row, or None after reporting that one doesn't exist."""
  values: dict[str, Any] = {}
  chosen = {**columns.optional, **columns.required}
  for ours, column in chosen.items():
    there, value = find(row, column)
    if there:
      values[ours] = value
    elif ours in columns.required:
      bad.add(where, f"no column {column!r}", columns_hint(ours, column, nested_names(row), columns))
      return None
  if not values:
    ours = next(iter(chosen))
    bad.add(
      where, f"none of the columns {', '.join(chosen.values())}", columns_hint(ours, ours, nested_names(row), columns)
    )
  return values or None


def _rows(path: Path, options: ReadOptions, bad: BadDocuments) -> _Rows:
  if _is_array(path):
    return _array_rows(path, options, bad)
  contents = _single_object(path) if bare_suffix(path) == ".json" else None
  return _line_rows(path, options, bad) if contents is None else _object_rows(path, contents, bad)


def _is_array(path: Path) -> bool:
  with open_text(path) as file:
    while block := file.read(1 << 12):
      if start := block.removeprefix(BOM).lstrip(_SPACE):
        return start.startswith(b"[")
  return False


def _single_object(path: Path) -> dict[str, Any] | None:
  """The contents of a file that is one object, over several lines or with "data" in it; None if each line is a row."""
  with open_text(path) as file:
    first = next((line for line in file if line.removeprefix(BOM).strip()), b"").removeprefix(BOM)
    try:
      row = json.loads(first)
    except (ValueError, RecursionError):
      pass
    else:
      is_rows = not isinstance(row, dict) or not isinstance(row.get("data"), list) or any(map(bytes.strip, file))
      return None if is_rows else row
    try:
      contents = json.loads((first + file.read()).decode())
    except (ValueError, RecursionError):
      return None  # Reading it line by line reports the broken line.
  return contents if isinstance(contents, dict) else None


def _object_rows(path: Path, contents: dict[str, Any], bad: BadDocuments) -> _Rows:
  data = contents.get("data")
  if not isinstance(data, list):
    yield str(path), contents
    return
  for index, row in enumerate(data):
    where = f"{path} data[{index}]"
    if not isinstance(row, dict):
      bad.add(where, "broken JSON", f"data must hold objects, this is a {type(row).__name__}")
    elif "paragraphs" in row:
      yield from _questions(where, row, bad)
    else:
      yield where, row


def _questions(where: str, article: dict[str, Any], bad: BadDocuments) -> _Rows:
  """The questions of one SQuAD article; the first answer is also a column of its own."""
  try:
    for index, paragraph in enumerate(article["paragraphs"]):
      for number, asked in enumerate(paragraph["qas"]):
        given = asked.get("answers", [])
        answers = {name: [answer[name] for answer in given] for name in ("text", "answer_start")}
        yield (
          f"{where}.paragraphs[{index}].qas[{number}]",
          {
            "id": asked.get("id"),
            "title": article.get("title"),
            "context": paragraph["context"],
            "question": asked["question"],
            "answers": answers,
            "answer": answers["text"][0] if given else "",
            "answer_start": answers["answer_start"][0] if given else None,
          },
        )
  except (KeyError, TypeError, AttributeError) as error:
    bad.add(where, "broken SQuAD article", f"{type(error).__name__}: {error}")


def _line_rows(path: Path, options: ReadOptions, bad: BadDocuments) -> _Rows:
  for number, data in line_records(path, options, bad):
    where = location(path, number)
    line = bad.decode(data.removeprefix(BOM), str(path), number)
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


def _array_rows(path: Path, options: ReadOptions, bad: BadDocuments) -> _Rows:
  """The objects of an array; the file is read into memory. It ends at a syntax error, after which nothing is found."""
  with open_text(path) as file:
    text = bad.decode(file.read().removeprefix(BOM), str(path))
  if text is None:
    return
  decoder, line, counted = json.JSONDecoder(), 1, 0
  position = _skip_space(text, text.index("[") + 1)
  while position < len(text) and text[position] != "]":
    line, counted = line + text.count("\n", counted, position), position
    where = location(path, line)
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
      bad.add(where, "broken JSON", "it is followed by neither a comma nor the end of the array")
      return


def _skip_space(text: str, position: int) -> int:
  while position < len(text) and text[position].isspace():
    position += 1
  return position
