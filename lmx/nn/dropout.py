# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Dropout with an explicit key: no key, no dropout."""

import jax
import jax.numpy as jnp


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
  """Zeroes a share `rate` of the elements and scales the others up, so that the mean stays."""
  if key is None or rate == 0:
    return x
  keep = jax.random.bernoulli(key, 1 - rate, x.shape)
  return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))


def fold(key: jax.Array | None, number: int | jax.Array) -> jax.Array | None:
  """An independent key for the place called `number`; None stays None."""
  return None if key is None else jax.random.fold_in(key, number)
