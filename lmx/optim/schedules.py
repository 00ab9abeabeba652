# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Learning rates as functions of the step.

The step is the number of updates done before this one, so the n-th update has step n - 1. Every schedule warms up
linearly from zero: update n of a warm-up of W uses n/W of the peak. No update is wasted on a rate of zero, update W has
the peak, and the last update of the run has the final rate.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from lmx.config.table import check_values
from lmx.errors import LmxError, choose, message

Schedule = Callable[[ArrayLike], jax.Array]
# (peak, final rate over peak, updates of warm-up W, updates that the rate has to fall) -> rate, by updates since then.
AfterWarmup = Callable[[float, float, float, float], optax.Schedule]


def _constant(peak: float, final: float, warmup: float, steps: float) -> optax.Schedule:
  """The peak to the end; the final ratio has no meaning here."""
  return optax.constant_schedule(peak)


def _cosine(peak: float, final: float, warmup: float, steps: float) -> optax.Schedule:
  """Half a cosine (SGDR, https://arxiv.org/abs/1608.03983, without restarts)."""
  return optax.cosine_decay_schedule(peak, steps, alpha=final)


def _linear(peak: float, final: float, warmup: float, steps: float) -> optax.Schedule:
  return optax.linear_schedule(peak, final * peak, steps)


def _inverse_sqrt(peak: float, final: float, warmup: float, steps: float) -> optax.Schedule:
  """Ours: optax has no schedule that falls with the root of the step."""
  return lambda n: peak * jnp.maximum(jnp.sqrt(max(warmup, 1.0) / (n + warmup)), final)


# The rate after the warm-up; wsd: in the last stretch. The training step scales that of plateau down.
SCHEDULES: dict[str, AfterWarmup] = {
  "constant": _constant,
  "cosine": _cosine,
  "linear": _linear,
  "inverse_sqrt": _inverse_sqrt,
  "wsd": _linear,
  "plateau": _constant,
}


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
  after_warmup = choose("config.optimizer.schedule", name, SCHEDULES)
  check_values("optimizer", {"peak_lr": peak_lr, "final_lr_ratio": final_lr_ratio})
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
  schedules, boundaries = [after_warmup(peak_lr, final_lr_ratio, warmup, max(total_steps - start, 1.0))], []
  if start > warmup:
    schedules, boundaries = [optax.constant_schedule(peak_lr), *schedules], [start]
  if warmup:
    schedules, boundaries = [optax.linear_schedule(0.0, peak_lr, warmup), *schedules], [warmup, *boundaries]
  joined = optax.join_schedules(schedules, boundaries)
  return lambda step: jnp.asarray(joined(jnp.asarray(step, jnp.float32) + 1.0), jnp.float32)
