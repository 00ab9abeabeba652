# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Dropout with an explicit key: no key, no dropout."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax
import jax.numpy as jnp

_LEVELS = 2**16  # The rate is rounded to a multiple of 1 / _LEVELS; the mean stays exact.


# The rate of the program that is being traced, in place of the model's.
_traced_rate: contextvars.ContextVar[jax.Array | None] = contextvars.ContextVar("traced_rate", default=None)


@contextlib.contextmanager
def traced_dropout(rate: jax.Array | None) -> Iterator[None]:
  """Gives a model that is traced in the block another rate of dropout wherever its own is not 0.

  A module's rate is a number of its structure, which can't be traced; this one may be, so that one program serves many
  rates.

  Args:
    rate: () float32, more than 0; None: the model's own.
  """
  token = _traced_rate.set(rate)
  try:
    yield
  finally:
    _traced_rate.reset(token)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
  """Zeroes a share `rate` of the elements and scales the others up, so that the mean stays.

  Two elements share one 32-bit random number: on a CPU drawing them is most of dropout's time.
  """
  if key is None or rate == 0:
    return x
  traced = _traced_rate.get()
  kept: int | jax.Array = min(max(round((1 - rate) * _LEVELS), 1), _LEVELS - 1)
  if traced is not None:
    kept = jnp.clip(jnp.round((1 - traced) * _LEVELS), 1, _LEVELS - 1).astype(jnp.int32)
  *rows, columns = x.shape
  words = jax.random.bits(key, (*rows, (columns + 1) // 2), jnp.uint32)
  numbers = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(*rows, -1)[..., :columns]
  return jnp.where(numbers < kept, x * jnp.asarray(_LEVELS / kept, x.dtype), jnp.zeros((), x.dtype))


def fold(key: jax.Array | None, number: int | jax.Array) -> jax.Array | None:
  """An independent key for the place called `number`; None stays None."""
  return None if key is None else jax.random.fold_in(key, number)
