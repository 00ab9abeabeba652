# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Cross-entropy straight from the hidden states, without keeping the logits between the passes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from lmx.nn.kernels import soft_cap
from lmx.shapes import check
from lmx.sharding import constrain

_HIDDEN = -1e30  # The logit of a padding row of the vocabulary; its probability is exactly 0.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CrossEntropy:
  """Sums over tokens, float32 scalars; only `total` carries a gradient.

  Attributes:
    total: weighted sum of the negative log-likelihood (nats) plus the z-loss; what is minimised.
    weight: sum of the weights.
    nll: the likelihood part of total.
    correct: weighted number of targets that have the largest logit.
    z: weighted sum of log(Z)^2.
  """

  total: jax.Array
  weight: jax.Array
  nll: jax.Array
  correct: jax.Array
  z: jax.Array


@dataclasses.dataclass(frozen=True)
class Head:
  """The constants of an output head: real vocabulary size, soft-cap on the logits, weight of the z-loss."""

  vocab_size: int
  softcap: float | None = None
  z_loss: float = 0.0


def logits(hidden: jax.Array, table_VD: jax.Array, head: Head) -> jax.Array:
  """(..., D) to (..., V) float32: the product in hidden's dtype with float32 sums, soft-cap after it.

  Rows of the table past the real vocabulary get a logit of -1e30.
  """
  x = jnp.einsum("...d,vd->...v", hidden, table_VD.astype(hidden.dtype), preferred_element_type=jnp.float32)
  x = soft_cap(x, head.softcap)
  if head.vocab_size == table_VD.shape[0]:
    return x
  real = jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1) < head.vocab_size
  return jnp.where(real, x, _HIDDEN)


def _forward(hidden_TD, table_VD, targets_T, weights_T, head: Head, gradient: bool):
  """Sums over T tokens, and with `gradient` those of `total` with respect to hidden and table."""
  logits_TV = constrain(logits(hidden_TD, table_VD, head), "batch", "vocab")
  largest_T1 = jnp.max(logits_TV, axis=-1, keepdims=True)
  exponentials_TV = jnp.exp(logits_TV - largest_T1)
  sum_T1 = jnp.sum(exponentials_TV, axis=-1, keepdims=True)
  log_z_T = (largest_T1 + jnp.log(sum_T1))[:, 0]
  hit_TV = jax.lax.broadcasted_iota(jnp.int32, logits_TV.shape, 1) == targets_T[:, None]
  target_T = jnp.sum(jnp.where(hit_TV, logits_TV, 0.0), axis=-1)
  nll = jnp.sum(weights_T * (log_z_T - target_T))
  z = jnp.sum(weights_T * jnp.square(log_z_T))
  correct = jnp.sum(weights_T * (target_T >= largest_T1[:, 0]))
  sums = (nll + head.z_loss * z, nll, correct, z)
  if not gradient:
    return sums, None
  scale_T = weights_T * (1 + 2 * head.z_loss * log_z_T)
  dlogits_TV = exponentials_TV * (scale_T[:, None] / sum_T1) - jnp.where(hit_TV, weights_T[:, None], 0.0)
  if head.softcap is not None:
    dlogits_TV = dlogits_TV * (1 - jnp.square(jnp.clip(logits_TV / head.softcap, -1, 1)))
  dlogits_TV = dlogits_TV.astype(hidden_TD.dtype)
  dhidden_TD = jnp.dot(dlogits_TV, table_VD.astype(hidden_TD.dtype))
  dtable_VD = jnp.dot(dlogits_TV.T, hidden_TD, preferred_element_type=jnp.float32)
  return sums, (dhidden_TD, dtable_VD)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _sums(hidden_TD, table_VD, targets_T, weights_T, head: Head):
  return _forward(hidden_TD, table_VD, targets_T, weights_T, head, gradient=False)[0]


def _sums_forward(hidden_TD, table_VD, targets_T, weights_T, head):
  return _forward(hidden_TD, table_VD, targets_T, weights_T, head, gradient=True)


def _sums_backward(head, gradients, cotangents):
  """The gradients are there already; what is left is the factor that `total` is used with."""
  dhidden_TD, dtable_VD = gradients
  factor = cotangents[0]
  return (dhidden_TD * factor).astype(dhidden_TD.dtype), dtable_VD * factor, None, None


_sums.defvjp(_sums_forward, _sums_backward)


def cross_entropy(
  hidden_BLD: jax.Array, table_VD: jax.Array, targets_BL: jax.Array, weights_BL: jax.Array, head: Head
) -> CrossEntropy:
  """Cross-entropy of the logits `hidden table^T`, with sums, softmax and loss in float32.

  The gradient of the logits is computed with the loss and used up at once, so that no (B, L, V) array lives from the
  forward pass to the backward pass. Only `total` is differentiated, in hidden and table; weights are constants.

  Args:
    hidden_BLD: final hidden states, in the compute dtype.
    table_VD: float32 output table; rows past `head.vocab_size` are padding and have no probability.
    targets_BL: int32 ids.
    weights_BL: float32; 0 leaves a token out.
    head: vocabulary size, soft-cap and z-loss weight (https://arxiv.org/abs/2204.02311, section 5).

  Raises:
    ValueError: shapes that don't fit each other.
  """
  check("cross_entropy", "BLD VD BL BL", hidden_BLD, table_VD, targets_BL, weights_BL)
  weights_T = weights_BL.astype(jnp.float32).reshape(-1)
  hidden_TD = hidden_BLD.reshape(-1, hidden_BLD.shape[-1])
  total, nll, correct, z = _sums(hidden_TD, table_VD, targets_BL.reshape(-1), weights_T, head)
  return CrossEntropy(total, jnp.sum(weights_T), nll, correct, z)


def token_log_probs(hidden_BLD: jax.Array, table_VD: jax.Array, targets_BL: jax.Array, head: Head) -> jax.Array:
  """log p(target) of every token in nats, (B, L) float32; differentiable."""
  check("token_log_probs", "BLD VD BL", hidden_BLD, table_VD, targets_BL)
  logits_BLV = logits(hidden_BLD, table_VD, head)
  target_BL = jnp.take_along_axis(logits_BLV, targets_BL[..., None], axis=-1)[..., 0]
  return target_BL - jax.nn.logsumexp(logits_BLV, axis=-1)
