# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Where a token stands: offsets within a packed segment, and rotary embeddings with their scalings."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lmx.errors import choose

Rotary = tuple[jax.Array, jax.Array]  # cos and sin, (B, L, K / 2) float32.


def segment_positions(segment_ids_BL: jax.Array) -> jax.Array:
  """The offset of each token within its run of equal segment ids, (B, L) int32, from 0."""
  index = jnp.arange(segment_ids_BL.shape[1], dtype=jnp.int32)[None]
  starts = segment_ids_BL[:, 1:] != segment_ids_BL[:, :-1]
  starts = jnp.pad(starts, ((0, 0), (1, 0)), constant_values=True)
  return index - jax.lax.cummax(jnp.where(starts, index, 0), axis=1)


def _no_scaling(frequencies, theta, factor, original):
  return frequencies


def _linear(frequencies, theta, factor, original):
  """Position interpolation: positions are divided by the factor. Source: https://arxiv.org/abs/2306.15595."""
  return frequencies / factor


def _ntk(frequencies, theta, factor, original):
  """A larger base: the lowest frequency is stretched by the factor, the highest not at all.

  Source: the "NTK-aware" base change, restated in YaRN (https://arxiv.org/abs/2309.00071, equation 16).
  """
  half = frequencies.shape[0]
  exponent = jnp.arange(half, dtype=jnp.float32) / max(half - 1, 1)
  return frequencies * factor**-exponent


_LLAMA3_LOW, _LLAMA3_HIGH = 1.0, 4.0  # Turns within the original context; as Llama 3.1's released config has them.


def _llama3(frequencies, theta, factor, original):
  """Slow frequencies are divided by the factor, fast ones kept, those between blended.

  Source: the Llama 3.1 release (https://github.com/meta-llama/llama-models, models/llama3/model.py, apply_scaling).
  """
  turns = original * frequencies / (2 * math.pi)
  blend = jnp.clip((turns - _LLAMA3_LOW) / (_LLAMA3_HIGH - _LLAMA3_LOW), 0.0, 1.0)
  return blend * frequencies + (1 - blend) * frequencies / factor


ROPE_SCALINGS: dict[str, Callable] = {"none": _no_scaling, "linear": _linear, "ntk": _ntk, "llama3": _llama3}


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
  """Turns the pairs (i, i + K/2) of each head by the tables' angles, in float32; the dtype stays.

  This is the order of pairs of GPT-NeoX and of Hugging Face's Llama; the paper pairs neighbours, which is the same
  up to a permutation of the head's columns.
  """
  cos, sin = (table[:, :, None, :] for table in rotary)
  first, second = jnp.split(x_BLHK.astype(jnp.float32), 2, axis=-1)
  turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
  return turned.astype(x_BLHK.dtype)
