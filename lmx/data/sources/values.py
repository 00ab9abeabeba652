# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Converts values of rows to JSON types, and finds columns inside objects by dotted names."""

import datetime
import decimal
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


class BadValueError(Exception):
  """A value that a row can't hold; `args` are the reason and the detail of `BadDocuments.add`."""


def plain(value: Any, limit: int) -> Any:
  """Converts a value to JSON types: bytes to text, NumPy's numbers to Python's, dates to ISO 8601 text.

  Args:
    value: of Python, NumPy or pyarrow.
    limit: bytes that a text may have (config.data.max_document_bytes).

  Raises:
    BadValueError: bytes that aren't UTF-8, a text over the limit, or a type that JSON doesn't have.
  """
  if isinstance(value, str):
    if len(value) > limit:
      raise BadValueError("document too long", f"over config.data.max_document_bytes={limit}")
    return value
  if value is None or isinstance(value, bool | int | float):
    return value
  if isinstance(value, bytes | bytearray | memoryview):
    return _text(bytes(value), limit)
  if isinstance(value, np.ndarray):
    return plain(value.tolist(), limit)
  if isinstance(value, np.generic):
    return plain(value.item(), limit)
  if isinstance(value, list | tuple):
    return [plain(part, limit) for part in value]
  if isinstance(value, Mapping):
    return {str(key): plain(part, limit) for key, part in value.items()}
  if isinstance(value, datetime.date | datetime.time):
    return value.isoformat()
  if isinstance(value, decimal.Decimal):
    return int(value) if value == value.to_integral_value() and value.as_tuple().exponent == 0 else float(value)
  raise BadValueError("a value that is not text", f"it is {type(value).__name__}")


def _text(data: bytes, limit: int) -> str:
  if len(data) > limit:
    raise BadValueError("document too long", f"over config.data.max_document_bytes={limit}")
  try:
    return data.decode()
  except UnicodeDecodeError as error:
    raise BadValueError("not UTF-8", f"byte 0x{data[error.start]:02x} at offset {error.start}") from error


def class_name(value: Any, names: list[str]) -> str | None:
  """The name of a class stored by its number; None for -1, null and NaN, which mean "no label".

  Raises:
    BadValueError: a number without a name, or with a fraction.
  """
  if value is None or value == -1 or (isinstance(value, float) and math.isnan(value)):
    return None
  if not isinstance(value, int | float | np.number) or not 0 <= value < len(names) or int(value) != value:
    raise BadValueError("label without a name", f"got {value}, the names are {', '.join(names[:10])}")
  return names[int(value)]


# ---------------------------------------------------------------- nested columns, as "answers.text"


def find(row: Mapping[str, Any], name: str) -> tuple[bool, Any]:
  """(whether a row has a column, its value). A dot leads into an object, and into each object of a list.

  A column with the dot in its own name has precedence. {"answers": {"text": ["a"]}} and {"answers": [{"text": "a"}]}
  both have ["a"] at "answers.text".
  """
  if name in row:
    return True, row[name]
  for head, rest in splits(name):
    if head in row:
      return _inside(row[head], rest)
  return False, None


def _inside(value: Any, name: str) -> tuple[bool, Any]:
  if value is None:
    return True, None
  if isinstance(value, Mapping):
    return find(value, name)
  if isinstance(value, list):
    found = [_inside(part, name) for part in value]
    return all(there for there, _ in found), [part for _, part in found]
  return False, None


def splits(name: str) -> Iterator[tuple[str, str]]:
  """Every (head, rest) of a dotted name, longest head first: ("a.b", "c") and ("a", "b.c") for "a.b.c"."""
  parts = name.split(".")
  for size in range(len(parts) - 1, 0, -1):
    yield ".".join(parts[:size]), ".".join(parts[size:])


def top_column(name: str, columns: Mapping[str, Any] | list[str]) -> str | None:
  """The top-level column of a table that a dotted name leads into, or None."""
  return name if name in columns else next((head for head, _ in splits(name) if head in columns), None)


def nested_names(row: Mapping[str, Any]) -> list[str]:
  """All names by which `find` reaches values of a row: its columns, and dotted names of those inside them."""
  names: list[str] = []
  for name, value in row.items():
    names.append(name)
    inner = value[0] if isinstance(value, list) and value else value
    if isinstance(inner, Mapping):
      names += [f"{name}.{rest}" for rest in nested_names(inner)]
  return names
