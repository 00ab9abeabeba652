# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Masked language modeling, the objective of BERT (https://arxiv.org/abs/1810.04805, section 3.1)."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.errors import LmxError, message
from lmx.objectives.base import Arrays, Batch, Loss, Objective, ObjectiveContext, ObjectiveSpec, run_model
from lmx.objectives.parts import special_ids, vocabulary_loss

HIDDEN, RANDOM = 0.8, 0.1  # Shares of the predicted tokens that are masked, and replaced; the others stay as they are.


def predictions_of(places: np.ndarray | int, mask_rate: float) -> np.ndarray:
  """Number of predictions for a number of text tokens: their share, rounded half up."""
  return np.floor(np.asarray(places) * mask_rate + 0.5).astype(np.int64)


def most_predictions(length: int, mask_rate: float) -> int:
  """The most predictions that a row of `length` tokens can have, whatever windows it is packed with.

  A window fills the row, or it has at least one token more than text tokens (the end of its document).
  """
  tokens = np.arange(1, length + 1)
  share = np.max(predictions_of(tokens, mask_rate) / (tokens + 1))
  return max(1, int(predictions_of(length, mask_rate)), math.floor(share * length + 1e-9))


class Masking:
  """Chooses tokens of a window and hides them. Every call chooses again; all randomness comes from the generator."""

  def __init__(self, context: ObjectiveContext, mask_rate: float, whole_words: bool):
    tokenizer = context.tokenizer
    mask_id = tokenizer.mask_id
    if mask_id is None:
      allowed = "a tokenizer with a mask token, for objective.name=masked"
      raise LmxError(
        message("config.tokenizer", got=tokenizer.name, allowed=allowed, fix="--config.tokenizer.extra_ids=1")
      )
    self._mask_id, self._mask_rate, self._whole_words = mask_id, mask_rate, whole_words
    self._is_text = np.ones(tokenizer.vocab_size, bool)
    self._is_text[special_ids(tokenizer)] = False
    self._ordinary = np.flatnonzero(self._is_text).astype(np.int32)
    self._starts_word = tokenizer.starts_word if whole_words else None

  def __call__(self, window: np.ndarray, rng: np.random.Generator) -> Arrays:
    """The row's tokens with some masked; `targets` has the original ones, and `loss_weights` is 1 where they are."""
    targets = np.asarray(window, np.int32)
    text = np.flatnonzero(self._is_text[targets])
    budget = int(predictions_of(len(text), self._mask_rate))
    if self._starts_word is None:
      chosen = rng.permutation(text)[:budget]
    else:
      chosen = _choose_words(text, self._starts_word[targets[text]], budget, rng)
    tokens, weights = targets.copy(), np.zeros(len(targets), np.float32)
    weights[chosen] = 1
    fate = rng.random(len(chosen))
    tokens[chosen[fate < HIDDEN]] = self._mask_id
    replaced = chosen[(fate >= HIDDEN) & (fate < HIDDEN + RANDOM)]
    tokens[replaced] = rng.choice(self._ordinary, len(replaced))
    return {"tokens": tokens, "targets": targets, "loss_weights": weights}


def _choose_words(text: np.ndarray, starts: np.ndarray, budget: int, rng: np.random.Generator) -> np.ndarray:
  """Positions of words in random order, until the budget is used; a word that is too long is passed over.

  Args:
    text: positions of the text's tokens in the window, in order.
    starts: for each of them, whether a word begins there.
    budget: tokens to choose at most.
    rng: the order of the words.
  """
  if not budget:
    return text[:0]
  starts = starts | (np.diff(text, prepend=-2) > 1)
  first = np.flatnonzero(starts)
  sizes = np.diff(first, append=len(text))
  taken = []
  for word in rng.permutation(len(first)):
    if sizes[word] <= budget:
      taken.append(text[first[word] : first[word] + sizes[word]])
      budget -= int(sizes[word])
      if not budget:
        break
  return np.concatenate(taken) if taken else text[:0]


def only_predicted(hidden_BLD: jax.Array, targets_BL: jax.Array, weights_BL: jax.Array, most: int):
  """The hidden states, targets and weights at positions of nonzero weight, at most `most` = P in a row.

  The product with the vocabulary is most of a small model's work, so it is done for P positions of a row, not for L.

  Returns:
    (B, P, D) hidden states, (B, P) targets, (B, P) weights; unused positions have weight zero.
  """
  most = min(most, weights_BL.shape[1])
  places_BP = jnp.argsort(weights_BL > 0, axis=1, stable=True, descending=True)[:, :most]
  take = jnp.take_along_axis
  return take(hidden_BLD, places_BP[..., None], 1), take(targets_BL, places_BP, 1), take(weights_BL, places_BP, 1)


def masked(context: ObjectiveContext, *, z_loss: float, mask_rate: float, whole_words: bool) -> Objective:
  """Masked language modeling.

  In each window exactly `mask_rate` of the text's tokens (rounded, so none of fewer than 0.5 / mask_rate) are chosen
  for prediction: 80 % of them become the mask, 10 % another token, 10 % stay. Special tokens are never chosen. A row
  is masked otherwise each time it is drawn, and in the same way in the same run.

  Args:
    context: the run's; its tokenizer must have a mask.
    z_loss: weight of log(Z)^2 per predicted token.
    mask_rate: share of the text's tokens to predict.
    whole_words: the tokens of a word are chosen together (https://github.com/google-research/bert, May 2019).

  Metrics: `nll` in nats and `accuracy`, both over the predicted tokens.

  Raises:
    LmxError: an option out of range, or no mask in the tokenizer.
  """
  most = most_predictions(context.length, mask_rate)

  def loss(model: Any, batch: Batch, dropout_key: jax.Array | None, reference: Any = None) -> Loss:
    del reference
    outputs = run_model(model, batch, dropout_key)
    hidden, targets, weights = only_predicted(outputs.hidden, batch["targets"], batch["loss_weights"], most)
    return vocabulary_loss(dataclasses.replace(outputs, hidden=hidden), targets, weights, z_loss=z_loss)

  return Objective("masked", prepare=Masking(context, mask_rate, whole_words), loss=loss)


ROW = ObjectiveSpec(
  masked,
  head="masked",
  families=("encoder",),
)
