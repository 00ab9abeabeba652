# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Runs a compiled function over ragged rows, batched by length: little padding, and few compilations."""

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
  aligned: Mapping[str, Ragged] | None = None,
) -> list[Any]:
  """Runs `function` over all rows; a row's result doesn't depend on the others.

  Args:
    function: compiled: (model, tokens (B, L), segment_ids (B, L), name=(B, L) of `aligned`) -> (B, ...) arrays.
    model: its spec has the longest row and the vocabulary.
    rows: token ids, (n,) int32 each.
    batch_size: rows per batch; smaller batches are padded to a power of two.
    aligned: name -> one integer per token of each row.

  Returns:
    For each row, in order, its part of the arrays, in numpy. Arrays with a length axis are as long as the bucket.

  Raises:
    LmxError: an empty row, one longer than the context, or an id outside the vocabulary.
    ValueError: a row of `aligned` with another length than its row of ids.
  """
  spec = model.spec
  ids = [np.asarray(row, np.int32) for row in rows]
  for number, row in enumerate(ids):
    check_ids(spec, row, f"row {number}", longest=None if spec.unlimited else spec.context)
  more = {name: [np.asarray(row, np.int32) for row in given] for name, given in (aligned or {}).items()}
  for name, given in more.items():
    if [len(row) for row in given] != [len(row) for row in ids]:
      raise ValueError(f"{name}: needs one number per token")
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
    for index, number in enumerate(chosen):
      results[number] = jax.tree.map(lambda x, index=index: x[index], result)
  return results


def _batches(lengths: list[int], batch_size: int) -> list[list[int]]:
  """Indices of the rows of each batch, the longest first; the rows of a batch share a bucket."""
  batches: list[list[int]] = []
  width = 0
  for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    if not batches or len(batches[-1]) == batch_size or bucket(lengths[number]) != width:
      batches.append([])
      width = bucket(lengths[number])
    batches[-1].append(number)
  return batches
