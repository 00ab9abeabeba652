# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A compiled function over ragged rows: batched by length, so that little is padding and few programs are compiled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lmx.inference.prompts import bucket, check_ids, pad_rows

Ragged = Sequence[np.ndarray]


def over_rows(
  function: Callable[..., Any],
  model: Any,
  rows: Ragged,
  *,
  batch_size: int,
  beside: Mapping[str, Ragged] | None = None,
) -> list[Any]:
  """Runs `function` over all rows; a row's result doesn't depend on the others.

  Args:
    function: compiled: (model, tokens (B, L), segment_ids (B, L), name=(B, L) of `beside`) -> (B, ...) arrays.
    model: its spec says how long a row may be, and which ids there are.
    rows: ids, (n,) each.
    batch_size: rows at once; batches of fewer are filled up to a power of two.
    beside: name -> integers as long as the rows.

  Returns:
    For each row, in the order they came, its part of the arrays, numpy. Arrays with a length are as long as the bucket.

  Raises:
    LmxError: an empty row, one longer than the context, or an id outside the vocabulary.
    ValueError: something beside a row that isn't as long as it.
  """
  spec = model.spec
  ids = [np.asarray(row, np.int32) for row in rows]
  for number, row in enumerate(ids):
    check_ids(spec, row, f"row {number}", longest=None if spec.unlimited else spec.context)
  more = {name: [np.asarray(row, np.int32) for row in given] for name, given in (beside or {}).items()}
  for name, given in more.items():
    if [len(row) for row in given] != [len(row) for row in ids]:
      raise ValueError(f"{name}: one number for each token is needed")
  results: list[Any] = [None] * len(ids)
  for chosen in _batches([len(row) for row in ids], batch_size):
    width = bucket(len(ids[chosen[0]]))
    width = width if spec.unlimited else min(width, spec.context)
    size = min(batch_size, 1 << (len(chosen) - 1).bit_length())
    filled = chosen + [chosen[0]] * (size - len(chosen))
    tokens, lengths = pad_rows([ids[i] for i in filled], width)
    segments = (np.arange(width)[None] < lengths[:, None]).astype(np.int32)
    padded = {name: pad_rows([given[i] for i in filled], width)[0] for name, given in more.items()}
    result = jax.device_get(function(model, tokens, segments, **padded))
    for place, number in enumerate(chosen):
      results[number] = jax.tree.map(lambda x, place=place: x[place], result)
  return results


def _batches(lengths: list[int], batch_size: int) -> list[list[int]]:
  """Numbers of rows, batch by batch, the longest first; the rows of a batch are of one bucket."""
  batches: list[list[int]] = []
  width = 0
  for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    if not batches or len(batches[-1]) == batch_size or bucket(lengths[number]) != width:
      batches.append([])
      width = bucket(lengths[number])
    batches[-1].append(number)
  return batches
