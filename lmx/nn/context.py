# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What the layers of one forward pass are told about its tokens."""

import dataclasses
from typing import Any

import jax

Rotary = tuple[jax.Array, jax.Array]  # cos and sin, (B, L, K / 2) float32.
Sums = dict[str, tuple[jax.Array, jax.Array]]  # name -> (weighted sum over tokens, number of tokens), float32 scalars.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EncoderMemory:
  """What an encoder gave, for a decoder to read.

  Attributes:
    hidden: (B, M, D); None where keys and values of it are in the cache already.
    query_segments (B, L), key_segments (B, M): a decoder's token sees the encoder's tokens of its own segment; both
      None: all of them.
  """

  hidden: Any = None
  query_segments: Any = None
  key_segments: Any = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
  """What a layer is told about the tokens, beside their hidden states.

  Attributes:
    segment_ids: (B, L) int32; tokens of different segments don't see each other; None: one segment a row. 0: padding.
    rotary: cos and sin of the positions, (B, L, K / 2) float32; None where positions come in another way.
    slots: (B, L) int32, the cache slot of each token; None without a cache.
    prefix: (B, L) int32, 1: a token that every token of its segment may see; None: there are none.
    bias: (B or 1, H, L, S) float32, added to the scores; None: nothing is.
    memory: what an encoder gave; None where there is none.
    causal: whether a token sees only itself and the tokens before it.
    window: how far a token sees, itself included; None: as far as the row goes.
  """

  segment_ids: jax.Array | None = None
  rotary: Rotary | None = None
  slots: jax.Array | None = None
  prefix: jax.Array | None = None
  bias: jax.Array | None = None
  memory: EncoderMemory | None = None
  causal: bool = dataclasses.field(default=True, metadata={"static": True})
  window: int | None = dataclasses.field(default=None, metadata={"static": True})
