# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""How an objective turns a row of columns into arrays, once, before they are cached."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from lmx.errors import LmxError


class BadExampleError(LmxError):
  """A row that an objective cannot use. The reader adds file and row, and stops or skips as config.data says.

  Attributes:
    reason: short and the same for all such rows; they are counted by it ("empty column 'text'").
    detail: what is special about this one, and what to do.
  """

  def __init__(self, reason: str, detail: str = ""):
    super().__init__(f"{reason} ({detail})" if detail else reason)
    self.reason, self.detail = reason, detail


@dataclasses.dataclass(frozen=True)
class Encoded:
  """One example, and what else was made of its row.

  Attributes:
    fields: name -> int32 or float32 array, of any length; a scalar has shape (). "tokens" is always among them, and its
      length (and that of "encoder_tokens", ...) is what packing goes by.
    truncated: tokens that were cut off to fit; counted and reported.
    more: further examples of the same row.
    doubts: what the row lacks and at least one row of its source must have ("a column that ... names").
    notes: what is to be said about the row; rows are counted by it and reported ("rows read as ShareGPT").
  """

  fields: dict[str, np.ndarray]
  truncated: int = 0
  more: tuple["Encoded", ...] = ()
  notes: tuple[str, ...] = ()
  doubts: tuple[str, ...] = ()


class ExampleEncoder(Protocol):
  """Turns rows into examples. It is deterministic: its results are cached.

  Attributes:
    columns: our names of the columns it must have (keys of config.data.columns).
    optional: those it also reads where a table has them.
    fingerprint: JSON-able; a cache made by another one is not used. The tokenizer's is added by the cache.
  """

  columns: tuple[str, ...]
  optional: tuple[str, ...]
  fingerprint: dict[str, Any]

  def __call__(self, row: Mapping[str, Any]) -> Encoded:
    """Encodes one row, {our name: value}: strings from TSV and CSV, JSON values from JSONL.

    Raises:
      BadExampleError: it cannot be used.
    """


def check_ids(ids: np.ndarray, vocab_size: int, where: str) -> None:
  """Whether all ids are of the vocabulary; about 0.3 seconds for 1e9 of them.

  Raises:
    LmxError: one is not, which a model would train on as if it were another, or as NaN.
  """
  if ids.size and (int(ids.max()) >= vocab_size or int(ids.min()) < 0):
    wrong = int(ids[(ids < 0) | (ids >= vocab_size)][0])
    raise LmxError(
      f"{where} has the id {wrong}, and the tokenizer has 0 to {vocab_size - 1}: the tokenizer is not the one that the "
      "data was tokenized with, or the cache is damaged. Fix: lmx doctor --verify names a damaged cache."
    )


@dataclasses.dataclass(frozen=True)
class DataRequirements:
  """What an objective asks of the data room; its fields are those of `Objective`.

  Attributes:
    prepare: (window of ids, or an example's fields; random generator) -> the row's arrays.
    lookahead: ids that a window has beyond the places it fills.
    window_length: places planned for a row's windows; None: the row's length.
    encoder: turns rows of columns into examples; None: windows of text.
    per_row: names of arrays with one value a row, which are never padded.
  """

  prepare: Callable[[Any, np.random.Generator], Mapping[str, np.ndarray]]
  lookahead: int = 0
  window_length: int | None = None
  encoder: ExampleEncoder | None = None
  per_row: tuple[str, ...] = ()
