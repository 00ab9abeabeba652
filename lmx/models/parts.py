# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Construction of a model's parts from its spec: blocks, tables, heads."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.errors import LmxError, message
from lmx.models.spec import StackSpec
from lmx.nn.attention.attention import CrossAttention, make_attention
from lmx.nn.block import PLACEMENTS, Block, Feedforward
from lmx.nn.heads import HEADS, HeadModule, HeadShape
from lmx.nn.layers.activations import ACTIVATIONS
from lmx.nn.layers.embedding import Embedding, Unembedding
from lmx.nn.layers.initializers import Initializer, make_scheme
from lmx.nn.layers.mlp import MLP
from lmx.nn.layers.norm import NORMS, Norm
from lmx.nn.losses import Head
from lmx.nn.moe.layer import MixtureOfExperts, MixtureShape
from lmx.nn.outputs import Outputs


def scheme_of(spec: StackSpec, layers: int) -> Initializer:
  """The initializer of a stack of this number of layers."""
  return make_scheme(spec.init, std=spec.init_std, layers=layers, width_ratio=spec.width_ratio)


def norm_of(spec: StackSpec) -> Callable[[], Norm]:
  """Makes a norm over the model's width."""
  kind = NORMS[spec.norm]
  return lambda: kind("embed", spec.width, eps=spec.norm_eps, bias=spec.norm_bias, dtype=spec.dtype)


# ------------------------------------------------------------------------------------------------------------ blocks


def make_feedforward(spec: StackSpec, scheme: Initializer, rngs: nnx.Rngs) -> Feedforward | None:
  """The MLP or the experts of one layer; None for a block without."""
  activation = ACTIVATIONS[spec.activation]
  if spec.experts:
    shape = MixtureShape(
      width=spec.width,
      experts=spec.experts,
      experts_per_token=spec.experts_per_token,
      expert_width=spec.expert_width,
      shared_width=spec.shared_expert_width,
      normalize=spec.normalize_experts,
      load_balance=spec.load_balance,
      router_z=spec.router_z,
    )
    return MixtureOfExperts(shape, activation, scheme=scheme, dtype=spec.dtype, rngs=rngs)
  if not spec.mlp_width:
    return None
  return MLP(spec.width, spec.mlp_width, activation, bias=spec.mlp_bias, scheme=scheme, dtype=spec.dtype, rngs=rngs,
             quantization=spec.quantization)  # fmt: skip


def make_block(spec: StackSpec, scheme: Initializer, cross: bool, rngs: nnx.Rngs) -> Block:
  """One block.

  Args:
    spec: the model's.
    scheme: the initializer.
    cross: whether it has cross-attention, to an encoder's memory.
    rngs: the `params` stream is drawn from.
  """
  return Block(
    PLACEMENTS[spec.norm_position],
    norm_of(spec),
    spec.dropout,
    first_attention_norm=spec.first_attention_norm,
    attention=spec.mixing.make(spec, scheme, rngs),
    cross_attention=make_attention(spec, scheme, rngs, CrossAttention, bias=False) if cross else None,
    mlp=make_feedforward(spec, scheme, rngs),
  )


# ---------------------------------------------------------------------------------------------------- tables and heads


def make_table(spec: StackSpec, axis: str, rows: int, scheme: Initializer, rngs: nnx.Rngs) -> Embedding:
  """An embedding table as wide as the model."""
  return Embedding(axis, rows, spec.width, scheme=scheme, dtype=spec.dtype, rngs=rngs)


def make_unembedding(spec: StackSpec, scheme: Initializer, rngs: nnx.Rngs) -> Unembedding | None:
  """The output table; None where it is the embedding table, or there is none."""
  if spec.tied or not HEADS[spec.head].vocabulary:
    return None
  return Unembedding(spec.vocab_rows, spec.width, scheme=scheme, rngs=rngs)


def make_head(spec: StackSpec, scheme: Initializer, rngs: nnx.Rngs) -> HeadModule:
  """The output head."""
  shape = HeadShape(
    width=spec.width,
    vocab_rows=spec.vocab_rows,
    outputs=spec.outputs,
    pooling=spec.pooling,
    pooler=spec.pooler,
    bias=spec.head_bias,
    transform=spec.head_transform,
    transform_bias=spec.transform_bias,
    output_bias=spec.output_bias,
    dropout=spec.dropout,
    function=ACTIVATIONS[spec.activation].function,
    make_norm=norm_of(spec),
  )
  return HEADS[spec.head](shape, scheme=scheme, dtype=spec.dtype, rngs=rngs)


def embed_tokens(spec: StackSpec, table: Embedding, tokens: jax.Array) -> jax.Array:
  """Token embeddings (B, L, D), scaled as the model scales them, without positions."""
  x_BLD = table(tokens)
  return x_BLD if spec.embedding_scale == 1 else x_BLD * spec.embedding_scale


def outputs_of(
  spec: StackSpec,
  head: HeadModule,
  tables: tuple[Embedding, Unembedding | None],
  hidden_BLD: jax.Array,
  segment_ids: jax.Array | None,
  key: jax.Array | None,
  **more: Any,
) -> Outputs:
  """Final hidden states through the head.

  Args:
    spec, head: the model's.
    tables: of token embeddings and, where it is another, of the output.
    hidden_BLD, segment_ids: of the last block.
    key: turns dropout on.
    **more: other fields of `Outputs`.
  """
  embedding, unembedding = tables
  table_VD = (embedding.embedding if unembedding is None else unembedding.kernel)[...]
  ending = head(hidden_BLD, segment_ids, key)
  return Outputs(
    hidden=ending.hidden,
    unembedding=table_VD if head.vocabulary else None,
    head=Head(spec.vocab_size, spec.logits_softcap, scale=spec.output_scale, chunks=spec.loss_chunks),
    bias=ending.bias,
    scores=ending.scores,
    **more,
  )


def check_length(spec: StackSpec, length: int) -> None:
  """Checks that a row fits.

  Raises:
    LmxError: more tokens than a learned position table has.
  """
  if spec.position == "learned" and length > spec.context:
    allowed = f"at most {spec.context}, the rows of the learned position table"
    raise LmxError(message("length of a row, in tokens", got=length, allowed=allowed, fix="--config.model.context"))


def added_to(length_B: jax.Array, tokens_BL: jax.Array, segment_ids_BL: jax.Array | None) -> jax.Array:
  """(B,) tokens seen after these: padding isn't counted, so the next token overwrites its slots."""
  if segment_ids_BL is None:
    return length_B + tokens_BL.shape[1]
  return length_B + jnp.sum(segment_ids_BL > 0, axis=1, dtype=jnp.int32)
