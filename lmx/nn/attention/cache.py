# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Caches for decoding: keys and values of the tokens seen so far, and of an encoder's memory."""

import dataclasses
from collections.abc import Callable
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

  @property
  def slots(self) -> int:
    """S, tokens that fit."""
    return self.key.shape[2]

  def write(self, layer: int | jax.Array, slots_BL: jax.Array, k_BLGK: jax.Array, v_BLGK: jax.Array) -> "KeyValues":
    """Stores each token in its slot of one layer; a slot past the end is dropped."""
    rows = jnp.arange(slots_BL.shape[0], dtype=jnp.int32)[:, None]
    return KeyValues(
      self.key.at[layer, rows, slots_BL].set(k_BLGK, mode="drop"),
      self.value.at[layer, rows, slots_BL].set(v_BLGK, mode="drop"),
    )

  def read(self, layer: int | jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys and values of one layer, (B, S, G, K) each, empty and stale slots included: the mask hides them."""
    at = lambda x: jax.lax.dynamic_index_in_dim(x, layer, keepdims=False)  # noqa: E731
    return at(self.key), at(self.value)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WithMemory:
  """The state of a decoder's layers that also read an encoder's memory.

  Attributes:
    own: the mixers' state after the decoder's tokens.
    memory: keys and values of the encoder's M tokens, (N, B, M, G, K), which don't change.
  """

  own: Any
  memory: KeyValues


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cache:
  """The state of decoding: one document per row.

  Attributes:
    length: (B,) int32, tokens seen so far, which is also the next free slot.
    layers: the mixers' state (`KeyValues` for attention), stacked over layers: (N, B, ...) arrays.
    memory_segments: (B, M) int32, 1: a real token of the encoder's, 0: padding; None without an encoder.
  """

  length: jax.Array
  layers: Any
  memory_segments: Any = None

  def repeat(self, copies: int) -> "Cache":
    """Each row `copies` times in a row: (B * copies, ...)."""
    return self._map(lambda x, axis: jnp.repeat(x, copies, axis=axis))

  def select(self, rows: jax.Array) -> "Cache":
    """The rows of those numbers, (R,) int32, in their order; one may come more than once."""
    return self._map(lambda x, axis: jnp.take(x, rows, axis=axis))

  def _map(self, function: Callable[[jax.Array, int], jax.Array]) -> "Cache":
    return Cache(
      function(self.length, 0),
      jax.tree.map(lambda x: function(x, 1), self.layers),
      None if self.memory_segments is None else function(self.memory_segments, 0),
    )
