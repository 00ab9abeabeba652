# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Prefix language modeling: the prefix of a text is seen from both sides, the rest is predicted.

Source: https://arxiv.org/abs/1910.10683, sections 3.2.1 and 3.2.3.
"""

import numpy as np

from lmx.objectives.base import Arrays, Objective, ObjectiveContext, ObjectiveSpec
from lmx.objectives.parts import token_loss


def prepare(window: np.ndarray, rng: np.random.Generator) -> Arrays:
  """A window of n + 1 tokens as n pairs; the first tokens, 1 to n of them, are its prefix, and no pair is scored in it.

  `prefix` is 1 for the tokens of the prefix, which every token of the window attends to.
  """
  window = np.asarray(window, np.int32)
  places = np.arange(len(window) - 1)
  size = int(rng.integers(1, len(window))) if len(window) > 1 else 0
  return {
    "tokens": window[:-1],
    "targets": window[1:],
    "prefix": (places < size).astype(np.int32),
    # The last token of the prefix predicts the first one after it, which nothing before it has seen.
    "loss_weights": (places >= size - 1).astype(np.float32),
  }


def prefix(context: ObjectiveContext, *, z_loss: float) -> Objective:
  """Prefix language modeling with a random split of each window.

  Args:
    context: the run's.
    z_loss: weight of log(Z)^2 per token.

  Metrics: `nll` and `accuracy` over what follows the prefix.

  Raises:
    LmxError: an option out of range.
  """
  del context
  return Objective("prefix", lookahead=1, prepare=prepare, loss=token_loss(z_loss=z_loss))


ROW = ObjectiveSpec(prefix, head="language", families=("transformer",))
