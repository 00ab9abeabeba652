# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A Transformer block: a sequence mixer and an MLP, each in a residual branch with a norm."""

from typing import Any, Protocol

import jax
from flax import nnx

from lmx.nn.attention import Context
from lmx.nn.dropout import dropout, fold
from lmx.nn.norm import Norm
from lmx.sharding import constrain


class Mixer(Protocol):
  """What mixes tokens along the length: attention, or anything with this call (see `Attention.__call__`)."""

  def __call__(
    self, x_BLD: jax.Array, context: Context, cache: Any, layer: Any, key: jax.Array | None
  ) -> tuple[jax.Array, Any]: ...


class PreNormBlock(nnx.Module):
  """x + f(norm(x)), twice. Source: GPT-2; analysed in https://arxiv.org/abs/2002.04745."""

  def __init__(self, attention: Mixer, attention_norm: Norm, mlp: nnx.Module, mlp_norm: Norm, dropout_rate: float):
    """Takes its parts; `attention` is the sequence mixer, whatever it is, under the name checkpoints know it by."""
    self.attention = attention
    self.attention_norm = attention_norm
    self.mlp = mlp
    self.mlp_norm = mlp_norm
    self.dropout_rate = dropout_rate

  def __call__(self, x_BLD: jax.Array, context: Context, cache: Any, layer: int | jax.Array, key: jax.Array | None):
    """(B, L, D) to (B, L, D), and the cache with these tokens in it; arguments as in `Attention.__call__`."""
    y_BLD, cache = self.attention(self.attention_norm(x_BLD), context, cache, layer, fold(key, 0))
    x_BLD = residual_stream(x_BLD + dropout(y_BLD, self.dropout_rate, fold(key, 1)))
    y_BLD = self.mlp(self.mlp_norm(x_BLD))
    return residual_stream(x_BLD + dropout(y_BLD, self.dropout_rate, fold(key, 2))), cache


class PostNormBlock(PreNormBlock):
  """norm(x + f(x)), twice. Source: https://arxiv.org/abs/1706.03762, section 3.1."""

  def __call__(self, x_BLD: jax.Array, context: Context, cache: Any, layer: int | jax.Array, key: jax.Array | None):
    """As `PreNormBlock.__call__`."""
    y_BLD, cache = self.attention(x_BLD, context, cache, layer, fold(key, 0))
    x_BLD = residual_stream(self.attention_norm(x_BLD + dropout(y_BLD, self.dropout_rate, fold(key, 1))))
    y_BLD = self.mlp(x_BLD)
    return residual_stream(self.mlp_norm(x_BLD + dropout(y_BLD, self.dropout_rate, fold(key, 2)))), cache


def residual_stream(x_BLD: jax.Array) -> jax.Array:
  """Says how the residual stream lies on the mesh."""
  return constrain(x_BLD, "batch", "length", "embed")


BLOCKS: dict[str, type[PreNormBlock]] = {"pre": PreNormBlock, "post": PostNormBlock}
