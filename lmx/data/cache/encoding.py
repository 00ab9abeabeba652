# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Interface between objectives and the data room: encoding rows into examples, and requirements on batches."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from lmx.errors import LmxError


class BadExampleError(LmxError):
  """A row that an objective can't use. The reader adds file and row, and stops or skips by config.data.bad_documents.

  Attributes:
    reason: short, and the same for all such rows, which are counted by it ("empty column 'text'").
    detail: specific to this row, with the fix.
  """

  def __init__(self, reason: str, detail: str = ""):
    super().__init__(f"{reason} ({detail})" if detail else reason)
    self.reason, self.detail = reason, detail


@dataclasses.dataclass(frozen=True)
class Encoded:
  """One encoded example, with what there is to report about its row.

  Attributes:
    fields: name -> int32 or float32 array of any length; a scalar has shape (). "tokens" is required; its length (and
      that of "encoder_tokens", ...) is the example's size in packing.
    truncated: tokens that were dropped to fit; counted and reported.
    more: further examples of the same row.
    notes: remarks about the row; rows are counted and reported by remark ("rows read as ShareGPT").
    doubts: what the row lacks. It is an error only if all rows of the source lack it, as with a misspelled column.
  """

  fields: dict[str, np.ndarray]
  truncated: int = 0
  more: tuple["Encoded", ...] = ()
  notes: tuple[str, ...] = ()
  doubts: tuple[str, ...] = ()


class ExampleEncoder(Protocol):
  """Turns rows into examples. It must be deterministic, because its results are cached.

  Attributes:
    columns: required columns, by lmx's names (keys of config.data.columns).
    optional: columns that are read if a table has them.
    fingerprint: JSON values that change whenever the examples could; part of the cache's name, like the tokenizer's.
  """

  columns: tuple[str, ...]
  optional: tuple[str, ...]
  fingerprint: dict[str, Any]

  def __call__(self, row: Mapping[str, Any]) -> Encoded:
    """Encodes one row, {lmx's name: value}: strings from TSV and CSV, JSON values from other formats.

    Raises:
      BadExampleError: the row can't be used.
    """


def ids_fit(ids: np.ndarray, vocab_size: int) -> bool:
  """Whether all ids are 0 to vocab_size - 1."""
  return not ids.size or (int(ids.max()) < vocab_size and int(ids.min()) >= 0)


def check_ids(ids: np.ndarray, vocab_size: int, where: str) -> None:
  """Checks that all ids are within the vocabulary; takes about 0.3 seconds per 1e9 ids.

  Without the check, a gather under jit would silently clamp an id that is too large, or return NaN.

  Args:
    ids: any shape.
    vocab_size: ids must be 0 to vocab_size - 1.
    where: where the ids come from, for the message.

  Raises:
    LmxError: an id is outside.
  """
  if not ids_fit(ids, vocab_size):
    wrong = int(ids[(ids < 0) | (ids >= vocab_size)][0])
    raise LmxError(
      f"{where} has the id {wrong}, and the tokenizer has 0 to {vocab_size - 1}: the data was tokenized with another "
      "tokenizer, or the cache is damaged. Fix: lmx doctor --verify names a damaged cache."
    )


@dataclasses.dataclass(frozen=True)
class DataRequirements:
  """Requirements of an objective on its batches; the fields are those of `Objective`.

  Attributes:
    prepare: (window of ids, or an example's fields; random generator) -> arrays of one segment.
    lookahead: ids that a window has beyond the tokens it adds to a row (1 for next-token prediction).
    window_length: tokens of text per row before `prepare`; None: the row's length. Span corruption reads more text than
      it outputs.
    encoder: turns rows of columns into examples; None: windows of text.
    per_row: names of arrays with one value per row, which aren't padded.
  """

  prepare: Callable[[Any, np.random.Generator], Mapping[str, np.ndarray]]
  lookahead: int = 0
  window_length: int | None = None
  encoder: ExampleEncoder | None = None
  per_row: tuple[str, ...] = ()
