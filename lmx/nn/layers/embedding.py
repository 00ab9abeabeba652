# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Tables looked up by id: tokens, positions, distances, and the output projection of an embedding's shape."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lmx.nn.layers.initializers import Initializer
from lmx.nn.layers.positions import relative_buckets
from lmx.parallel.sharding import constrain, shard_as, split_over, summed_over_rows


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def look_up(table: jax.Array, ids: jax.Array, axis: str) -> jax.Array:
  """Rows (..., D) of a table (rows, D), whose first logical axis is `axis`, for ids (B or 1, L)."""
  table = constrain(table, axis, "embed")  # Gathered over fsdp before the lookup, not after it.
  return jnp.take(table, ids, axis=0, mode="fill")


def _look_up_forward(table: jax.Array, ids: jax.Array, axis: str) -> tuple[Any, Any]:
  return look_up(table, ids, axis), (table, ids)


def _look_up_backward(axis: str, saved: Any, dy: jax.Array) -> tuple[Any, Any]:
  table, ids = saved

  def scatter(dy: jax.Array, ids: jax.Array) -> jax.Array:
    """Ids beyond the table are dropped; negative ones count from its end, as they do in the lookup."""
    return jnp.zeros(table.shape, table.dtype).at[ids].add(dy.astype(table.dtype), mode="drop")

  rows = ("batch" if ids.shape[0] > 1 else None, "length")
  if split_over(axis) > 1:  # Parts of the table on different devices: the compiler knows which rows go where.
    return shard_as(scatter(dy, ids), "storage", (axis, "embed")), None
  return summed_over_rows(scatter, [(dy, (*rows, None)), (ids, rows)], (axis, "embed")), None


look_up.defvjp(_look_up_forward, _look_up_backward)


class Embedding(nnx.Module):
  """A float32 (rows, D) table with one row per id."""

  def __init__(self, axis: str, rows: int, width: int, *, scheme: Initializer, dtype: Any, rngs: nnx.Rngs):
    self.axis = axis
    self.dtype = jnp.dtype(dtype)
    self.embedding = nnx.Param(scheme.embedding(rngs.params(), (rows, width)), axes=(axis, "embed"))

  def __call__(self, ids: jax.Array) -> jax.Array:
    """ids (B, L) int32 to rows (B, L, D). An id beyond the table gives NaN, never another id's row."""
    return look_up(self.embedding[...], ids, self.axis).astype(self.dtype)


class Unembedding(nnx.Module):
  """The output projection of a model that doesn't tie it to the embedding.

  The kernel is stored (V, D), as an embedding table is: tied or not, the loss sees the same orientation.
  """

  def __init__(self, rows: int, width: int, *, scheme: Initializer, rngs: nnx.Rngs):
    self.kernel = nnx.Param(scheme.embedding(rngs.params(), (rows, width)), axes=("vocab", "embed"))


class RelativeEmbedding(nnx.Module):
  """A bias on attention scores for each bucket of distances and each head; one table for all layers. Source: T5."""

  def __init__(self, heads: int, *, buckets: int, limit: int, both_ways: bool, scheme: Initializer, rngs: nnx.Rngs):
    """Makes the table.

    Args:
      heads: H.
      buckets, limit, both_ways: see `relative_buckets`.
      scheme: the initializer.
      rngs: the `params` stream is drawn from.
    """
    self.buckets = buckets
    self.limit = limit
    self.both_ways = both_ways
    self.embedding = nnx.Param(scheme.embedding(rngs.params(), (buckets, heads)), axes=("buckets", "heads"))

  def __call__(self, query_index: jax.Array, key_index: jax.Array) -> jax.Array:
    """Places of queries (B or 1, L) and keys (B or 1, S) to biases (B or 1, H, L, S), float32."""
    near = np.arange(-self.limit, self.limit + 1)  # Farther ones are as far as these.
    bucket = relative_buckets(near, both_ways=self.both_ways, buckets=self.buckets, limit=self.limit)
    by_distance = jnp.take(self.embedding[...].T, bucket, axis=1)
    distance = key_index[:, None, :] - query_index[:, :, None]
    return jnp.take(by_distance, jnp.clip(distance, -self.limit, self.limit) + self.limit, axis=1).swapaxes(0, 1)
