# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A Transformer block: a sequence mixer, optionally cross-attention, and an MLP, in residual branches."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from lmx.nn.attention.attention import CrossAttention
from lmx.nn.attention.cache import WithMemory
from lmx.nn.context import Context, Sums
from lmx.nn.layers.dropout import dropout, fold
from lmx.nn.layers.norm import Norm
from lmx.nn.mixer import Mixer
from lmx.parallel.sharding import constrain


class Feedforward(Protocol):
  """The part of a block that processes each token by itself: an MLP, or a mixture of experts.

  Attributes:
    auxiliary: names of the losses that a call returns.
  """

  auxiliary: ClassVar[tuple[str, ...]]

  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Sums]: ...


@dataclasses.dataclass(frozen=True)
class Placement:
  """The positions of norms in a residual branch.

  Attributes:
    before: the sub-layer reads norm(x).
    output: the sub-layer's output is normalized before it is added, by a separate norm.
    after: the residual sum is normalized.
    final: one more norm follows the last block.
  """

  before: bool = False
  output: bool = False
  after: bool = False
  final: bool = True


PLACEMENTS: dict[str, Placement] = {
  "pre": Placement(before=True),  # GPT-2; analysed in https://arxiv.org/abs/2002.04745.
  "post": Placement(after=True, final=False),  # https://arxiv.org/abs/1706.03762, section 3.1.
  "output": Placement(output=True),  # OLMo 2: https://arxiv.org/abs/2501.00656, section 3.2.
  "sandwich": Placement(before=True, output=True),  # Gemma 2: https://arxiv.org/abs/2408.00118, section 2.
}


class Block(nnx.Module):
  """One layer: x + f(x) for each sub-layer f, with norms where the placement has them."""

  def __init__(
    self,
    placement: Placement,
    make_norm: Callable[[], Norm],
    dropout_rate: float,
    *,
    attention: Mixer,
    first_attention_norm: bool = True,
    cross_attention: CrossAttention | None = None,
    mlp: Feedforward | None,
  ):
    """Takes the sub-layers and makes their norms.

    Args:
      placement: where norms stand.
      make_norm: makes a norm over the model's width.
      dropout_rate: on the output of each sub-layer.
      attention: the sequence mixer, of any kind; checkpoints name it so.
      first_attention_norm: False: layer 0 doesn't use the norm before its mixer; its row of the stacked norm keeps its
        initial values.
      cross_attention: attention to an encoder's memory, or None.
      mlp: None: a block without one.
    """
    own = placement.before or placement.after
    make: Callable[[Any, bool], Norm | None] = lambda part, wanted: make_norm() if part is not None and wanted else None  # noqa: E731
    self.placement = placement
    self.dropout_rate = dropout_rate
    self.attention = attention
    self.attention_norm = make(attention, own)
    self.first_attention_norm = first_attention_norm
    self.attention_output_norm = make(attention, placement.output)
    self.cross_attention = cross_attention
    self.cross_attention_norm = make(cross_attention, own)
    self.cross_attention_output_norm = make(cross_attention, placement.output)
    self.mlp = mlp
    self.mlp_norm = make(mlp, own)
    self.mlp_output_norm = make(mlp, placement.output)

  def __call__(
    self, x_BLD: jax.Array, context: Context, cache: Any, layer: int | jax.Array, key: jax.Array | None
  ) -> tuple[jax.Array, Any, Sums]:
    """(B, L, D) to (B, L, D), the cache with these tokens in it, and the MLP's losses.

    Args:
      x_BLD: the residual stream.
      context, cache, layer: as in `Mixer.__call__`; the cache of a decoder with an encoder is a `WithMemory`.
      key: of the forward pass, for dropout; every layer derives its own. None: off.
    """
    own, memory = (cache.own, cache.memory) if isinstance(cache, WithMemory) else (cache, None)
    key = fold(key, layer + 1)

    h_BLD = self._first_norm(x_BLD, layer)
    h_BLD, own = self.attention(h_BLD, context, own, layer, fold(key, 0))
    x_BLD = self._add(x_BLD, h_BLD, self.attention_norm, self.attention_output_norm, fold(key, 1))

    if self.cross_attention is not None:
      h_BLD = self._norm(x_BLD, self.cross_attention_norm)
      h_BLD = self.cross_attention.read(h_BLD, context, memory, layer, fold(key, 3))
      x_BLD = self._add(x_BLD, h_BLD, self.cross_attention_norm, self.cross_attention_output_norm, fold(key, 4))

    sums: Sums = {}
    if self.mlp is not None:
      h_BLD, sums = self.mlp(self._norm(x_BLD, self.mlp_norm), context)
      x_BLD = self._add(x_BLD, h_BLD, self.mlp_norm, self.mlp_output_norm, fold(key, 2))

    return x_BLD, own if memory is None else WithMemory(own, memory), sums

  def _norm(self, x_BLD: jax.Array, norm: Norm | None) -> jax.Array:
    """The input of a sub-layer: normalized under the placements "pre" and "sandwich", otherwise x itself."""
    return norm(x_BLD) if norm is not None and self.placement.before else x_BLD

  def _first_norm(self, x_BLD: jax.Array, layer: int | jax.Array) -> jax.Array:
    """As `_norm` for the mixer; without first_attention_norm, layer 0 reads x itself (ModernBERT)."""
    h_BLD = self._norm(x_BLD, self.attention_norm)
    if self.first_attention_norm:
      return h_BLD
    return jnp.where(layer == 0, x_BLD.astype(h_BLD.dtype), h_BLD)

  def _add(
    self, x_BLD: jax.Array, h_BLD: jax.Array, norm: Norm | None, output_norm: Norm | None, key: jax.Array | None
  ) -> jax.Array:
    """The residual stream x plus the output h of a sub-layer."""
    h_BLD = checkpoint_name(h_BLD, "branch")
    if output_norm is not None:
      h_BLD = output_norm(h_BLD)
    x_BLD = x_BLD + dropout(h_BLD, self.dropout_rate, key)
    return residual_stream(norm(x_BLD) if norm is not None and self.placement.after else x_BLD)


def residual_stream(x_BLD: jax.Array) -> jax.Array:
  """x with the sharding of the residual stream."""
  return constrain(x_BLD, "batch", "length", "embed")
