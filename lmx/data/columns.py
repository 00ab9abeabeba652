# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The distinct values of a column: the labels of classification and tagging."""

import math
from collections.abc import Iterator
from typing import Any

from lmx.data.document import BadDocuments, RequiredColumns, is_missing
from lmx.data.spec import DataSpec, open_sources
from lmx.errors import LmxError

MAX_VALUES = 1000
_NOT_LABELS = (
  "This looks like a regression target or free text, not like labels. "
  "Fix: --config.objective.name=regression, another column, or --config.objective.labels=..."
)
_MAX_INTEGER = 2**64  # 64-bit ids may be classes.
_LONGEST_INFINITY = len("-infinity")
_WORDS = ("tokens", "tags")  # Columns of lists, which a table holds as words separated by spaces.


def column_values(spec: DataSpec, column: str, multi_label: bool = False) -> list[str]:
  """The distinct values of a column over all training sources, sorted: as numbers if all of them are, else as text.

  Args:
    spec: the sources.
    column: lmx's name of it ("label"). Each word of "tags" and each item of a list is a value.
    multi_label: a cell holds any number of values, separated by commas.

  Raises:
    LmxError: the column doesn't exist, is empty, has more than MAX_VALUES values, or one that can't be a class (a
      number with a fraction).
  """
  bad, wanted = BadDocuments(spec.bad_documents), RequiredColumns((column,))
  found: dict[str, str] = {}  # Value -> where it was first seen.
  key = f"config.data.columns.{column}: {spec.columns[column]!r}"
  for source in open_sources(spec):
    for record in source.records(wanted, bad):
      for value in split_values(record.values[column], column, multi_label):
        if is_invalid_label(value):
          raise LmxError(f"{record.where}: {key} has {value[:40]!r}, which is not a class. {_NOT_LABELS}")
        found.setdefault(value, record.where)
      if len(found) > MAX_VALUES:
        example = f"one at {record.where} is {str(record.values[column])[:40]!r}"
        raise LmxError(f"{key} has more than {MAX_VALUES:,} different values ({example}). {_NOT_LABELS}")
  if not found:
    raise LmxError(f"{key} is empty in every row of {', '.join(spec.sources)}.")
  if not all(map(_is_number, found)):
    return sorted(found)
  if infinite := next((value for value in found if math.isinf(float(value))), None):
    raise LmxError(f"{found[infinite]}: {key} has {infinite!r} among numbers, which is not a class. {_NOT_LABELS}")
  return sorted(found, key=float)


def split_values(value: Any, column: str, multi_label: bool = False) -> Iterator[str]:
  """The labels in one cell, without empty and missing ones; the arguments are those of `column_values`."""
  if isinstance(value, list):
    parts = value
  elif isinstance(value, str):
    parts = value.split() if column in _WORDS else value.split(",") if multi_label else [value]
  else:
    parts = [value]
  for part in parts:
    if not is_missing(part) and (text := label_text(part)):
      yield text


def label_text(value: Any) -> str:
  """A label as text. Integers lose their fraction, because tables with missing cells hold 1 as 1.0."""
  return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def is_invalid_label(label: str) -> bool:
  """Whether a label can't be a class: "nan", a number with a fraction, or one beyond 64 bits (1e300).

  "inf" is allowed, because it may be a word (a tag for infinitives).
  """
  try:
    number = float(label)
  except ValueError:
    return False
  if math.isinf(number):
    return len(label) > _LONGEST_INFINITY  # An integer so long that float() overflows.
  return math.isnan(number) or not number.is_integer() or abs(number) > _MAX_INTEGER


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True
