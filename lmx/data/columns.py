# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What values a column has, for the labels of classification and tagging."""

from collections.abc import Iterator
from typing import Any

from lmx.data.document import BadDocuments, Wanted
from lmx.data.spec import DataSpec, open_sources
from lmx.errors import LmxError

MOST_VALUES = 1000
MOST_FRACTIONS = 50  # Of labels that are numbers with a fraction.
_NOT_LABELS = (
  "This looks like a regression target or a text, not like labels. "
  "Fix: --config.objective.name=regression, another column, or --config.objective.labels=..."
)
_WORDS = ("tokens", "tags")  # Columns of lists, which a table writes as words with spaces between.


def column_values(spec: DataSpec, column: str, several: bool = False) -> list[str]:
  """The values of a column over all training sources, sorted: as numbers where all are, else as text.

  Args:
    spec: where to look.
    column: our name of it ("label"). Each word of "tags" counts, and each item of a list.
    several: a text holds any number of values, separated by commas.

  Raises:
    LmxError: the column is not there, has no values, or more than a set of labels has.
  """
  bad, wanted = BadDocuments(spec.bad_documents), Wanted((column,))
  found: set[str] = set()
  key = f"config.data.columns.{column}: {spec.columns[column]!r}"
  for source in open_sources(spec):
    for record in source.records(wanted, bad):
      found.update(split_values(record.values[column], column, several))
      if len(found) > MOST_VALUES:
        example = f"one at {record.where} is {str(record.values[column])[:40]!r}"
        raise LmxError(f"{key} has more than {MOST_VALUES:,} different values ({example}). {_NOT_LABELS}")
  if not found:
    raise LmxError(f"{key} is empty in every row of {', '.join(spec.sources)}.")
  if not all(map(_is_number, found)):
    return sorted(found)
  values = sorted(found, key=float)
  if len(values) > MOST_FRACTIONS and any(not float(value).is_integer() for value in values):
    raise LmxError(f"{key} has {len(values)} different numbers ({', '.join(values[:5])}, ...). {_NOT_LABELS}")
  return values


def split_values(value: Any, column: str, several: bool = False) -> Iterator[str]:
  """The labels that one cell holds, without empty ones; see `column_values`."""
  if isinstance(value, list):
    parts = value
  elif isinstance(value, str):
    parts = value.split() if column in _WORDS else value.split(",") if several else [value]
  else:
    parts = [] if value is None else [value]
  for part in parts:
    if text := str(part).strip():
      yield text


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True
