# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The decoder-only Transformer, assembled from the parts in lmx/nn."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.errors import LmxError, message
from lmx.models.spec import TransformerSpec
from lmx.nn.activations import ACTIVATIONS
from lmx.nn.attention import Attention, AttentionShape, Context
from lmx.nn.block import BLOCKS, PreNormBlock, residual_stream
from lmx.nn.cache import Cache, KeyValues
from lmx.nn.dropout import dropout, fold
from lmx.nn.embedding import Embedding, Unembedding
from lmx.nn.initializers import make_scheme
from lmx.nn.losses import Head
from lmx.nn.mlp import MLP
from lmx.nn.norm import NORMS
from lmx.nn.outputs import Outputs
from lmx.nn.positions import rope_frequencies, rotary_tables, segment_positions
from lmx.nn.stack import run_layers, stacked
from lmx.shapes import check


def make_block(spec: TransformerSpec, rngs: nnx.Rngs) -> PreNormBlock:
  """One block of the model that `spec` describes."""
  dtype = jnp.dtype(spec.dtype)
  scheme = make_scheme(spec.init, std=spec.init_std, layers=spec.layers)
  norm = functools.partial(NORMS[spec.norm], eps=spec.norm_eps, dtype=dtype)
  shape = AttentionShape(
    width=spec.width,
    heads=spec.heads,
    kv_heads=spec.kv_heads,
    head_width=spec.head_width,
    bias=spec.attention_bias,
    window=spec.window,
    extras=spec.extras,
    kernel=spec.attention,
  )
  query_norm, key_norm = (norm("head_width", spec.head_width, bias=False) if spec.qk_norm else None for _ in range(2))
  attention = Attention(shape, query_norm=query_norm, key_norm=key_norm, scheme=scheme, dtype=dtype, rngs=rngs)
  activation = ACTIVATIONS[spec.activation]
  mlp = MLP(spec.width, spec.mlp_width, activation, bias=spec.mlp_bias, scheme=scheme, dtype=dtype, rngs=rngs)
  norms = (norm("embed", spec.width, bias=spec.norm_bias) for _ in range(2))
  return BLOCKS[spec.norm_position](attention, next(norms), mlp, next(norms), spec.dropout)


class Transformer(nnx.Module):
  """A causal language model. Parameters are float32; a forward pass computes in `spec.dtype`."""

  def __init__(self, spec: TransformerSpec, *, rngs: nnx.Rngs):
    """Makes the weights.

    Args:
      spec: what to build.
      rngs: the `params` stream is drawn from: `nnx.Rngs(seed)`.
    """
    scheme = make_scheme(spec.init, std=spec.init_std, layers=spec.layers)
    table = functools.partial(Embedding, scheme=scheme, dtype=spec.dtype, rngs=rngs)
    norm = functools.partial(NORMS[spec.norm], eps=spec.norm_eps, bias=spec.norm_bias, dtype=spec.dtype)
    self.spec = spec
    self.token_embedding = table("vocab", spec.vocab_rows, spec.width)
    self.position_embedding = table("position", spec.context, spec.width) if spec.position == "learned" else None
    self.layers = stacked(functools.partial(make_block, spec), spec.layers, rngs)
    self.final_norm = norm("embed", spec.width) if spec.norm_position == "pre" else None
    self.unembedding = None if spec.tied else Unembedding(spec.vocab_rows, spec.width, scheme=scheme, rngs=rngs)

  def __call__(
    self,
    tokens: jax.Array,
    *,
    segment_ids: jax.Array | None = None,
    positions: jax.Array | None = None,
    cache: Cache | None = None,
    dropout_key: jax.Array | None = None,
  ) -> Outputs:
    """Runs the model over rows of tokens.

    Args:
      tokens: (B, L) int32.
      segment_ids: (B, L) int32; a token sees its own segment only. None: a row is one segment. With a cache, a row is
        one document and 0 marks padding at its end.
      positions: (B, L) int32, offsets within the segment; None: counted from segment_ids, or from the cache.
      cache: the state after the tokens before these; the result holds the state after them.
      dropout_key: turns dropout on.

    Raises:
      LmxError: a row longer than a learned position table.
      ValueError: shapes that don't fit each other.
    """
    check("Transformer", "BL ?BL ?BL", tokens, segment_ids, positions)
    context, positions = self._context(tokens, segment_ids, positions, cache)
    x_BLD = self._embed(tokens, positions, fold(dropout_key, 0))

    def layer_step(carry, block, number):
      x_BLD, layer_cache = carry
      return block(x_BLD, context, layer_cache, number, fold(dropout_key, number + 1))

    carry = (x_BLD, None if cache is None else cache.layers)
    spec = self.spec
    x_BLD, layers = run_layers(
      layer_step, self.layers, carry, layers=spec.layers, loop=spec.layer_loop, remat=spec.remat
    )
    hidden_BLD = x_BLD if self.final_norm is None else self.final_norm(x_BLD)
    table = self.token_embedding.embedding if self.unembedding is None else self.unembedding.kernel
    head = Head(spec.vocab_size, spec.logits_softcap)
    return Outputs(hidden_BLD, table[...], _advance(cache, layers, tokens, segment_ids), head)

  def init_cache(self, batch: int, length: int) -> Cache:
    """An empty decoding state for `batch` rows of up to `length` tokens.

    Raises:
      LmxError: more tokens than a learned position table has.
    """
    self._check_length(length)
    spec = self.spec
    layers = KeyValues.empty(spec.layers, batch, length, spec.kv_heads, spec.head_width, spec.dtype)
    return Cache(jnp.zeros((batch,), jnp.int32), layers)

  def _check_length(self, length: int) -> None:
    if self.spec.position == "learned" and length > self.spec.context:
      allowed = f"at most {self.spec.context}, the rows of the learned position table"
      raise LmxError(message("length of a row, in tokens", got=length, allowed=allowed, fix="--config.model.context"))

  def _context(self, tokens, segment_ids, positions, cache: Cache | None) -> tuple[Context, jax.Array]:
    """What the layers need to know about the tokens, and the tokens' positions."""
    self._check_length(tokens.shape[1])
    columns = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
    slots = None if cache is None else cache.length[:, None] + columns
    if positions is None and slots is not None:
      positions = slots
    elif positions is None:
      positions = jnp.broadcast_to(columns, tokens.shape) if segment_ids is None else segment_positions(segment_ids)
    rotary = None
    if self.spec.position == "rotary":
      spec = self.spec
      frequencies = rope_frequencies(
        spec.head_width, spec.rope_theta, spec.rope_scaling, spec.rope_factor, spec.rope_original_context
      )
      rotary = rotary_tables(positions, frequencies)
    return Context(segment_ids, rotary, slots), positions

  def _embed(self, tokens: jax.Array, positions: jax.Array, key: jax.Array | None) -> jax.Array:
    x_BLD = self.token_embedding(tokens)
    if self.position_embedding is not None:
      x_BLD = x_BLD + self.position_embedding(positions)
    return residual_stream(dropout(x_BLD, self.spec.dropout, key))


def _advance(cache: Cache | None, layers: KeyValues | None, tokens, segment_ids) -> Cache | None:
  """The cache after these tokens: padding isn't counted, so the next token overwrites its slots."""
  if cache is None or layers is None:
    return None
  added = tokens.shape[1] if segment_ids is None else jnp.sum(segment_ids > 0, axis=1, dtype=jnp.int32)
  return Cache(cache.length + added, layers)
