# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Small batches for any specimen, packed and unpacked, and one loss for any head."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.nn.losses import cross_entropy
from lmx.objectives.base import run_model

LENGTH, MEMORY = 16, 12
_FLOATS = ("loss_weights",)
TOLERANCE = 2e-4  # Relative to the largest value; float32 sums in another order.

Document = dict[str, np.ndarray]
Batch = dict[str, np.ndarray]


def document(spec: Any, length: int, memory: int, seed: int) -> Document:
  """One document's arrays: those of tokens have `length` positions, those of an encoder `memory`."""
  draw = np.random.default_rng(seed)
  ids = draw.integers(0, spec.vocab_size, length + 1)
  return {
    "tokens": ids[:-1],
    "targets": ids[1:],
    "loss_weights": np.ones(length),
    "positions": np.arange(length),
    "token_types": np.arange(length) // 3 % 2,
    "prefix": np.arange(length) < 2,
    "encoder_tokens": draw.integers(0, spec.vocab_size, memory),
    "encoder_positions": np.arange(memory),
  }


def lay_out(rows: Sequence[Sequence[Document]]) -> Batch:
  """Documents of each row, one after the other, as a batch; what is left is padding."""
  names = [*rows[0][0], "segment_ids", "encoder_segment_ids"]
  batch = {
    name: np.zeros(
      (len(rows), MEMORY if name.startswith("encoder_") else LENGTH), np.float32 if name in _FLOATS else np.int32
    )
    for name in names
  }
  for row, documents in enumerate(rows):
    for group, counted in (("", "tokens"), ("encoder_", "encoder_tokens")):
      ends = itertools.accumulate(len(one[counted]) for one in documents)
      for number, (one, end) in enumerate(zip(documents, ends, strict=True), start=1):
        start = end - len(one[counted])
        batch[group + "segment_ids"][row, start:end] = number
        for name, values in one.items():
          if name.startswith("encoder_") == bool(group):
            batch[name][row, start:end] = values
  return batch


def packed_and_apart(spec: Any) -> tuple[Batch, Batch]:
  """Two documents in one row with a padding token (next to an empty row), and each in a separate row."""
  two = [document(spec, 6, 4, seed=1), document(spec, 9, 7, seed=2)]
  apart = lay_out([[one] for one in two])
  packed = {name: np.concatenate([row, np.zeros_like(row)]) for name, row in lay_out([two]).items()}
  return packed, apart


def without_prefix(batch: Batch) -> Batch:
  return {name: values for name, values in batch.items() if name != "prefix"}


def loss_of(model: Any, batch: Any, dropout_key: jax.Array | None = None) -> jax.Array:
  """A number that every output counts in: the cross-entropy, or a weighted sum of a head's scores."""
  outputs = run_model(model, batch, dropout_key)
  weights = batch["loss_weights"]
  if outputs.unembedding is not None:
    args = (outputs.hidden, outputs.unembedding, batch["targets"], weights, outputs.head, outputs.bias)
    return cross_entropy(*args).total
  scores = jnp.sin(outputs.scores)
  if scores.ndim == 3:
    scores = scores * weights[:, :, None]
  classes = scores.shape[-1] if scores.ndim > 1 else 1
  return jnp.sum(scores.reshape(-1, classes) * jnp.arange(1, classes + 1, dtype=jnp.float32)[None])


def assert_close(got: Any, expected: Any, what: str) -> None:
  """Equal but for rounding."""
  got, expected = np.asarray(got), np.asarray(expected)
  largest = np.max(np.abs(expected))
  assert np.max(np.abs(got - expected)) <= TOLERANCE * max(largest, 1e-3), what
