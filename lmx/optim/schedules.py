# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Learning rates as functions of the step.

The step is the number of updates done before this one, so the n-th update has step n - 1. Every schedule warms up
linearly from zero: update n of a warm-up of W uses n/W of the peak. No update is wasted on a rate of zero, update W has
the peak, and the last update of the run has the final rate.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from lmx.errors import LmxError, choose, message

Schedule = Callable[[ArrayLike], jax.Array]
# (share of the run after warm-up that is over, in [0, 1]; final rate over peak) -> rate over peak.
Shape = Callable[[jax.Array, float], jax.Array]


def _constant(progress: jax.Array, final: float) -> jax.Array:
  """The peak to the end; the final ratio has no meaning here."""
  return jnp.ones_like(progress)


def _cosine(progress: jax.Array, final: float) -> jax.Array:
  """Half a cosine from 1 to `final` (SGDR, https://arxiv.org/abs/1608.03983, without restarts)."""
  return final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


def _linear(progress: jax.Array, final: float) -> jax.Array:
  return 1.0 + (final - 1.0) * progress


# How a rate goes from its peak to its end over a given stretch of steps.
DECAYS: dict[str, Shape] = {"constant": _constant, "cosine": _cosine, "linear": _linear, "plateau": _constant}
SCHEDULES = (*DECAYS, "inverse_sqrt", "wsd")


def make_schedule(
  name: str,
  *,
  peak_lr: float,
  total_steps: int,
  warmup_steps: int = 0,
  decay_steps: int = 0,
  final_lr_ratio: float = 0.0,
) -> Schedule:
  """The learning rate at each step, float32.

  Args:
    name: one of `SCHEDULES`. With n the number of the update, W warm-up, T the total and D the decay:
      constant: the peak.
      plateau: the peak; the training step scales it down after evaluations without progress.
      cosine, linear: from the peak at W to the final rate at T.
      inverse_sqrt: peak * sqrt(W / n), never below the final rate (https://arxiv.org/abs/1706.03762, section 5.3).
      wsd: the peak until T - D, then linear to the final rate (https://arxiv.org/abs/2404.06395, section 4).
    peak_lr: the highest rate.
    total_steps: T, updates in the run. Later ones keep the final rate.
    warmup_steps: W, updates of linear warm-up; 0 starts at the peak.
    decay_steps: D, updates of the final decay; wsd only.
    final_lr_ratio: the last update's rate over the peak.

  Raises:
    LmxError: an unknown name, or stretches that don't fit into the run.
  """
  choose("config.optimizer.schedule", name, dict.fromkeys(SCHEDULES))
  decay_steps = decay_steps if name == "wsd" else 0
  if warmup_steps + decay_steps > total_steps:
    raise LmxError(
      message(
        "config.optimizer.warmup" + (" + config.optimizer.decay" if decay_steps else ""),
        got=f"{warmup_steps + decay_steps} steps",
        allowed=f"at most the {total_steps} steps of config.train.duration",
        fix='--config.optimizer.warmup="2%"',
      )
    )
  # Floats, since runs may be planned with more steps than int32 counts.
  start, warmup = float(total_steps - decay_steps if name == "wsd" else warmup_steps), float(warmup_steps)
  falling = max(float(total_steps) - start, 1.0)
  shape = DECAYS["linear" if name == "wsd" else name] if name != "inverse_sqrt" else None

  def schedule(step: ArrayLike) -> jax.Array:
    n = jnp.asarray(step, jnp.float32) + 1.0
    if shape is None:
      after = jnp.maximum(jnp.sqrt(max(warmup, 1.0) / n), final_lr_ratio)
    else:
      after = shape(jnp.clip((n - start) / falling, 0.0, 1.0), final_lr_ratio)
    warm = jnp.minimum(n / max(warmup, 1.0), 1.0)
    return peak_lr * jnp.where(n < warmup, warm, after)

  return schedule
