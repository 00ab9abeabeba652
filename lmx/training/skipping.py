# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Skipping of non-finite and spiking steps, decided and counted on the device."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

SPIKE_HISTORY = 100  # Steps in the running mean of the gradient norm, and steps before the first spike can be detected.


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SkipState:
  """Scalars on the device, saved with the run, so that a resumed run skips the steps an uninterrupted one would skip.

  Attributes:
    norm_sum: decayed sum of gradient norms, float32; the running mean is this over its weight.
    norm_weight: decayed count of the same, float32, up to 1.
    norms: number of finite gradient norms so far, int32.
    skipped: steps skipped in the run, int32.
    skipped_in_a_row: steps skipped since the last applied one, int32.
  """

  norm_sum: jax.Array
  norm_weight: jax.Array
  norms: jax.Array
  skipped: jax.Array
  skipped_in_a_row: jax.Array


def new_skip_state() -> SkipState:
  return SkipState(jnp.zeros(()), jnp.zeros(()), *(jnp.zeros((), jnp.int32) for _ in range(3)))


def should_skip(
  guard: SkipState, loss: jax.Array, grad_norm: jax.Array, *, spike_factor: float | None, history: int = SPIKE_HISTORY
) -> tuple[jax.Array, SkipState]:
  """(whether to apply the step, the next state).

  A step is skipped when its loss or gradient norm is not finite, or when the norm is over `spike_factor` times the
  running mean. A spike enters the mean with the value of the limit, so a lasting rise is accepted after a while.

  Args:
    guard: the state before this step.
    loss, grad_norm: float32 scalars of the whole batch, the norm before clipping.
    spike_factor: None accepts every finite step.
    history: the mean's window in steps; no step is a spike before that number of norms.
  """
  finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
  limit = jnp.asarray(jnp.inf)
  if spike_factor is not None:
    mean = guard.norm_sum / jnp.maximum(guard.norm_weight, jnp.finfo(jnp.float32).tiny)
    limit = jnp.where(guard.norms >= history, spike_factor * mean, jnp.inf)
  apply = finite & (grad_norm <= limit)
  keep = 1.0 - 1.0 / history

  def seen(new: Any, old: jax.Array) -> jax.Array:
    return jnp.where(finite, new, old)

  skipped = 1 - apply.astype(jnp.int32)
  return apply, SkipState(
    norm_sum=seen(keep * guard.norm_sum + (1.0 - keep) * jnp.minimum(grad_norm, limit), guard.norm_sum),
    norm_weight=seen(keep * guard.norm_weight + (1.0 - keep), guard.norm_weight),
    norms=seen(guard.norms + 1, guard.norms),
    skipped=guard.skipped + skipped,
    skipped_in_a_row=(guard.skipped_in_a_row + 1) * skipped,
  )
