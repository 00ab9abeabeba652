# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a decoder remembers of the tokens it has seen: keys and values of every layer, in slots."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KeyValues:
  """Keys and values of all layers, (N, B, S, G, K) in the compute dtype. A token's slot is its position."""

  key: jax.Array
  value: jax.Array

  @classmethod
  def empty(cls, layers: int, batch: int, slots: int, kv_heads: int, head_width: int, dtype: Any) -> "KeyValues":
    zeros = jnp.zeros((layers, batch, slots, kv_heads, head_width), dtype)
    return cls(zeros, zeros)

  def write(self, layer, slots_BL: jax.Array, k_BLGK: jax.Array, v_BLGK: jax.Array) -> "KeyValues":
    """Stores each token in its slot of one layer; a slot past the end is dropped."""
    rows = jnp.arange(slots_BL.shape[0], dtype=jnp.int32)[:, None]
    return KeyValues(
      self.key.at[layer, rows, slots_BL].set(k_BLGK, mode="drop"),
      self.value.at[layer, rows, slots_BL].set(v_BLGK, mode="drop"),
    )

  def read(self, layer) -> tuple[jax.Array, jax.Array]:
    """Keys and values of one layer, (B, S, G, K) each, empty and stale slots included: the mask hides them."""
    at = lambda x: jax.lax.dynamic_index_in_dim(x, layer, keepdims=False)  # noqa: E731
    return at(self.key), at(self.value)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
  """The state of decoding: one document per row.

  Attributes:
    length: (B,) int32, tokens seen so far, which is also the next free slot.
    layers: what the mixers remember (`KeyValues` for attention), stacked over layers.
  """

  length: jax.Array
  layers: KeyValues
