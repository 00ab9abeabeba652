# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Tables looked up by id: token and position embeddings, and the output projection of the same shape."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.nn.initializers import Scheme
from lmx.sharding import constrain


class Embedding(nnx.Module):
  """A float32 (rows, D) table with one row per id."""

  def __init__(self, axis: str, rows: int, width: int, *, scheme: Scheme, dtype: Any, rngs: nnx.Rngs):
    self.axis = axis
    self.dtype = jnp.dtype(dtype)
    self.embedding = nnx.Param(scheme.embedding(rngs.params(), (rows, width)), axes=(axis, "embed"))

  def __call__(self, ids: jax.Array) -> jax.Array:
    """ids (B, L) int32 to rows (B, L, D). An id beyond the table gives NaN, never another id's row."""
    table = constrain(self.embedding[...], self.axis, "embed")  # Gathered over fsdp before the lookup, not after it.
    return jnp.take(table, ids, axis=0, mode="fill").astype(self.dtype)


class Unembedding(nnx.Module):
  """The output projection of a model that doesn't tie it to the embedding.

  The kernel is stored (V, D), as an embedding table is: tied or not, the loss sees the same orientation.
  """

  def __init__(self, rows: int, width: int, *, scheme: Scheme, rngs: nnx.Rngs):
    self.kernel = nnx.Param(scheme.embedding(rngs.params(), (rows, width)), axes=("vocab", "embed"))
