# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Watches the metrics of each step for what isn't finite, and stops a run that diverged."""

import collections
import math
from collections.abc import Callable, Mapping
from typing import Any

from lmx.errors import LmxError

LAST_NORMS = 5  # Gradient norms in the message of a run that stops.


class NonFiniteError(LmxError):
  """The loss, a gradient or a parameter was not finite, and the run can't or mustn't skip that."""


class Watch:
  """The policy of a run for steps that were skipped, and the last gradient norms."""

  def __init__(self, nonfinite: str, max_skipped: int, diagnose: Callable[[Any], str]):
    """Takes the policy.

    Args:
      nonfinite: stop | skip, see config.train.nonfinite.
      max_skipped: steps skipped in a row after which the run stops in any case.
      diagnose: batch -> a sentence on what diverged at it.
    """
    self._stops, self._max_skipped, self._diagnose = nonfinite == "stop", max_skipped, diagnose
    self._norms: collections.deque[float] = collections.deque(maxlen=LAST_NORMS)

  def look(self, step: int, metrics: Mapping[str, float], batch: Any, saved: int) -> str:
    """What to say of a step, "" for nothing.

    Args:
      step: its number.
      metrics: of the step, on the host.
      batch: that it was run on.
      saved: step of the last checkpoint.

    Raises:
      NonFiniteError: with what diverged.
    """
    self._norms.append(metrics["grad_norm"])
    if not math.isfinite(metrics["param_norm"]):
      raise NonFiniteError(
        f"step {step:,}: the parameters are not finite any more (norm {metrics['param_norm']:.4g}), which no skipped "
        f"step can mend. {self._diagnosis(batch)} The last checkpoint is of step {saved:,}. Fix: a lower "
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
