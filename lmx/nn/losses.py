# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Cross-entropy straight from the hidden states, without keeping the logits between the passes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lmx.nn.attention.kernels import soft_cap
from lmx.parallel.sharding import constrain, on_each_device, on_gpu, split_over, summed_over_rows
from lmx.shapes import check

_GPU_ROW = 16_384
_HIDDEN = -1e30  # The logit of a padding row of the vocabulary; its probability is exactly 0.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CrossEntropy:
  """Sums over tokens, float32 scalars; only `total` carries a gradient.

  Attributes:
    total: weighted sum of the negative log-likelihood (nats), smoothed, plus the z-loss; what is minimized.
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
  """The constants of an output head.

  Attributes:
    vocab_size: real vocabulary size; later rows of the table are padding.
    softcap: on the logits; None: off.
    z_loss: weight of log(Z)^2 per token.
    scale: the product of hidden state and table is multiplied by it.
    label_smoothing: share of the target's probability that is spread evenly over the real vocabulary
      (https://arxiv.org/abs/1512.00567, section 7).
    chunks: parts that the tokens are taken in, one after the other, so that only the logits of one part exist at a
      time; where they don't divide the tokens of a device, the largest number below that does. The result is the same.
  """

  vocab_size: int
  softcap: float | None = None
  z_loss: float = 0.0
  scale: float = 1.0
  label_smoothing: float = 0.0
  chunks: int = 1


def logits(hidden: jax.Array, table_VD: jax.Array, head: Head, bias_V: jax.Array | None = None) -> jax.Array:
  """(..., D) to (..., V) float32: softcap(scale * hidden table^T + bias).

  The product is in hidden's dtype with float32 sums, what follows is float32. Rows of the table past the real
  vocabulary get a logit of -1e30.
  """
  x = jnp.einsum("...d,vd->...v", hidden, table_VD.astype(hidden.dtype), preferred_element_type=jnp.float32)
  x = x if head.scale == 1 else x * head.scale
  x = x if bias_V is None else x + bias_V.reshape((1,) * (x.ndim - 1) + (-1,))
  x = soft_cap(x, head.softcap)
  return x if head.vocab_size == table_VD.shape[0] else jnp.where(_is_real(x, head), x, _HIDDEN)


def _is_real(logits_V: jax.Array, head: Head) -> jax.Array:
  return jax.lax.broadcasted_iota(jnp.int32, logits_V.shape, logits_V.ndim - 1) < head.vocab_size


def _forward(
  hidden_TD: jax.Array,
  table_VD: jax.Array,
  bias_V: jax.Array | None,
  targets_T: jax.Array,
  weights_T: jax.Array,
  head: Head,
  gradient: bool,
) -> tuple[Any, Any]:
  """Sums over T tokens, and with `gradient` those of `total` with respect to hidden, table and bias."""
  tokens = targets_T.shape[0]
  parts = next(n for n in range(max(1, head.chunks), 0, -1) if n == 1 or tokens % (n * split_over("tokens")) == 0)
  if parts == 1:
    return _part(hidden_TD, table_VD, bias_V, targets_T, weights_T, head, gradient)

  def split(x_T: jax.Array) -> jax.Array:
    """Every n-th token goes into one part, so that each stays on its device."""
    x_PT = x_T.reshape(tokens // parts, parts, *x_T.shape[1:]).swapaxes(0, 1)
    return constrain(x_PT, None, "tokens", *[None] * (x_T.ndim - 1))

  # Gathered once, in the dtype of the products: inside the loop it would be gathered for each part.
  whole_VD = constrain(table_VD.astype(hidden_TD.dtype), "vocab", "embed")

  def step(totals: Any, part: Any) -> tuple[Any, Any]:
    hidden_TD, targets_T, weights_T = part
    sums, gradients = _part(hidden_TD, whole_VD, bias_V, targets_T, weights_T, head, gradient)
    dhidden_TD, *of_tables = gradients or (None,)
    return jax.tree.map(jnp.add, totals, (sums, of_tables)), dhidden_TD

  zeros = [None if table is None else jnp.zeros(table.shape, jnp.float32) for table in (table_VD, bias_V)]
  start = ((jnp.zeros((), jnp.float32),) * 4, zeros if gradient else [])
  (sums, of_tables), dhidden_PTD = jax.lax.scan(step, start, tuple(map(split, (hidden_TD, targets_T, weights_T))))
  if not gradient:
    return sums, None
  dhidden_TD = constrain(dhidden_PTD.swapaxes(0, 1).reshape(hidden_TD.shape), "tokens", "embed")
  return sums, (dhidden_TD, *of_tables)


def over_vocabulary(reduce: Callable[..., jax.Array], x_TV: jax.Array) -> jax.Array:
  """reduce(x, axis=-1, keepdims=True), (T, 1); on a GPU in two stages.

  XLA's GPU backend reduces rows of over 16,384 numbers in another way, several times slower.
  """
  vocabulary = x_TV.shape[1]
  parts = next((n for n in range(1, 65) if vocabulary % n == 0 and vocabulary // n <= _GPU_ROW), 1)
  if parts == 1 or not on_gpu() or split_over("vocab") > 1:
    return reduce(x_TV, axis=-1, keepdims=True)
  x_TP = reduce(x_TV.reshape(-1, parts, vocabulary // parts), axis=-1)
  return reduce(jax.lax.optimization_barrier(x_TP), axis=-1, keepdims=True)  # The compiler would join the two again.


def _part(
  hidden_TD: jax.Array,
  table_VD: jax.Array,
  bias_V: jax.Array | None,
  targets_T: jax.Array,
  weights_T: jax.Array,
  head: Head,
  gradient: bool,
) -> tuple[Any, Any]:
  """`_forward` with the logits of all the tokens at once."""
  logits_TV = constrain(logits(hidden_TD, table_VD, head, bias_V), "tokens", "vocab")
  largest_T1 = over_vocabulary(jnp.max, logits_TV)
  exponentials_TV = jnp.exp(logits_TV - largest_T1)
  sum_T1 = over_vocabulary(jnp.sum, exponentials_TV)
  log_z_T = (largest_T1 + jnp.log(sum_T1))[:, 0]
  hit_TV = jax.lax.broadcasted_iota(jnp.int32, logits_TV.shape, 1) == targets_T[:, None]
  target_T = over_vocabulary(jnp.sum, jnp.where(hit_TV, logits_TV, 0.0))[:, 0]
  nll = jnp.sum(weights_T * (log_z_T - target_T))
  z = jnp.sum(weights_T * jnp.square(log_z_T))
  correct = jnp.sum(weights_T * (target_T >= largest_T1[:, 0]))
  total = nll + head.z_loss * z
  if head.label_smoothing:  # The cross-entropy against an even spread, less the one against the target.
    mean_T = jnp.sum(jnp.where(_is_real(logits_TV, head), logits_TV, 0.0), axis=-1) / head.vocab_size
    total = total + head.label_smoothing * jnp.sum(weights_T * (target_T - mean_T))
  sums = (total, nll, correct, z)
  if not gradient:
    return sums, None
  scale_T = weights_T * (1 + 2 * head.z_loss * log_z_T)
  dlogits_TV = exponentials_TV * (scale_T[:, None] / sum_T1) - jnp.where(
    hit_TV, (1 - head.label_smoothing) * weights_T[:, None], 0.0
  )
  if head.label_smoothing:
    even_T1 = (head.label_smoothing / head.vocab_size) * weights_T[:, None]
    dlogits_TV = dlogits_TV - jnp.where(_is_real(logits_TV, head), even_T1, 0.0)
  if head.softcap is not None:
    dlogits_TV = dlogits_TV * (1 - jnp.square(jnp.clip(logits_TV / head.softcap, -1, 1)))
  dbias_V = None if bias_V is None else jnp.sum(dlogits_TV, axis=0)
  dlogits_TV = dlogits_TV if head.scale == 1 else dlogits_TV * head.scale
  dlogits_TV = dlogits_TV.astype(hidden_TD.dtype)
  dhidden_TD = jnp.dot(dlogits_TV, table_VD.astype(hidden_TD.dtype))
  product = lambda dlogits, hidden: jnp.dot(dlogits.T, hidden, preferred_element_type=jnp.float32)  # noqa: E731
  rows = [(dlogits_TV, ("tokens", "vocab")), (hidden_TD, ("tokens", None))]
  dtable_VD = summed_over_rows(product, rows, ("vocab", "embed"))
  return sums, (dhidden_TD, dtable_VD, dbias_V)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _sums(
  hidden_TD: jax.Array,
  table_VD: jax.Array,
  bias_V: jax.Array | None,
  targets_T: jax.Array,
  weights_T: jax.Array,
  head: Head,
) -> tuple[Any, ...]:
  return _forward(hidden_TD, table_VD, bias_V, targets_T, weights_T, head, gradient=False)[0]


def _sums_forward(
  hidden_TD: jax.Array,
  table_VD: jax.Array,
  bias_V: jax.Array | None,
  targets_T: jax.Array,
  weights_T: jax.Array,
  head: Head,
) -> tuple[Any, Any]:
  return _forward(hidden_TD, table_VD, bias_V, targets_T, weights_T, head, gradient=True)


def _sums_backward(head: Head, gradients: Any, cotangents: Any) -> tuple[Any, Any, Any, Any, Any]:
  """The gradients are there already; what is left is the factor that `total` is used with."""
  dhidden_TD, dtable_VD, dbias_V = gradients
  factor = cotangents[0]
  dbias_V = None if dbias_V is None else dbias_V * factor
  return (dhidden_TD * factor).astype(dhidden_TD.dtype), dtable_VD * factor, dbias_V, None, None


_sums.defvjp(_sums_forward, _sums_backward)


def cross_entropy(
  hidden_BLD: jax.Array,
  table_VD: jax.Array,
  targets_BL: jax.Array,
  weights_BL: jax.Array,
  head: Head,
  bias_V: jax.Array | None = None,
) -> CrossEntropy:
  """Cross-entropy of `logits(hidden, table, head, bias)`, with sums, softmax and loss in float32.

  The gradient of the logits is computed with the loss and used up at once, so that no (B, L, V) array lives from the
  forward pass to the backward pass. Only `total` is differentiated, in hidden, table and bias; weights are constants.

  Args:
    hidden_BLD: final hidden states, in the compute dtype.
    table_VD: float32 output table; rows past `head.vocab_size` are padding and have no probability.
    targets_BL: int32 ids.
    weights_BL: float32; 0 leaves a token out.
    head: its constants; z-loss as in https://arxiv.org/abs/2204.02311, section 5.
    bias_V: float32, added to the logits, or None.

  Raises:
    ValueError: shapes that don't fit each other.
  """
  check("cross_entropy", "BLD VD BL BL ?V", hidden_BLD, table_VD, targets_BL, weights_BL, bias_V)
  hidden_TD, targets_T, weights_T = map(_as_tokens, (hidden_BLD, targets_BL, weights_BL.astype(jnp.float32)))
  total, nll, correct, z = _sums(hidden_TD, table_VD, bias_V, targets_T, weights_T, head)
  return CrossEntropy(total, jnp.sum(weights_T), nll, correct, z)


def _as_tokens(x_BL: jax.Array) -> jax.Array:
  """(B, L, ...) as (T, ...). Where rows are split over devices, in the order in which those have the tokens."""
  flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
  if split_over("length") == 1 or x_BL.shape[0] % split_over("batch") or x_BL.shape[1] % split_over("length"):
    return flat(x_BL)
  others = [None] * (x_BL.ndim - 2)
  return on_each_device(flat, [(x_BL, ("batch", "length", *others))], ("tokens", *others))


def token_log_probs(
  hidden_BLD: jax.Array,
  table_VD: jax.Array,
  targets_BL: jax.Array,
  head: Head,
  bias_V: jax.Array | None = None,
) -> jax.Array:
  """log p(target) of every token in nats, (B, L) float32; differentiable."""
  check("token_log_probs", "BLD VD BL ?V", hidden_BLD, table_VD, targets_BL, bias_V)
  logits_BLV = logits(hidden_BLD, table_VD, head, bias_V)
  target_BL = jnp.take_along_axis(logits_BLV, targets_BL[..., None], axis=-1)[..., 0]
  return target_BL - jax.nn.logsumexp(logits_BLV, axis=-1)
