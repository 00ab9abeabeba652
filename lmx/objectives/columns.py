# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Text, numbers and labels from the columns of a row, with errors that name what is wrong with the row."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lmx.data.cache.encoding import BadExampleError
from lmx.data.columns import label_text
from lmx.data.document import is_missing
from lmx.errors import nearest

_LARGEST = float(np.finfo(np.float32).max)


def text_of(row: Mapping[str, Any], name: str) -> str:
  """The text of a column, which must have some.

  Raises:
    BadExampleError: it is empty, missing or not text.
  """
  text = optional_text(row, name)
  if not text.strip():
    raise BadExampleError(f"empty column {name!r}")
  return text


def optional_text(row: Mapping[str, Any], name: str) -> str:
  """The text of a column, "" where the row has none. A JSON number is read as it would be written.

  Raises:
    BadExampleError: it is a list or an object, or has a lone surrogate, which UTF-8 cannot spell.
  """
  value = row.get(name)
  if is_missing(value):
    return ""
  if isinstance(value, list | dict):
    raise BadExampleError(f"column {name!r} is not text", f"got {json.dumps(value)[:60]}")
  return _unicode(str(value), name)


def _unicode(text: str, name: str) -> str:
  """The text, once it is sure that it can be written as UTF-8."""
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise BadExampleError(
      f"column {name!r} is not valid Unicode", f"lone surrogate at character {error.start}"
    ) from error
  return text


def number_of(row: Mapping[str, Any], name: str) -> float:
  """The number in a column.

  Raises:
    BadExampleError: it is not a finite number, or beyond what float32 holds, in which it would be trained on.
  """
  text = text_of(row, name)
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not math.isfinite(value):
    raise BadExampleError(f"column {name!r} is not a number", f"got {text[:60]!r}")
  if abs(value) > _LARGEST:
    raise BadExampleError(f"column {name!r} is too large", f"got {text[:60]!r}, float32 ends at {_LARGEST:.3g}")
  return value


def whole_number_of(row: Mapping[str, Any], name: str) -> int:
  """The integer in a column.

  Raises:
    BadExampleError: it is not one.
  """
  value = number_of(row, name)
  if not value.is_integer():
    raise BadExampleError(f"column {name!r} is not a whole number", f"got {value!r}")
  return int(value)


def words_of(row: Mapping[str, Any], name: str) -> list[str]:
  """The words of a column: a list, or text with spaces between them.

  Raises:
    BadExampleError: there are none, or one of them is missing.
  """
  value = row.get(name)
  if isinstance(value, list):
    words = [text_of({name: word}, name) for word in value]
  else:
    words = optional_text(row, name).split()
  if not words:
    raise BadExampleError(f"empty column {name!r}")
  return words


def label_of(row: Mapping[str, Any], name: str, labels: Sequence[str]) -> int:
  """Index of the row's label in `labels`.

  Raises:
    BadExampleError: there is none, or it is not one of them.
  """
  text_of(row, name)  # It must have some.
  return _place(row[name], labels)


def label_set_of(row: Mapping[str, Any], name: str, labels: Sequence[str]) -> np.ndarray:
  """(C,) float32, 1 for each label that the row has: a list, or text with commas between. It may have none.

  Raises:
    BadExampleError: one is not among `labels`.
  """
  value = row.get(name)
  found = np.zeros(len(labels), np.float32)
  for label in value if isinstance(value, list) else optional_text(row, name).split(","):
    if not is_missing(label) and str(label).strip():
      found[_place(label, labels)] = 1
  return found


def _place(value: Any, labels: Sequence[str]) -> int:
  """Index of a label as written in a cell; see `label_text`."""
  text = str(value).strip()
  return labels.index(text) if text in labels else place_of(label_text(value), labels)


def place_of(label: str, labels: Sequence[str]) -> int:
  """Index of one label.

  Raises:
    BadExampleError: it is not one of `labels`.
  """
  if label not in labels:
    close = nearest(label, labels)
    hint = f"; did you mean {close!r}?" if close else ""
    shown = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
    raise BadExampleError("label not in the label set", f"got {label[:60]!r}, the labels are {shown}{hint}")
  return labels.index(label)
