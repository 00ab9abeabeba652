# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a model with a task's head says about texts: labels, numbers, spans, tags."""

import dataclasses

import jax
import numpy as np

from lmx.errors import LmxError, message
from lmx.inference.batches import Ragged, over_rows


@jax.jit
def _scores(model, tokens_BL, segments_BL, **beside):
  return model(tokens_BL, segment_ids=segments_BL, **beside).scores


@dataclasses.dataclass(frozen=True)
class Span:
  """The likeliest span of a row.

  Attributes:
    first, last: its first and last token; both 0, the first token of the row, where that is likelier: no answer.
    score: the sum of the two logits, less that of no answer. Over 0: there is an answer.
  """

  first: int
  last: int
  score: float


def scores(
  model, rows: Ragged, *, token_types: Ragged | None = None, batch_size: int = 32, heads: tuple[str, ...] = ()
) -> list[np.ndarray]:
  """The head's scores of each row, float32, as they come: (C,), (), (n, 2) or (n, C) for a row of n tokens.

  Args:
    model: one whose head has scores.
    rows: ids, (n,) each, with the special tokens that the model was trained on.
    token_types: which of two texts each token belongs to, for models that have a table of them.
    batch_size: rows at once; the result doesn't depend on it.
    heads: the heads that will do; (): any.

  Raises:
    LmxError: another head, an empty row, one longer than the context, or an id outside the vocabulary.
  """
  spec = model.spec
  allowed = heads or ("classification", "regression", "span", "tagging", "embedding")
  if spec.head not in allowed:
    fix = "the head comes with the objective that a model was trained for"
    raise LmxError(message("the model's head", got=spec.head, allowed=allowed, fix=fix))
  beside = {} if token_types is None else {"token_types": token_types}
  found = over_rows(_scores, model, rows, batch_size=batch_size, beside=beside)
  if spec.head in ("span", "tagging"):
    return [row_scores[: len(row)] for row_scores, row in zip(found, rows, strict=True)]
  return found


def classify(model, rows: Ragged, *, multi_label: bool = False, **options) -> np.ndarray:
  """The probability of each label, (n, C) float32; options as in `scores`.

  Args:
    model: one with the head classification.
    rows: ids.
    multi_label: each label has a probability of its own; otherwise a row's add up to 1.
  """
  found = scores(model, rows, heads=("classification",), **options)
  logits = np.stack(found) if found else np.zeros((0, model.spec.outputs), np.float32)
  return np.asarray(jax.nn.sigmoid(logits) if multi_label else jax.nn.softmax(logits, axis=-1))


def regress(model, rows: Ragged, **options) -> np.ndarray:
  """A number for each row, (n,) float32; options as in `scores`."""
  return np.array(scores(model, rows, heads=("regression",), **options), np.float32)


def tag(model, rows: Ragged, **options) -> list[np.ndarray]:
  """The number of the likeliest label of each token, (n,) int32 for a row of n; options as in `scores`."""
  return [np.argmax(row, axis=-1).astype(np.int32) for row in scores(model, rows, heads=("tagging",), **options)]


def find_spans(model, rows: Ragged, *, context_mask: Ragged, **options) -> list[Span]:
  """The likeliest span of each row, as the objective `span` finds it; options as in `scores`.

  Args:
    model: one with the head span.
    rows: ids.
    context_mask: for each row, 1 for the tokens that an answer may stand in.
  """
  found = scores(model, rows, heads=("span",), **options)
  return [_best_span(row, np.asarray(mask)) for row, mask in zip(found, context_mask, strict=True)]


def _best_span(scores_L2: np.ndarray, mask_L: np.ndarray) -> Span:
  start, end = (np.where(mask_L > 0, scores_L2[:, i], -np.inf) for i in (0, 1))
  both = np.maximum.accumulate(start) + end  # The best start up to each place.
  last = int(np.argmax(both))
  first = int(np.argmax(start[: last + 1]))
  score = float(both[last] - scores_L2[0].sum())
  return Span(first, last, score) if score > 0 else Span(0, 0, score)
