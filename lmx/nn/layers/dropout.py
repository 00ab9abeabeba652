# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Dropout with an explicit key: no key, no dropout."""

import jax
import jax.numpy as jnp

_LEVELS = 2**16  # The rate is rounded to a multiple of 1 / _LEVELS; the mean stays exact.


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
  """Zeroes a share `rate` of the elements and scales the others up, so that the mean stays.

  Two elements share one 32-bit random number: on a CPU drawing them is most of dropout's time.
  """
  if key is None or rate == 0:
    return x
  kept = min(max(round((1 - rate) * _LEVELS), 1), _LEVELS - 1)
  *rows, columns = x.shape
  words = jax.random.bits(key, (*rows, (columns + 1) // 2), jnp.uint32)
  numbers = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(*rows, -1)[..., :columns]
  return jnp.where(numbers < kept, x * (_LEVELS / kept), jnp.zeros((), x.dtype))


def fold(key: jax.Array | None, number: int | jax.Array) -> jax.Array | None:
  """An independent key for the place called `number`; None stays None."""
  return None if key is None else jax.random.fold_in(key, number)
