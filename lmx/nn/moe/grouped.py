# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Products of rows with the matrix of their group, and their gradients, in kernels that leave out all other matrices.

A TPU's compiler makes such a kernel of `jax.lax.ragged_dot`, but multiplies every row for every group where matrices
get their gradient: 14 times the cycles for 8 groups (compiled ahead of time for TPU v5e). There the kernel of
https://arxiv.org/abs/2211.15841 that comes with JAX takes its place.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_ROWS, _SIZE = 512, 1024  # Of a tile, at most; a v5e's vector memory has room for three of them.
_OF_MATRICES = jax.lax.RaggedDotDimensionNumbers(
  dot_dimension_numbers=(((0,), (0,)), ((), ())), lhs_ragged_dimensions=[0], rhs_group_dimensions=[]
)


def _one_by_one(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
  """The same function, which `vmap` calls for one element after the other: a TPU's kernels have no batched products.

  In a pipeline there is one element on each device.
  """
  looped = jax.custom_batching.custom_vmap(function)

  @looped.def_vmap
  def over_batch(size: int, batched: Any, *arrays: Any) -> tuple[Any, Any]:
    of = lambda i: looped(*(x[i] if is_batched else x for x, is_batched in zip(arrays, batched, strict=True)))  # noqa: E731
    return jnp.stack([of(i) for i in range(size)]), True

  return looped


@jax.custom_vjp
def grouped_product(rows_RI: jax.Array, kernels_EIO: jax.Array, sizes_E: jax.Array) -> jax.Array:
  """(R, O): the first sizes[0] rows times kernels[0], the next sizes[1] times kernels[1], and so on.

  Args:
    rows_RI: in the order of their groups; what is past the last group gets zeros.
    kernels_EIO: of each group, in the dtype of rows.
    sizes_E: int32.
  """
  return _product(rows_RI, kernels_EIO, sizes_E)


def _forward(rows: jax.Array, kernels: jax.Array, sizes: jax.Array) -> tuple[Any, Any]:
  return grouped_product(rows, kernels, sizes), (rows, kernels, sizes)


def _backward(saved: Any, dy_RO: jax.Array) -> tuple[Any, Any, Any]:
  rows, kernels, sizes = saved
  return _product(dy_RO, kernels.swapaxes(1, 2), sizes), _gradients(rows, dy_RO, sizes), None


grouped_product.defvjp(_forward, _backward)


def _by_xla(rows_RI: jax.Array, dy_RO: jax.Array, sizes_E: jax.Array) -> jax.Array:
  return jax.lax.ragged_dot_general(rows_RI, dy_RO, sizes_E, _OF_MATRICES)


def matrix_gradients(rows_RI: jax.Array, dy_RO: jax.Array, sizes_E: jax.Array, *, interpret: bool = False) -> jax.Array:
  """(E, I, O): of each group the sum over its rows of x^T dy, added up in float32, in the dtype of rows.

  Args:
    rows_RI, dy_RO: in the order of their groups.
    sizes_E: int32, rows of each.
    interpret: without a TPU, slowly.
  """
  from jax.experimental.pallas.ops.tpu.megablox.gmm import tgmm  # Takes time that most runs need not spend.

  tile = min(_ROWS, -(-rows_RI.shape[0] // 16) * 16)
  padding = ((0, -rows_RI.shape[0] % tile), (0, 0))
  rows_RI, dy_RO = jnp.pad(rows_RI, padding), jnp.pad(dy_RO, padding)
  inner, outer = (min(_SIZE, -(-size // 128) * 128) for size in (rows_RI.shape[1], dy_RO.shape[1]))
  return tgmm(rows_RI.swapaxes(0, 1), dy_RO, sizes_E, rows_RI.dtype, (tile, inner, outer), interpret=interpret)


_product = _one_by_one(jax.lax.ragged_dot)
_gradients = _one_by_one(functools.partial(jax.lax.platform_dependent, tpu=matrix_gradients, default=_by_xla))
