# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Token positions: offsets within a packed segment, rotary embeddings, sinusoids, and buckets of distances."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.errors import choose
from lmx.nn.context import Rotary
from lmx.parallel.sharding import platform


def segment_positions(segment_ids_BL: jax.Array) -> jax.Array:
  """The offset of each token within its run of equal segment ids, (B, L) int32, from 0."""
  index = jnp.arange(segment_ids_BL.shape[1], dtype=jnp.int32)[None]
  starts = segment_ids_BL[:, 1:] != segment_ids_BL[:, :-1]
  starts = jnp.pad(starts, ((0, 0), (1, 0)), constant_values=True)
  return index - jax.lax.cummax(jnp.where(starts, index, 0), axis=1)


def _no_scaling(frequencies: jax.Array, theta: float, factor: float, original: Any) -> jax.Array:
  return frequencies


def _linear(frequencies: jax.Array, theta: float, factor: float, original: Any) -> jax.Array:
  """Position interpolation: positions are divided by the factor. Source: https://arxiv.org/abs/2306.15595."""
  return frequencies / factor


def _ntk(frequencies: jax.Array, theta: float, factor: float, original: Any) -> jax.Array:
  """A larger base: the lowest frequency is stretched by the factor, the highest not at all.

  Source: the "NTK-aware" base change, restated in YaRN (https://arxiv.org/abs/2309.00071, equation 16).
  """
  half = frequencies.shape[0]
  exponent = jnp.arange(half, dtype=jnp.float32) / max(half - 1, 1)
  return frequencies * factor**-exponent


_LLAMA3_LOW, _LLAMA3_HIGH = 1.0, 4.0  # Turns within the original context; as Llama 3.1's released config has them.


def _llama3(frequencies: jax.Array, theta: float, factor: float, original: Any) -> jax.Array:
  """Slow frequencies are divided by the factor, fast ones kept, those between blended.

  Source: the Llama 3.1 release (https://github.com/meta-llama/llama-models, models/llama3/model.py, apply_scaling).
  """
  turns = original * frequencies / (2 * math.pi)
  blend = jnp.clip((turns - _LLAMA3_LOW) / (_LLAMA3_HIGH - _LLAMA3_LOW), 0.0, 1.0)
  return blend * frequencies + (1 - blend) * frequencies / factor


ROPE_SCALINGS: dict[str, Callable[..., jax.Array]] = {
  "none": _no_scaling,
  "linear": _linear,
  "ntk": _ntk,
  "llama3": _llama3,
}


def rope_frequencies(head_width: int, theta: float, scaling: str, factor: float, original: int | None) -> jax.Array:
  """Radians per position of each pair, (K / 2,) float32.

  Args:
    head_width: K, even.
    theta: the base. Source: https://arxiv.org/abs/2104.09864, section 3.2.2.
    scaling: a row of `ROPE_SCALINGS`.
    factor: growth of the context under scaling.
    original: llama3 only: the context before the growth, in tokens.

  Raises:
    LmxError: an unknown scaling.
  """
  frequencies = theta ** -(jnp.arange(0, head_width, 2, dtype=jnp.float32) / head_width)
  return choose("config.model.rope_scaling", scaling, ROPE_SCALINGS)(frequencies, theta, factor, original)


def rotary_tables(positions_BL: jax.Array, frequencies: jax.Array) -> Rotary:
  """cos and sin of every position's angles, (B, L, K / 2) float32."""
  angles = positions_BL[..., None].astype(jnp.float32) * frequencies[None, None]
  return jnp.cos(angles), jnp.sin(angles)


def rotate(x_BLHK: jax.Array, rotary: Rotary) -> jax.Array:
  """Rotates the pairs (i, i + K/2) of each head by the tables' angles, in float32; the dtype stays.

  This is the order of pairs of GPT-NeoX and of Hugging Face's Llama; the paper pairs neighbors, which is the same
  up to a permutation of the head's columns.
  """
  if platform() == "tpu" and x_BLHK.dtype == jnp.bfloat16:
    return rotate_by_product(x_BLHK, rotary)
  cos, sin = (table[:, :, None, :] for table in rotary)
  first, second = jnp.split(x_BLHK.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
  return turned.astype(x_BLHK.dtype)


@jax.custom_vjp
def rotate_by_product(x_BLHK: jax.Array, rotary: Rotary) -> jax.Array:
  """`rotate` where the other half of each pair comes from a product with a permutation matrix, which is exact.

  Halves of a head are narrower than a TPU's vector registers: splitting and joining them costs more there than a
  product does (an 8B decoder's query projection with its rotation: 4.5 Mcycles instead of 6.1, forward and backward,
  compiled for TPU7x by a script that is not kept). For bfloat16 only: a TPU rounds float32 operands of products.
  """
  cos, sin = (table[:, :, None, :] for table in rotary)
  width = x_BLHK.shape[-1]
  swap_KK = jnp.asarray(np.roll(np.eye(width, dtype=np.float32), width // 2, axis=1), x_BLHK.dtype)
  swapped = jnp.einsum("blhk,kj->blhj", x_BLHK, swap_KK, preferred_element_type=jnp.float32)
  wide = lambda left, right: jnp.concatenate([left, right], axis=-1)  # noqa: E731
  return (x_BLHK.astype(jnp.float32) * wide(cos, cos) + swapped * wide(-sin, sin)).astype(x_BLHK.dtype)


def _rotate_forward(x_BLHK: jax.Array, rotary: Rotary) -> tuple[jax.Array, Rotary]:
  return rotate_by_product(x_BLHK, rotary), rotary


def _rotate_backward(rotary: Rotary, dy_BLHK: jax.Array) -> tuple[jax.Array, None]:
  """Rotates back; the tables are constants."""
  cos, sin = rotary
  return rotate_by_product(dy_BLHK, (cos, -sin)), None


rotate_by_product.defvjp(_rotate_forward, _rotate_backward)


def sinusoids(positions_BL: jax.Array, width: int) -> jax.Array:
  """(B, L, D) float32: the sines of all frequencies, then their cosines; D is even.

  Frequencies are 10000^(-2i / D). Source: https://arxiv.org/abs/1706.03762, section 3.5. The paper has sine and
  cosine in turns; its code (tensor2tensor) has two halves, as here, which is the same up to the order of columns.
  """
  frequencies = 10_000.0 ** -(jnp.arange(0, width, 2, dtype=jnp.float32) / width)
  angles = positions_BL[..., None].astype(jnp.float32) * frequencies[None, None]
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def relative_buckets(distance: np.ndarray, *, both_ways: bool, buckets: int, limit: int) -> np.ndarray:
  """The bucket of each distance, int32 in [0, buckets): T5's function.

  Half of the buckets of a direction are for the nearest distances, one each; the other half grow logarithmically, and
  distances from `limit` on share the last. Float32 and on the host, so that distances on an edge fall as in T5.

  Args:
    distance: int, the key's place less the query's.
    both_ways: half of the buckets are for keys after the query (an encoder); else all of those share bucket 0.
    buckets: how many there are, a multiple of 4 (2 with one direction).
    limit: tokens.

  Source: https://arxiv.org/abs/1910.10683, section 2.1, and
  https://github.com/tensorflow/mesh, mesh_tensorflow/transformer/transformer_layers.py, _relative_position_bucket.
  """
  if both_ways:
    buckets //= 2
    first, away = np.where(distance > 0, buckets, 0), np.abs(distance)
  else:
    first, away = np.zeros_like(distance), np.maximum(-distance, 0)
  exact = buckets // 2
  ratio = np.log(np.maximum(away, 1).astype(np.float32) / np.float32(exact))
  grown = ratio / np.float32(math.log(limit / exact)) * np.float32(buckets - exact)
  far = np.minimum(exact + grown.astype(np.int32), buckets - 1)
  return (first + np.where(away < exact, away, far)).astype(np.int32)
