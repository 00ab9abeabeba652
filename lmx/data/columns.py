# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What values a column has, for the labels of classification and tagging."""

import math
from collections.abc import Iterator
from typing import Any

from lmx.data.document import BadDocuments, RequiredColumns, is_missing
from lmx.data.spec import DataSpec, open_sources
from lmx.errors import LmxError

MOST_VALUES = 1000
_NOT_LABELS = (
  "This looks like a regression target or a text, not like labels. "
  "Fix: --config.objective.name=regression, another column, or --config.objective.labels=..."
)
_MOST_WHOLE = 2**64  # Ids of 64 bits may be classes.
_LONGEST_INFINITY = len("-infinity")
_WORDS = ("tokens", "tags")  # Columns of lists, which a table writes as words with spaces between.


def column_values(spec: DataSpec, column: str, several: bool = False) -> list[str]:
  """The values of a column over all training sources, sorted: as numbers where all are, else as text.

  Args:
    spec: where to look.
    column: our name of it ("label"). Each word of "tags" counts, and each item of a list.
    several: a text holds any number of values, separated by commas.

  Raises:
    LmxError: the column is not there, has no values, more than a set of labels has, or one that is no class: a number
      with a fraction.
  """
  bad, wanted = BadDocuments(spec.bad_documents), RequiredColumns((column,))
  found: dict[str, str] = {}  # Value -> where it was seen first.
  key = f"config.data.columns.{column}: {spec.columns[column]!r}"
  for source in open_sources(spec):
    for record in source.records(wanted, bad):
      for value in split_values(record.values[column], column, several):
        if is_no_class(value):
          raise LmxError(f"{record.where}: {key} has {value[:40]!r}, which is no class. {_NOT_LABELS}")
        found.setdefault(value, record.where)
      if len(found) > MOST_VALUES:
        example = f"one at {record.where} is {str(record.values[column])[:40]!r}"
        raise LmxError(f"{key} has more than {MOST_VALUES:,} different values ({example}). {_NOT_LABELS}")
  if not found:
    raise LmxError(f"{key} is empty in every row of {', '.join(spec.sources)}.")
  if not all(map(_is_number, found)):
    return sorted(found)
  if infinite := next((value for value in found if math.isinf(float(value))), None):
    raise LmxError(f"{found[infinite]}: {key} has {infinite!r} among numbers, which is no class. {_NOT_LABELS}")
  return sorted(found, key=float)


def split_values(value: Any, column: str, several: bool = False) -> Iterator[str]:
  """The labels that one cell holds, without empty and missing ones; see `column_values`."""
  if isinstance(value, list):
    parts = value
  elif isinstance(value, str):
    parts = value.split() if column in _WORDS else value.split(",") if several else [value]
  else:
    parts = [value]
  for part in parts:
    if not is_missing(part) and (text := label_text(part)):
      yield text


def label_text(value: Any) -> str:
  """A label as text. A whole number is written without a fraction: tables that have gaps hold 1 as 1.0."""
  return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def is_no_class(label: str) -> bool:
  """Whether a label is "nan", or a number that isn't whole or is beyond 64 bits (1e300).

  "inf" alone may be a word: it is a tag for infinitives.
  """
  try:
    number = float(label)
  except ValueError:
    return False
  if math.isinf(number):
    return len(label) > _LONGEST_INFINITY  # An integer so long that it overflows.
  return math.isnan(number) or not number.is_integer() or abs(number) > _MOST_WHOLE


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True
