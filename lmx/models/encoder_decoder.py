# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The encoder-decoder Transformer: an encoder, and a decoder with cross-attention to it."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.models.parts import (
  added_to,
  check_length,
  embed_tokens,
  make_head,
  make_table,
  make_unembedding,
  outputs_of,
  scheme_of,
)
from lmx.models.spec import EncoderDecoderSpec
from lmx.models.transformer import Backbone, StackOutput, token_positions
from lmx.nn.attention.cache import Cache, KeyValues, WithMemory
from lmx.nn.context import EncoderMemory, Sums
from lmx.nn.layers.dropout import fold
from lmx.nn.outputs import Outputs
from lmx.shapes import check


class EncoderDecoder(nnx.Module):
  """A model like the first Transformer and T5. Parameters are float32; it computes in `spec.dtype`.

  Sources: https://arxiv.org/abs/1706.03762, https://arxiv.org/abs/1910.10683.
  """

  inputs: ClassVar[tuple[str, ...]] = (
    "tokens",
    "segment_ids",
    "positions",
    "encoder_tokens",
    "encoder_segment_ids",
    "encoder_positions",
  )

  def __init__(self, spec: EncoderDecoderSpec, *, rngs: nnx.Rngs):
    """Makes the weights.

    Args:
      spec: what to build.
      rngs: the `params` stream is drawn from: `nnx.Rngs(seed)`.
    """
    scheme = scheme_of(spec, spec.layers)
    self.spec = spec
    self.token_embedding = make_table(spec, "vocab", spec.vocab_rows, scheme, rngs)
    self.encoder = Backbone(spec, layers=spec.encoder_layers, causal=False, rngs=rngs)
    self.decoder = Backbone(spec, layers=spec.layers, causal=True, rngs=rngs, reads_memory=True)
    self.unembedding = make_unembedding(spec, scheme, rngs)
    self.head = make_head(spec, scheme, rngs)

  def __call__(
    self,
    tokens: jax.Array,
    *,
    segment_ids: jax.Array | None = None,
    positions: jax.Array | None = None,
    encoder_tokens: jax.Array | None = None,
    encoder_segment_ids: jax.Array | None = None,
    encoder_positions: jax.Array | None = None,
    cache: Cache | None = None,
    dropout_key: jax.Array | None = None,
    keep_layers: bool = False,
  ) -> Outputs:
    """Runs both stacks, or with a cache only the decoder.

    Args:
      tokens: (B, L) int32, the decoder's.
      segment_ids: (B, L) int32; a token sees its own segment of the decoder and of the encoder only. None: a row is one
        segment. With a cache, a row is one document and 0 marks padding at its end.
      positions: (B, L) int32, offsets within the segment; None: counted from segment_ids, or from the cache.
      encoder_tokens: (B, M) int32; left out with a cache, which holds the encoder's keys and values.
      encoder_segment_ids: (B, M) int32; 0 marks padding. None: a row is one segment, without padding.
      encoder_positions: (B, M) int32; None: counted from encoder_segment_ids.
      cache: from `init_cache`, or the state after the tokens before these; the result holds the state after them.
      dropout_key: turns dropout on.
      keep_layers: whether to return the output of each block, too.

    Raises:
      LmxError: a row longer than a learned position table.
      ValueError: shapes that don't fit each other, or neither encoder_tokens nor a cache.
    """
    check("EncoderDecoder", "BL ?BL ?BL", tokens, segment_ids, positions)
    check_length(self.spec, tokens.shape[1])
    encoded = None
    if cache is not None:
      where = token_positions(tokens, segment_ids, positions, cache.length, cache.layers.own.slots)
      memory = EncoderMemory(None, jnp.ones_like(tokens), cache.memory_segments)
    elif encoder_tokens is None:
      raise ValueError("EncoderDecoder: encoder_tokens or a cache must be given")
    else:
      encoded = self._encode(encoder_tokens, encoder_segment_ids, encoder_positions, fold(dropout_key, 1), keep_layers)
      where = token_positions(tokens, segment_ids, positions)
      memory = EncoderMemory(encoded.hidden, *_matched(tokens, segment_ids, encoder_tokens, encoder_segment_ids))
    where = dataclasses.replace(where, memory=memory)
    layers = None if cache is None else cache.layers
    result = self.decoder.run(
      embed_tokens(self.spec, self.token_embedding, tokens), where, layers, fold(dropout_key, 0), keep_layers
    )
    if cache is not None:
      cache = Cache(added_to(cache.length, tokens, segment_ids), result.cache, cache.memory_segments)
    more: dict[str, Any] = {
      "cache": cache,
      "auxiliary": _added(result.auxiliary, {} if encoded is None else encoded.auxiliary),
      "layers": result.layers,
      "encoder_layers": None if encoded is None else encoded.layers,
    }
    tables = (self.token_embedding, self.unembedding)
    return outputs_of(self.spec, self.head, tables, result.hidden, segment_ids, fold(dropout_key, 2), **more)

  def encode(
    self,
    encoder_tokens: jax.Array,
    *,
    encoder_segment_ids: jax.Array | None = None,
    encoder_positions: jax.Array | None = None,
  ) -> jax.Array:
    """The encoder's output, (B, M, D); arguments as in `__call__`."""
    return self._encode(encoder_tokens, encoder_segment_ids, encoder_positions, None, False).hidden

  def init_cache(
    self,
    batch: int,
    length: int,
    *,
    encoder_tokens: jax.Array,
    encoder_segment_ids: jax.Array | None = None,
  ) -> Cache:
    """The decoding state before the first token: runs the encoder and keeps the keys and values of its output.

    Args:
      batch: B rows, one document each.
      length: tokens of the decoder, at most.
      encoder_tokens: (B, M) int32.
      encoder_segment_ids: (B, M) int32, 1, and 0 for padding; None: there is none.

    Raises:
      LmxError: a row longer than a learned position table.
    """
    check_length(self.spec, length)
    hidden_BMD = self.encode(encoder_tokens, encoder_segment_ids=encoder_segment_ids)
    project = jax.vmap(lambda attention: attention.keys_and_values(hidden_BMD))
    memory = KeyValues(*project(self.decoder.layers.cross_attention))
    own = self.spec.mixing.empty(self.spec, self.spec.layers, batch, length)
    real_BM = jnp.ones_like(encoder_tokens) if encoder_segment_ids is None else (encoder_segment_ids > 0)
    return Cache(jnp.zeros((batch,), jnp.int32), WithMemory(own, memory), real_BM.astype(jnp.int32))

  def _encode(
    self,
    tokens: jax.Array,
    segment_ids: jax.Array | None,
    positions: jax.Array | None,
    key: jax.Array | None,
    keep_layers: bool,
  ) -> StackOutput:
    check("EncoderDecoder, encoder", "BM ?BM ?BM", tokens, segment_ids, positions)
    check_length(self.spec, tokens.shape[1])
    where = token_positions(tokens, segment_ids, positions)
    return self.encoder.run(embed_tokens(self.spec, self.token_embedding, tokens), where, None, key, keep_layers)


def _matched(
  tokens: jax.Array, segment_ids: jax.Array | None, encoder_tokens: jax.Array, encoder_segment_ids: jax.Array | None
) -> tuple[jax.Array | None, jax.Array | None]:
  """Segments of decoder and encoder; where one side has none, all of it is segment 1."""
  if segment_ids is None and encoder_segment_ids is None:
    return None, None
  return (
    jnp.ones_like(tokens) if segment_ids is None else segment_ids,
    jnp.ones_like(encoder_tokens) if encoder_segment_ids is None else encoder_segment_ids,
  )


def _added(decoder: Sums, encoder: Sums) -> Sums:
  """Losses of the parts of both stacks; with a cache the encoder has none."""
  if not encoder:
    return decoder
  return {name: (one[0] + encoder[name][0], one[1] + encoder[name][1]) for name, one in decoder.items()}
