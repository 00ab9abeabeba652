# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The encoder-only Transformer: every token sees its complete segment."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.models.parts import check_length, embed_tokens, make_head, make_table, make_unembedding, outputs_of, scheme_of
from lmx.models.spec import EncoderSpec
from lmx.models.transformer import Backbone, token_positions
from lmx.nn.layers.dropout import fold
from lmx.nn.outputs import Outputs
from lmx.shapes import check


class Encoder(Backbone):
  """A model like BERT. Parameters are float32; a forward pass computes in `spec.dtype`.

  Source: https://arxiv.org/abs/1810.04805.
  """

  inputs: ClassVar[tuple[str, ...]] = ("tokens", "segment_ids", "positions", "token_types")

  def __init__(self, spec: EncoderSpec, *, rngs: nnx.Rngs):
    """Makes the weights.

    Args:
      spec: what to build.
      rngs: the `params` stream is drawn from: `nnx.Rngs(seed)`.
    """
    scheme = scheme_of(spec, spec.layers)
    self.token_embedding = make_table(spec, "vocab", spec.vocab_rows, scheme, rngs)
    types = spec.token_types
    self.token_type_embedding = make_table(spec, "position", types, scheme, rngs) if types else None
    super().__init__(spec, layers=spec.layers, causal=False, rngs=rngs)
    self.unembedding = make_unembedding(spec, scheme, rngs)
    self.head = make_head(spec, scheme, rngs)

  def __call__(
    self,
    tokens: jax.Array,
    *,
    segment_ids: jax.Array | None = None,
    positions: jax.Array | None = None,
    token_types: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
    keep_layers: bool = False,
  ) -> Outputs:
    """Runs the model over rows of tokens.

    Args:
      tokens: (B, L) int32.
      segment_ids: (B, L) int32; a token sees its own segment only; 0 marks padding. None: a row is one segment.
      positions: (B, L) int32, offsets within the segment; None: counted from segment_ids.
      token_types: (B, L) int32, which of two texts a token belongs to; None: all to the first. Ignored by a model that
        has no table for them.
      dropout_key: turns dropout on.
      keep_layers: whether to return the output of each block, too.

    Raises:
      LmxError: a row longer than a learned position table.
      ValueError: shapes that don't fit each other.
    """
    check("Encoder", "BL ?BL ?BL ?BL", tokens, segment_ids, positions, token_types)
    spec = self.spec
    check_length(spec, tokens.shape[1])
    where = token_positions(tokens, segment_ids, positions)
    result = self.run(self._embed(tokens, token_types), where, None, dropout_key, keep_layers)
    key = fold(dropout_key, spec.layers + 1)
    more = {"cache": None, "auxiliary": result.auxiliary, "layers": result.layers}
    tables = (self.token_embedding, self.unembedding)
    return outputs_of(spec, self.head, tables, result.hidden, segment_ids, key, **more)

  def _embed(self, tokens: jax.Array, token_types: jax.Array | None) -> jax.Array:
    x_BLD = embed_tokens(self.spec, self.token_embedding, tokens)
    if self.token_type_embedding is None:
      return x_BLD
    return x_BLD + self.token_type_embedding(jnp.zeros_like(tokens) if token_types is None else token_types)
