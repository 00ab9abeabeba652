# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Predictions of models with a task head: labels, numbers, spans, tags."""

import dataclasses

import jax
import numpy as np

from lmx.errors import LmxError, message
from lmx.inference.batches import Ragged, over_rows


@jax.jit
def _scores(model, tokens_BL, segments_BL, **aligned):
  return model(tokens_BL, segment_ids=segments_BL, **aligned).scores


@dataclasses.dataclass(frozen=True)
class Span:
  """The likeliest span of a row.

  Attributes:
    first, last: indices of its first and last token; both 0, the first token of the row, if "no answer" is likelier.
    score: the sum of the two logits minus that of "no answer"; positive if there is an answer.
  """

  first: int
  last: int
  score: float


def scores(
  model, rows: Ragged, *, token_types: Ragged | None = None, batch_size: int = 32, heads: tuple[str, ...] = ()
) -> list[np.ndarray]:
  """The raw scores of the head for each row.

  Args:
    model: one whose head has scores.
    rows: token ids, (n,) each, with the special tokens that the model was trained on.
    token_types: for models with token types: 0 or 1 per token, the text of a pair that it belongs to.
    batch_size: rows per batch; the result doesn't depend on it.
    heads: allowed heads; (): any.

  Returns:
    For each row of n tokens, float32: (C,) of a classification or embedding head, () of a regression head, (n, 2) of a
    span head, (n, C) of a tagging head.

  Raises:
    LmxError: another head, an empty row, one longer than the context, or an id outside the vocabulary.
  """
  spec = model.spec
  allowed = heads or ("classification", "regression", "span", "tagging", "embedding")
  if spec.head not in allowed:
    fix = "use a model that was trained for this task"
    raise LmxError(message("the model's head", got=spec.head, allowed=allowed, fix=fix))
  aligned = {} if token_types is None else {"token_types": token_types}
  found = over_rows(_scores, model, rows, batch_size=batch_size, aligned=aligned)
  if spec.head in ("span", "tagging"):
    return [row_scores[: len(row)] for row_scores, row in zip(found, rows, strict=True)]
  return found


def classify(model, rows: Ragged, *, multi_label: bool = False, **options) -> np.ndarray:
  """The probability of each label.

  Args:
    model: one with a classification head.
    rows: token ids, (n,) each.
    multi_label: labels are independent; otherwise the probabilities of a row sum to 1.
    **options: token_types, batch_size: as in `scores`.

  Returns:
    (len(rows), C) float32.

  Raises:
    LmxError: as in `scores`.

  Examples:
    >>> from lmx.inference.predict import classify
    >>> run = lmx.load("runs/classify")
    >>> classify(run.model, [run.tokenizer.encode("w1 w2"), run.tokenizer.encode("w3")]).shape
    (2, 3)
  """
  found = scores(model, rows, heads=("classification",), **options)
  logits = np.stack(found) if found else np.zeros((0, model.spec.outputs), np.float32)
  return np.asarray(jax.nn.sigmoid(logits) if multi_label else jax.nn.softmax(logits, axis=-1))


def regress(model, rows: Ragged, **options) -> np.ndarray:
  """A number per row, (len(rows),) float32; options as in `scores`."""
  return np.array(scores(model, rows, heads=("regression",), **options), np.float32)


def tag(model, rows: Ragged, **options) -> list[np.ndarray]:
  """The index of the likeliest label of each token, (n,) int32 for a row of n tokens; options as in `scores`."""
  return [np.argmax(row, axis=-1).astype(np.int32) for row in scores(model, rows, heads=("tagging",), **options)]


def find_spans(model, rows: Ragged, *, context_mask: Ragged, **options) -> list[Span]:
  """The likeliest span of each row, or no answer.

  Args:
    model: one with a span head.
    rows: token ids, (n,) each.
    context_mask: for each row, 1 per token that an answer may contain, else 0.
    **options: token_types, batch_size: as in `scores`.

  Raises:
    LmxError: as in `scores`.
  """
  found = scores(model, rows, heads=("span",), **options)
  return [_best_span(row, np.asarray(mask)) for row, mask in zip(found, context_mask, strict=True)]


def _best_span(scores_L2: np.ndarray, mask_L: np.ndarray) -> Span:
  start, end = (np.where(mask_L > 0, scores_L2[:, i], -np.inf) for i in (0, 1))
  both = np.maximum.accumulate(start) + end  # The best start at or before each end.
  last = int(np.argmax(both))
  first = int(np.argmax(start[: last + 1]))
  score = float(both[last] - scores_L2[0].sum())
  return Span(first, last, score) if score > 0 else Span(0, 0, score)
