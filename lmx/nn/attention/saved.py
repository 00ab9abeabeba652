# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Attention for CPUs: (batch, heads, length, width) order, with the probabilities saved for the backward pass.

XLA's CPU backend runs the four batched products of this order at full speed, and keeping the probabilities saves it
the second softmax. The memory is B * H * L * S numbers per layer, which is what plain autodiff keeps, too.
"""

from typing import Any

import jax
import jax.numpy as jnp

_HIDDEN = -1e30


@jax.custom_vjp
def _attend(q_BGTK: jax.Array, k_BGSK: jax.Array, v_BGSK: jax.Array, seen: jax.Array) -> jax.Array:
  return _forward(q_BGTK, k_BGSK, v_BGSK, seen)[0]


def _forward(q_BGTK: jax.Array, k_BGSK: jax.Array, v_BGSK: jax.Array, seen: jax.Array) -> tuple[Any, Any]:
  # T = R * L: the queries of the R heads that share a key-value head, one head after the other.
  scores = jnp.einsum("bgtk,bgsk->bgts", q_BGTK, k_BGSK, preferred_element_type=jnp.float32)
  p = jax.nn.softmax(jnp.where(seen, scores, _HIDDEN), axis=-1).astype(q_BGTK.dtype)
  return jnp.einsum("bgts,bgsk->bgtk", p, v_BGSK), (q_BGTK, k_BGSK, v_BGSK, p)


def _backward(saved: Any, dy_BGTK: jax.Array) -> tuple[Any, Any, Any, Any]:
  q_BGTK, k_BGSK, v_BGSK, p = saved
  dv = jnp.einsum("bgts,bgtk->bgsk", p, dy_BGTK)
  dp = jnp.einsum("bgtk,bgsk->bgts", dy_BGTK, v_BGSK, preferred_element_type=jnp.float32)
  # The gradient of the softmax: ds = p * (dp - sum(p * dp)).
  weighted = p.astype(jnp.float32) * dp
  ds = (weighted - p * jnp.sum(weighted, axis=-1, keepdims=True)).astype(q_BGTK.dtype)
  dq = jnp.einsum("bgts,bgsk->bgtk", ds, k_BGSK)
  dk = jnp.einsum("bgts,bgtk->bgsk", ds, q_BGTK)
  return dq, dk, dv, None


_attend.defvjp(_forward, _backward)


def attend_saving_probabilities(
  q_BLHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, seen: jax.Array, scale: float
) -> jax.Array:
  """Attention over the keys that `seen` (B or 1, 1, L, S) shows; (B, L, H, K) in q's dtype.

  The query heads that share a key-value head are concatenated along the length, so that one product serves them all.

  Args:
    q_BLHK, k_BSGK, v_BSGK: queries, keys and values in the compute dtype.
    seen: bool.
    scale: of the scores.
  """
  B, L, H, K = q_BLHK.shape
  G = k_BSGK.shape[2]
  R = H // G
  q = (q_BLHK * scale).reshape(B, L, G, R, K).transpose(0, 2, 3, 1, 4).reshape(B, G, R * L, K)
  k, v = k_BSGK.transpose(0, 2, 1, 3), v_BSGK.transpose(0, 2, 1, 3)
  out = _attend(q, k, v, jnp.tile(seen, (1, 1, R, 1)))
  return out.reshape(B, G, R, L, K).transpose(0, 3, 1, 2, 4).reshape(B, L, H, K)
