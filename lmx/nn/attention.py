# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Self-attention as a sequence mixer: projections around one of the kernels."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.nn.cache import KeyValues
from lmx.nn.initializers import Scheme
from lmx.nn.kernels import KERNELS, Extras, resolve_kernel
from lmx.nn.linear import Linear
from lmx.nn.masks import Mask
from lmx.nn.norm import Norm
from lmx.nn.positions import Rotary, rotate
from lmx.sharding import constrain, platform


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Context:
  """What every layer of one forward pass is told about its tokens.

  Attributes:
    segment_ids: (B, L) int32; tokens of different segments don't see each other; None: one segment a row.
    rotary: cos and sin of the positions, (B, L, K / 2) float32; None where positions come in another way.
    slots: (B, L) int32, the cache slot of each token; None without a cache.
  """

  segment_ids: jax.Array | None = None
  rotary: Rotary | None = None
  slots: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class AttentionShape:
  """Sizes and choices of an attention layer: query heads H, key-value heads G, head width K, and the kernel."""

  width: int
  heads: int
  kv_heads: int
  head_width: int
  bias: bool
  window: int | None
  extras: Extras
  kernel: str


class Attention(nnx.Module):
  """Causal multi-head attention; with fewer key-value heads than query heads, grouped- or multi-query.

  Sources: https://arxiv.org/abs/1706.03762, https://arxiv.org/abs/2305.13245 (grouped), and for the normalised
  queries and keys https://arxiv.org/abs/2302.05442. Projections compute in `dtype`, the softmax in float32.
  """

  def __init__(
    self,
    shape: AttentionShape,
    *,
    query_norm: Norm | None,
    key_norm: Norm | None,
    scheme: Scheme,
    dtype: Any,
    rngs: nnx.Rngs,
  ):
    """Makes the weights; the norms, over the head width, are applied to queries and keys before rotation."""
    self.shape = shape
    self.dtype = jnp.dtype(dtype)
    embed, head = ("embed", shape.width), ("head_width", shape.head_width)
    heads, kv_heads = ("heads", shape.heads), ("kv_heads", shape.kv_heads)

    def linear(inputs, outputs, residual=False):
      return Linear(inputs, outputs, bias=shape.bias, scheme=scheme, dtype=dtype, rngs=rngs, residual=residual)

    self.query = linear((embed,), (heads, head))
    self.key = linear((embed,), (kv_heads, head))
    self.value = linear((embed,), (kv_heads, head))
    self.out = linear((heads, head), (embed,), residual=True)
    self.query_norm = query_norm
    self.key_norm = key_norm

  def __call__(
    self, x_BLD: jax.Array, context: Context, cache: KeyValues | None, layer: int | jax.Array, key: jax.Array | None
  ) -> tuple[jax.Array, KeyValues | None]:
    """Mixes tokens along the length.

    Args:
      x_BLD: normalised residual stream.
      context: segments, rotary tables and cache slots of the tokens.
      cache: keys and values of all layers; the new ones are written to it, and all of it is attended to.
      layer: this layer's number in the cache.
      key: for dropout on the probabilities; None: off.

    Returns:
      (B, L, D) in the compute dtype, and the cache with the tokens of x in it.
    """
    q_BLHK = constrain(self.query(x_BLD), "batch", "length", "heads", "head_width")
    k_BLGK = constrain(self.key(x_BLD), "batch", "length", "kv_heads", "head_width")
    v_BLGK = constrain(self.value(x_BLD), "batch", "length", "kv_heads", "head_width")
    if self.query_norm is not None and self.key_norm is not None:
      q_BLHK, k_BLGK = self.query_norm(q_BLHK), self.key_norm(k_BLGK)
    if context.rotary is not None:
      q_BLHK, k_BLGK = rotate(q_BLHK, context.rotary), rotate(k_BLGK, context.rotary)
    if cache is None or context.slots is None:
      mixed_BLHK = self._attend(q_BLHK, k_BLGK, v_BLGK, context, key)
    else:
      cache = cache.write(layer, context.slots, k_BLGK, v_BLGK)
      mixed_BLHK = self._attend_cached(q_BLHK, *cache.read(layer), context)
    mixed_BLHK = constrain(mixed_BLHK, "batch", "length", "heads", "head_width")
    return self.out(mixed_BLHK), cache

  def _attend(self, q_BLHK, k_BLGK, v_BLGK, context: Context, key) -> jax.Array:
    shape = self.shape
    name = resolve_kernel(
      shape.kernel,
      platform=platform(),
      dtype=self.dtype.name,
      head_width=shape.head_width,
      extras=shape.extras,
    )
    mask = Mask(context.segment_ids, context.segment_ids, causal=True, window=shape.window)
    return KERNELS[name].attend(q_BLHK, k_BLGK, v_BLGK, mask, shape.extras, key)

  def _attend_cached(self, q_BLHK, k_BSGK, v_BSGK, context: Context) -> jax.Array:
    """A few queries against every slot: bound by reading the cache, so the plain kernel serves everywhere."""
    mask = Mask(query_index=context.slots, causal=True, window=self.shape.window)
    return KERNELS["einsum"].attend(q_BLHK, k_BSGK, v_BSGK, mask, self.shape.extras, None)
