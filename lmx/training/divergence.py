# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Divergence: checks each step's metrics for values that aren't finite, and stops a run that diverged."""

import collections
import math
from collections.abc import Callable, Mapping
from typing import Any

from lmx.errors import LmxError

LAST_NORMS = 5  # Gradient norms in the message of a run that stops.


class NonFiniteError(LmxError):
  """The loss, a gradient or a parameter was not finite, and the step can't or mustn't be skipped."""


class Watch:
  """A run's policy for skipped steps, and its last gradient norms, for the message of a run that stops."""

  def __init__(self, nonfinite: str, max_skipped: int, diagnose: Callable[[Any], str]):
    """A watch that has seen no step yet.

    Args:
      nonfinite: "stop" or "skip", see config.train.nonfinite.
      max_skipped: steps skipped in a row after which the run stops in any case.
      diagnose: batch -> a sentence on which arrays diverged at it.
    """
    self._stops, self._max_skipped, self._diagnose = nonfinite == "stop", max_skipped, diagnose
    self._norms: collections.deque[float] = collections.deque(maxlen=LAST_NORMS)

  def check(self, step: int, metrics: Mapping[str, float], batch: Any, saved: int) -> str:
    """A line to print about a step that was skipped; "" for one that wasn't.

    Args:
      step: its number, from 1.
      metrics: its metrics, on the host.
      batch: the batch it was run on.
      saved: step of the last checkpoint.

    Raises:
      NonFiniteError: with the arrays that diverged.
    """
    self._norms.append(metrics["grad_norm"])
    if not math.isfinite(metrics["param_norm"]):
      raise NonFiniteError(
        f"step {step:,}: the parameters are not finite (norm {metrics['param_norm']:.4g}), and skipping "
        f"steps can't repair them. {self._diagnosis(batch)} The last checkpoint is of step {saved:,}. Fix: a lower "
        "--config.optimizer.peak_lr or --config.optimizer.clip_norm"
      )
    if not metrics["skipped"]:
      return ""
    finite = math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])
    what = f"step {step:,}: loss {metrics['loss']:.4g}, gradient norm {metrics['grad_norm']:.4g}"
    in_a_row = int(metrics["skipped_in_a_row"])
    if (not finite and self._stops) or in_a_row >= self._max_skipped:
      first = step - in_a_row + 1
      steps = f"step {step:,}" if first == step else f"steps {first:,} to {step:,}"
      raise NonFiniteError(
        f"{what}. The update of {steps} was skipped and the run stopped; the last checkpoint is of step {saved:,}. "
        f"{self._diagnosis(batch)} Fix: a lower --config.optimizer.peak_lr or --config.optimizer.clip_norm, or "
        "--config.train.nonfinite=skip to skip such steps and continue."
      )
    return f"{what}: skipped ({metrics['skipped_total']:.0f} so far)"

  def _diagnosis(self, batch: Any) -> str:
    return f"{self._diagnose(batch)} The last gradient norms are {', '.join(f'{norm:.3g}' for norm in self._norms)}."
