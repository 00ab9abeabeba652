# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The context of a forward pass: what its layers need of the tokens apart from hidden states."""

import dataclasses
from typing import Any

import jax

Rotary = tuple[jax.Array, jax.Array]  # cos and sin, (B, L, K / 2) float32.
Sums = dict[str, tuple[jax.Array, jax.Array]]  # name -> (weighted sum over tokens, number of tokens), float32 scalars.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EncoderMemory:
  """An encoder's output, for a decoder's cross-attention.

  Attributes:
    hidden: (B, M, D); None where its keys and values are in the cache already.
    query_segments (B, L), key_segments (B, M): a decoder's token sees the encoder's tokens of its own segment; both
      None: all of them.
  """

  hidden: Any = None
  query_segments: Any = None
  key_segments: Any = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
  """Inputs of a layer apart from the hidden states.

  Attributes:
    segment_ids: (B, L) int32; tokens of different segments don't see each other; None: one segment a row. 0: padding.
    rotary: cos and sin of the positions, (B, L, K / 2) float32; None for other kinds of positions.
    slots: (B, L) int32, the cache slot of each token; None without a cache.
    prefix: (B, L) int32, 1: a token that every token of its segment may see; None: there are none.
    bias: (B or 1, H, L, S) float32, added to the scores, or None.
    memory: an encoder's output, or None.
    causal: whether a token sees only itself and the tokens before it.
    window: number of tokens that a token sees, itself included; None: no limit.
  """

  segment_ids: jax.Array | None = None
  rotary: Rotary | None = None
  slots: jax.Array | None = None
  prefix: jax.Array | None = None
  bias: jax.Array | None = None
  memory: EncoderMemory | None = None
  causal: bool = dataclasses.field(default=True, metadata={"static": True})
  window: int | None = dataclasses.field(default=None, metadata={"static": True})
