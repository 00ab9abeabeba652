# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A linear map between named dimensions, and the matrix product that all of them share."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.nn.layers.initializers import Fan, Initializer
from lmx.nn.layers.quantized import QUANTIZATIONS, quantized_product
from lmx.parallel.sharding import on_gpu, platform

Dimension = tuple[str, int]  # A logical axis and its size: ("heads", 12).


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _matmul_2d(x: jax.Array, kernel: jax.Array, dtype: Any) -> jax.Array:
  """(T, I) @ (I, O), whose weight gradient is written `x.T @ dy`.

  JAX's own rule gives the gradient as (O, I) and transposes it; XLA's CPU backend then materializes the transposed
  `dy` together with whatever is fused into it, which costs more than the product. The weight gradient is float32.
  """
  return jnp.dot(x, kernel.astype(dtype))


def _matmul_2d_forward(x: jax.Array, kernel: jax.Array, dtype: Any) -> tuple[Any, Any]:
  return _matmul_2d(x, kernel, dtype), (x, kernel)


def _matmul_2d_backward(dtype: Any, saved: Any, dy: jax.Array) -> tuple[Any, Any]:
  x, kernel = saved
  dx = jnp.dot(dy, kernel.astype(dtype).T)
  return dx, jnp.dot(x.T, dy, preferred_element_type=kernel.dtype)


_matmul_2d.defvjp(_matmul_2d_forward, _matmul_2d_backward)


def contract(
  x: jax.Array,
  kernel: jax.Array,
  inputs: int,
  dtype: Any,
  bias: jax.Array | None = None,
  quantization: str = "none",
) -> jax.Array:
  """x (..., *in) times kernel (*in, *out), plus bias, in `dtype`: (..., *out).

  Args:
    x: activations, whose last `inputs` dimensions are summed over.
    kernel: weights; their first `inputs` dimensions are those of x.
    inputs: how many dimensions are summed over.
    dtype: what all are cast to; sums are float32 inside the product.
    bias: float32 (*out), or None.
    quantization: a key of `QUANTIZATIONS`: what the operands of the product and of its gradients are rounded to.
  """
  x = x.astype(dtype)
  kind = QUANTIZATIONS[quantization]
  if kind is not None:
    return with_bias(quantized_product(x, kernel.astype(dtype), inputs, kind), bias)
  if platform() != "cpu":
    return with_bias(jnp.tensordot(x, kernel.astype(dtype), inputs), bias)
  size = math.prod(kernel.shape[:inputs])
  y = _matmul_2d(x.reshape(-1, size), kernel.reshape(size, -1), dtype)
  if bias is not None:
    y = y + bias.astype(dtype).reshape(1, -1)  # Before y is unfolded: see `flat_rows`.
  return y.reshape(*x.shape[:-inputs], *kernel.shape[inputs:])


def with_bias(y: jax.Array, bias: jax.Array | None) -> jax.Array:
  """y (..., *out), plus a float32 bias (*out) in y's dtype."""
  if bias is None:
    return y
  return add_bias(y, bias) if on_gpu() else y + over_rows(bias.astype(y.dtype), y)


@jax.custom_vjp
def add_bias(y: jax.Array, bias: jax.Array) -> jax.Array:
  """y (..., *out) + bias (*out), whose gradient is summed over the rows by a matmul with ones.

  XLA's GPU backend would sum the columns of dy where dy is computed, in a kernel that makes dy three times slower.
  """
  return y + over_rows(bias.astype(y.dtype), y)


def _add_bias_forward(y: jax.Array, bias: jax.Array) -> tuple[Any, Any]:
  return add_bias(y, bias), bias


def _add_bias_backward(bias: jax.Array, dy: jax.Array) -> tuple[Any, Any]:
  dy_RO = dy.reshape(-1, bias.size)
  ones = jnp.ones((_LEAST_ROWS, dy_RO.shape[0]), dy.dtype)
  return dy, jnp.dot(ones, dy_RO, preferred_element_type=bias.dtype)[0].reshape(bias.shape)


_LEAST_ROWS = 8  # A product with fewer rows is no matmul to the compiler but the same sum over columns.
add_bias.defvjp(_add_bias_forward, _add_bias_backward)


def flat_rows(x: jax.Array) -> jax.Array:
  """x (B, L, D) as (B * L, D) on a CPU, the shape that matmuls have there; otherwise x.

  XLA's CPU backend computes an elementwise result twice when it is needed in both shapes, as the gradient of the
  residual stream would be: by norms, and by the products before them.
  """
  return x.reshape(-1, x.shape[-1]) if platform() == "cpu" and x.ndim == 3 else x


def over_rows(array: jax.Array, x: jax.Array) -> jax.Array:
  """(..., D) with leading ones up to the rank of x, so that no rank is promoted silently."""
  return array.reshape((1,) * (x.ndim - array.ndim) + array.shape)


class Linear(nnx.Module):
  """y = x W + b over named dimensions: (..., *in) to (..., *out).

  The kernel is stored (*in, *out), float32, with the dimensions' logical axes; so is the bias, (*out). With a low-rank
  adapter (lmx/nn/layers/lora.py), y also has scale * (x A) B, with A (*in, r) and B (r, *out).
  """

  def __init__(
    self,
    inputs: tuple[Dimension, ...],
    outputs: tuple[Dimension, ...],
    *,
    bias: bool,
    scheme: Initializer,
    dtype: Any,
    rngs: nnx.Rngs,
    residual: bool = False,
    gain: float = 1.0,
    quantization: str = "none",
  ):
    """Makes the weights.

    Args:
      inputs, outputs: the dimensions, outermost first.
      bias: whether there is an additive term.
      scheme: the initializer.
      dtype: compute dtype.
      rngs: the `params` stream is drawn from.
      residual: this map ends a residual branch (some schemes start it smaller).
      gain: the first weights are multiplied by it.
      quantization: a key of `QUANTIZATIONS`, for the product with the kernel; an adapter's are never quantized.
    """
    in_shape, out_shape = tuple(size for _, size in inputs), tuple(size for _, size in outputs)
    in_axes, out_axes = tuple(name for name, _ in inputs), tuple(name for name, _ in outputs)
    fan = Fan(math.prod(in_shape), math.prod(out_shape), residual)
    self.contracted = len(inputs)
    self.lora_a: nnx.Param[Any] | None = nnx.data(None)
    self.lora_b: nnx.Param[Any] | None = nnx.data(None)
    self.lora_scale = 0.0
    self.dtype = jnp.dtype(dtype)
    self.quantization = quantization
    kernel = scheme.matrix(rngs.params(), in_shape + out_shape, fan)
    self.kernel = nnx.Param(kernel if gain == 1 else gain * kernel, axes=in_axes + out_axes)
    self.bias = nnx.Param(jnp.zeros(out_shape, jnp.float32), axes=out_axes) if bias else None

  def __call__(self, x: jax.Array) -> jax.Array:
    bias = None if self.bias is None else self.bias[...]
    y = contract(x, self.kernel[...], self.contracted, self.dtype, bias, self.quantization)
    if self.lora_a is None or self.lora_b is None:
      return y
    low = contract(x, self.lora_a[...], self.contracted, self.dtype)
    return y + self.lora_scale * contract(low, self.lora_b[...], 1, self.dtype)
