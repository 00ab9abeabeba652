# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Sampling of the next token: temperature, top-k, top-p."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from lmx.errors import LmxError, message

_OUT = -1e30


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sampling:
  """How tokens are sampled. Numbers are traced, so changing one does not recompile; None skips the step.

  Attributes:
    temperature: divides the logits; 0 takes the most likely token.
    top_k: only the k most likely tokens (ties with the k-th stay in); None: all.
    top_p: only the fewest tokens whose probabilities sum to at least p (https://arxiv.org/abs/1904.09751); None: all.
  """

  temperature: Any = 1.0
  top_k: Any = None
  top_p: Any = None

  @classmethod
  def checked(cls, temperature: float, top_k: int | None, top_p: float | None) -> "Sampling":
    """A `Sampling` of checked numbers.

    Args:
      temperature, top_k, top_p: as above.

    Raises:
      LmxError: a negative temperature, top_k under 1, or top_p outside (0, 1].
    """
    if temperature < 0:
      raise LmxError(message("temperature", got=temperature, allowed="0 (the most likely token) or a positive number"))
    if top_k is not None and top_k < 1:
      raise LmxError(message("top_k", got=top_k, allowed="a positive whole number, or None for all tokens"))
    if top_p is not None and not 0 < top_p <= 1:
      raise LmxError(message("top_p", got=top_p, allowed="a number over 0 and up to 1, or None for all tokens"))
    as_array = lambda x, dtype: None if x is None else jnp.asarray(x, dtype)  # noqa: E731
    return cls(jnp.float32(temperature), as_array(top_k, jnp.int32), as_array(top_p, jnp.float32))


def filtered_logits(logits_BV: jax.Array, sampling: Sampling) -> jax.Array:
  """Float32 logits (B, V) divided by the temperature, with tokens outside top-k and then top-p at -1e30."""
  x = logits_BV.astype(jnp.float32) / jnp.maximum(sampling.temperature, 1e-6)
  if sampling.top_k is None and sampling.top_p is None:
    return x
  largest_first = -jnp.sort(-x, axis=-1)
  if sampling.top_k is not None:
    index = jnp.minimum(sampling.top_k, x.shape[-1]) - 1
    threshold = jnp.take(largest_first, index, axis=-1)[:, None]
    x = jnp.where(x < threshold, _OUT, x)
    largest_first = jnp.where(largest_first < threshold, _OUT, largest_first)
  if sampling.top_p is not None:
    probabilities = jax.nn.softmax(largest_first, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    kept = before < sampling.top_p  # The first token is always kept.
    threshold = jnp.min(jnp.where(kept, largest_first, jnp.inf), axis=-1, keepdims=True)
    x = jnp.where(x < threshold, _OUT, x)
  return x


def sample(logits_BV: jax.Array, sampling: Sampling, keys_B: jax.Array) -> jax.Array:
  """Samples one token per row, (B,) int32. Each row has its own key, so it doesn't depend on the other rows."""
  greedy = jnp.argmax(logits_BV, axis=-1)
  drawn = jax.vmap(jax.random.categorical)(keys_B, filtered_logits(logits_BV, sampling))
  return jnp.where(sampling.temperature == 0, greedy, drawn).astype(jnp.int32)
