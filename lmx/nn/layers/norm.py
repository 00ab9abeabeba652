# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Normalization over the last dimension. Statistics and scaling are float32, whatever comes in."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.nn.layers.linear import flat_rows, over_rows
from lmx.parallel.sharding import platform


class LayerNorm(nnx.Module):
  """(x - mean) / sqrt(variance + eps) * scale + bias. Source: https://arxiv.org/abs/1607.06450."""

  def __init__(self, axis: str, width: int, *, eps: float, bias: bool, dtype: Any):
    self.width = width
    self.eps = eps
    self.dtype = jnp.dtype(dtype)
    self.scale = nnx.Param(jnp.ones((width,), jnp.float32), axes=(axis,))
    self.bias = nnx.Param(jnp.zeros((width,), jnp.float32), axes=(axis,)) if bias else None

  def __call__(self, x: jax.Array) -> jax.Array:
    """(..., D) of any dtype to (..., D) in the compute dtype."""
    if platform() != "cpu":
      return fused_layer_norm(x, self.scale[...], None if self.bias is None else self.bias[...], self.eps, self.dtype)
    shape, x = x.shape, flat_rows(x.astype(jnp.float32))
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    y = centred * jax.lax.rsqrt(variance + self.eps) * over_rows(self.scale[...], x)
    y = y if self.bias is None else y + over_rows(self.bias[...], x)
    return y.astype(self.dtype).reshape(shape)


def _normalized(x: jax.Array, mean: jax.Array, inverse: jax.Array) -> jax.Array:
  return (x.astype(jnp.float32) - mean) * inverse


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def fused_layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array | None, eps: float, dtype: Any) -> jax.Array:
  """LayerNorm for accelerators: both statistics in one pass, as flax has them, and kept for the backward pass.

  XLA's GPU backend would otherwise compute them again in one kernel with the products that the scale's gradient sums
  up, and write those out in float32; its TPU backend would read x twice.
  """
  return _layer_norm_forward(x, scale, bias, eps, dtype)[0]


def _layer_norm_forward(
  x: jax.Array, scale: jax.Array, bias: jax.Array | None, eps: float, dtype: Any
) -> tuple[Any, Any]:
  wide = x.astype(jnp.float32)
  mean, square = (jnp.mean(part, axis=-1, keepdims=True) for part in (wide, jnp.square(wide)))
  inverse = jax.lax.rsqrt(jnp.maximum(square - jnp.square(mean), 0.0) + eps)
  y = _normalized(x, mean, inverse) * over_rows(scale, x)
  y = y if bias is None else y + over_rows(bias, x)
  return y.astype(dtype), (x, mean, inverse, scale, bias)


def _layer_norm_backward(eps: float, dtype: Any, saved: Any, dy: jax.Array) -> tuple[Any, Any, Any]:
  x, mean, inverse, scale, bias = saved
  mean, inverse = jax.lax.optimization_barrier((mean, inverse))
  rows = tuple(range(x.ndim - 1))
  dy, normal = dy.astype(jnp.float32), _normalized(x, mean, inverse)
  dscale = jnp.sum(dy * normal, axis=rows)
  dbias = None if bias is None else jnp.sum(dy, axis=rows)
  scaled = dy * over_rows(scale, x)
  along = jnp.mean(scaled * normal, axis=-1, keepdims=True)
  dx = inverse * (scaled - jnp.mean(scaled, axis=-1, keepdims=True) - normal * along)
  return dx.astype(x.dtype), dscale, dbias


fused_layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


class RMSNorm(nnx.Module):
  """x / sqrt(mean(x^2) + eps) * scale; no mean, no additive term. Source: https://arxiv.org/abs/1910.07467."""

  def __init__(self, axis: str, width: int, *, eps: float, bias: bool, dtype: Any):
    del bias  # RMSNorm has none; the argument keeps the table's rows alike.
    self.width = width
    self.eps = eps
    self.dtype = jnp.dtype(dtype)
    self.scale = nnx.Param(jnp.ones((width,), jnp.float32), axes=(axis,))

  def __call__(self, x: jax.Array) -> jax.Array:
    """(..., D) of any dtype to (..., D) in the compute dtype."""
    shape, x = x.shape, flat_rows(x.astype(jnp.float32))
    mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    y = x * jax.lax.rsqrt(mean_square + self.eps) * over_rows(self.factor(), x)
    return y.astype(self.dtype).reshape(shape)

  def factor(self) -> jax.Array:
    """What the normalized input is multiplied by, (D,) float32."""
    return self.scale[...]


class ZeroCenteredRMSNorm(RMSNorm):
  """RMSNorm whose scale is stored less one: x / sqrt(mean(x^2) + eps) * (1 + scale).

  Source: Gemma (https://github.com/google-deepmind/gemma, gemma/gm/nn/_layers.py). Weight decay pulls it to no scaling.
  """

  def __init__(self, axis: str, width: int, *, eps: float, bias: bool, dtype: Any):
    super().__init__(axis, width, eps=eps, bias=bias, dtype=dtype)
    self.scale = nnx.Param(jnp.zeros((width,), jnp.float32), axes=(axis,))

  def factor(self) -> jax.Array:
    return 1 + self.scale[...]


Norm = LayerNorm | RMSNorm
NORMS: dict[str, type[Norm]] = {
  "layernorm": LayerNorm,
  "rmsnorm": RMSNorm,
  "zero_centered_rmsnorm": ZeroCenteredRMSNorm,
}
