# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The decoder-only Transformer, assembled from the parts in lmx/nn."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.models.backbone import Backbone, place_tokens
from lmx.models.parts import (
  MIXERS,
  added_to,
  check_length,
  embed_tokens,
  make_head,
  make_table,
  make_unembedding,
  outputs_of,
  scheme_of,
)
from lmx.models.spec import TransformerSpec
from lmx.nn.attention.cache import Cache, KeyValues
from lmx.nn.layers.dropout import fold
from lmx.nn.outputs import Outputs
from lmx.shapes import check


class Transformer(Backbone):
  """A causal model. Parameters are float32; a forward pass computes in `spec.dtype`."""

  inputs: ClassVar[tuple[str, ...]] = ("tokens", "segment_ids", "positions", "prefix")

  def __init__(self, spec: TransformerSpec, *, rngs: nnx.Rngs):
    """Makes the weights.

    Args:
      spec: what to build.
      rngs: the `params` stream is drawn from: `nnx.Rngs(seed)`.
    """
    scheme = scheme_of(spec, spec.layers)
    self.token_embedding = make_table(spec, "vocab", spec.vocab_rows, scheme, rngs)
    super().__init__(spec, layers=spec.layers, causal=True, mixer=spec.mixer, rngs=rngs)
    self.spec: TransformerSpec = spec
    self.unembedding = make_unembedding(spec, scheme, rngs)
    self.head = make_head(spec, scheme, rngs)

  def __call__(
    self,
    tokens: jax.Array,
    *,
    segment_ids: jax.Array | None = None,
    positions: jax.Array | None = None,
    prefix: jax.Array | None = None,
    cache: Cache | None = None,
    dropout_key: jax.Array | None = None,
    keep_layers: bool = False,
  ) -> Outputs:
    """Runs the model over rows of tokens.

    Args:
      tokens: (B, L) int32.
      segment_ids: (B, L) int32; a token sees its own segment only. None: a row is one segment. With a cache, a row is
        one document and 0 marks padding at its end.
      positions: (B, L) int32, offsets within the segment; None: counted from segment_ids, or from the cache.
      prefix: (B, L) int32, 1: a token that every token of its segment may see, also those before it (a prefix LM).
      cache: the state after the tokens before these; the result holds the state after them.
      dropout_key: turns dropout on.
      keep_layers: whether to return what each block gave, too.

    Raises:
      LmxError: a row longer than a learned position table.
      ValueError: shapes that don't fit each other.
    """
    check("Transformer", "BL ?BL ?BL ?BL", tokens, segment_ids, positions, prefix)
    spec = self.spec
    check_length(spec, tokens.shape[1])
    seen, layers, capacity = None, None, 0
    if cache is not None:
      seen, layers = cache.length, cache.layers
      capacity = layers.slots if isinstance(layers, KeyValues) else 0
    place = place_tokens(tokens, segment_ids, positions, seen, capacity)
    place = dataclasses.replace(place, prefix=prefix)
    result = self.run(embed_tokens(self.spec, self.token_embedding, tokens), place, layers, dropout_key, keep_layers)
    if cache is not None:
      cache = Cache(added_to(cache.length, tokens, segment_ids), result.cache)
    key = fold(dropout_key, spec.layers + 1)
    more = {"cache": cache, "auxiliary": result.auxiliary, "layers": result.layers}
    tables = (self.token_embedding, self.unembedding)
    return outputs_of(spec, self.head, tables, result.hidden, segment_ids, key, **more)

  def init_cache(self, batch: int, length: int) -> Cache:
    """An empty decoding state for `batch` rows of up to `length` tokens.

    Raises:
      LmxError: more tokens than a learned position table has.
    """
    check_length(self.spec, length)
    layers = MIXERS[self.spec.mixer].empty(self.spec, self.spec.layers, batch, length)
    return Cache(jnp.zeros((batch,), jnp.int32), layers)
