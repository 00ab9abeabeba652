# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Next-token prediction, the objective of GPT and of every decoder-only model."""

import numpy as np

from lmx.objectives.base import Arrays, Objective, ObjectiveContext, ObjectiveSpec
from lmx.objectives.parts import token_loss


def prepare(window: np.ndarray, rng: np.random.Generator) -> Arrays:
  """A window of L + 1 tokens as a row of L pairs (token, next token), each of weight 1."""
  del rng  # Nothing is random here.
  window = np.asarray(window, np.int32)
  return {"tokens": window[:-1], "targets": window[1:], "loss_weights": np.ones(len(window) - 1, np.float32)}


def causal(context: ObjectiveContext, *, z_loss: float) -> Objective:
  """Next-token prediction.

  Args:
    context: the run's.
    z_loss: weight of log(Z)^2 per token (https://arxiv.org/abs/2204.02311, section 5, uses 1e-4); 0: off.

  The loss is in nats per unit of weight. Metrics: `nll` (the loss without z-loss), `accuracy`, `z` (log(Z)^2), and the
  losses of the model's own parts.

  Raises:
    LmxError: an option out of range.
  """
  del context
  return Objective("causal", lookahead=1, prepare=prepare, loss=token_loss(z_loss=z_loss), reports_bits_per_byte=True)


ROW = ObjectiveSpec(
  causal,
  head="language",
  families=("transformer", "lstm"),
  packings=("packed", "concatenated", "padded", "streams"),
)
