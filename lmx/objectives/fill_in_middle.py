# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Fill in the middle, with a causal model (https://arxiv.org/abs/2207.14255)."""

import numpy as np

from lmx.objectives.base import Arrays, Objective, ObjectiveContext, ObjectiveSpec
from lmx.objectives.denoising import check_sentinels
from lmx.objectives.parts import text_part, token_loss

MARKS = 3  # Sentinels 0, 1 and 2 stand before the prefix, the suffix and the middle.


class Rearrangement:
  """Cuts a document at two random positions into prefix, middle and suffix, and puts the middle at the end.

  PSM: <pre> prefix <suf> suffix <mid> middle. SPM: <pre> <suf> suffix <mid> prefix middle (section 3, variant 2). The
  document's start stays before it all and its end after it all, so that the model learns where the middle ends. The
  cuts are between tokens, since the text is in tokens when it gets here; nothing is lost.

  Attributes:
    window_length: tokens of a row's windows, fewer than the row has: each document that is rearranged grows by 3. A
      document too short for its share of them (under about 93 tokens) is read as it is.
  """

  def __init__(self, context: ObjectiveContext, fim_rate: float, fim_spm: float):
    tokenizer = self._tokenizer = context.tokenizer
    check_sentinels(tokenizer, MARKS)
    self._marks = np.array([tokenizer.sentinel(index) for index in range(MARKS)], np.int32)
    self._rate, self._spm, self._length = fim_rate, fim_spm, context.length
    self.window_length = context.length - max(MARKS, context.length // 32)

  def __call__(self, window: np.ndarray, rng: np.random.Generator) -> Arrays:
    """A window of n + 1 tokens as n pairs, or n + 3 where it was rearranged."""
    window = np.asarray(window, np.int32)
    chosen, spm = rng.random(2) < (self._rate, self._spm)
    places = len(window) - 1
    if chosen and places + MARKS <= self._length * places // self.window_length:
      window = self._rearranged(window, bool(spm), rng)
    return {"tokens": window[:-1], "targets": window[1:], "loss_weights": np.ones(len(window) - 1, np.float32)}

  def _rearranged(self, window: np.ndarray, spm: bool, rng: np.random.Generator) -> np.ndarray:
    text = text_part(window, self._tokenizer)
    start = int(window[0] == self._tokenizer.bos_id)
    first, second = np.sort(rng.integers(0, len(text) + 1, 2))
    prefix, middle, suffix = text[:first], text[first:second], text[second:]
    pre, suf, mid = self._marks[:, None]
    parts = (pre, suf, suffix, mid, prefix, middle) if spm else (pre, prefix, suf, suffix, mid, middle)
    return np.concatenate([window[:start], *parts, window[start + len(text) :]])


def fill_in_middle(context: ObjectiveContext, *, z_loss: float, fim_rate: float, fim_spm: float) -> Objective:
  """Next-token prediction in which some documents have their middle at the end.

  Args:
    context: the run's; its tokenizer must have 3 sentinels.
    z_loss: weight of log(Z)^2 per token.
    fim_rate: share of documents that are rearranged.
    fim_spm: share of those in the order suffix, prefix, middle.

  Metrics: `nll` and `accuracy` over all tokens.

  Raises:
    LmxError: an option out of range, or too few sentinels.
  """
  prepare = Rearrangement(context, fim_rate, fim_spm)

  return Objective(
    "fill_in_middle", prepare=prepare, loss=token_loss(z_loss=z_loss), lookahead=1, window_length=prepare.window_length
  )


ROW = ObjectiveSpec(
  fill_in_middle,
  head="language",
  families=("transformer", "lstm"),
  packings=("packed", "padded"),
)
