# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Metrics of a complete split that are not means over its rows, computed exactly from all predictions in float64."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats

Predictions = Mapping[str, np.ndarray]
_BLOCK = 1024  # Rows compared with all others at once.
_SAME = 1e-6  # Similarities this near are equal: sums in float32 differ by as much.


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
  """(C, C) counts: row c has the rows labelled c, by what was predicted for them."""
  pairs = labels.astype(np.int64) * classes + predicted
  return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def f1_of(hits: np.ndarray, labelled: np.ndarray, predicted: np.ndarray) -> np.ndarray:
  """2 hits / (labelled + predicted), elementwise: the harmonic mean of precision and recall; 0 of nothing."""
  total = np.asarray(labelled, np.float64) + predicted
  return np.divide(2.0 * np.asarray(hits), total, out=np.zeros_like(total), where=total > 0)


def macro_f1(table: np.ndarray) -> float:
  """The mean of the classes' F1, over the classes that occur among labels or predictions, as scikit-learn counts."""
  labelled, predicted = table.sum(axis=1), table.sum(axis=0)
  return float(np.mean(f1_of(np.diag(table), labelled, predicted)[labelled + predicted > 0]))


def matthews(table: np.ndarray) -> float:
  """Matthews' correlation of labels and predictions, for any number of classes; 0 where one of them is constant.

  Source: Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient, 2004.
  """
  table = table.astype(np.float64)
  labelled, predicted, total = table.sum(axis=1), table.sum(axis=0), table.sum()
  covariance = np.trace(table) * total - labelled @ predicted
  spread = np.sqrt(total**2 - predicted @ predicted) * np.sqrt(total**2 - labelled @ labelled)
  return float(covariance / spread) if spread > 0 else 0.0


def pearson(first: np.ndarray, second: np.ndarray) -> float:
  """Pearson's correlation; 0 where one of the two is constant, for which it is not defined."""
  first, second = (np.asarray(x, np.float64) - np.mean(x, dtype=np.float64) for x in (first, second))
  spread = np.sqrt(np.sum(first**2)) * np.sqrt(np.sum(second**2))
  return float(np.clip(np.sum(first * second) / spread, -1, 1)) if spread > 0 else 0.0


def spearman(first: np.ndarray, second: np.ndarray) -> float:
  """Pearson's correlation of the ranks; equal values share the mean of their ranks."""
  return pearson(scipy.stats.rankdata(first), scipy.stats.rankdata(second))


def classification_scores(predictions: Predictions) -> dict[str, float]:
  """`accuracy`, `macro_f1`, `matthews`, and `f1` of the second label where there are two.

  Args:
    predictions: scores (N, C), labels (N,).
  """
  scores, labels = predictions["scores"], predictions["labels"]
  table = confusion(labels, np.argmax(scores, axis=1), scores.shape[1])
  found = {
    "accuracy": float(np.trace(table) / table.sum()),
    "macro_f1": macro_f1(table),
    "matthews": matthews(table),
  }
  if len(table) == 2:
    found["f1"] = float(f1_of(np.diag(table), table.sum(axis=1), table.sum(axis=0))[1])
  return found


def multi_label_scores(predictions: Predictions) -> dict[str, float]:
  """`accuracy` (rows with every label right), `micro_f1` (of all decisions), `macro_f1` (mean of the labels').

  Args:
    predictions: scores (N, C), labels (N, C); a label is given where its score is over 0.
  """
  given, labels = predictions["scores"] > 0, predictions["labels"] > 0
  hits, labelled, predicted = (given & labels).sum(axis=0), labels.sum(axis=0), given.sum(axis=0)
  return {
    "accuracy": float(np.mean(np.all(given == labels, axis=1))),
    "micro_f1": float(f1_of(hits.sum(), labelled.sum(), predicted.sum())),
    "macro_f1": float(np.mean(f1_of(hits, labelled, predicted))),
  }


def regression_scores(predictions: Predictions) -> dict[str, float]:
  """`pearson`, `spearman`, `mse`.

  Args:
    predictions: scores (N,), labels (N,).
  """
  scores, labels = (predictions[name].astype(np.float64) for name in ("scores", "labels"))
  return {
    "pearson": pearson(scores, labels),
    "spearman": spearman(scores, labels),
    "mse": float(np.mean((scores - labels) ** 2)),
  }


def retrieval_scores(predictions: Predictions) -> dict[str, float]:
  """`retrieval_accuracy` and `mrr`: whether, and how near the top, each text finds its own partner among all.

  Args:
    predictions: first, second (N, D), of length 1; the partner of first[i] is second[i]. Equals share the best rank.
  """
  first, second = predictions["first"], predictions["second"]
  own = np.sum(first * second, axis=1)
  ranks = [
    1 + np.sum(first[i : i + _BLOCK] @ second.T > own[i : i + _BLOCK, None] + _SAME, axis=1)
    for i in range(0, len(first), _BLOCK)
  ]
  rank = np.concatenate(ranks).astype(np.float64)
  return {"retrieval_accuracy": float(np.mean(rank == 1)), "mrr": float(np.mean(1 / rank))}


def span_scores(predictions: Predictions) -> dict[str, float]:
  """`exact_match` and `f1` of spans as sets of tokens, from 0 to 1. (0, 0) stands for "no answer".

  The official scores compare texts; they are in lmx/evaluation/squad.py.

  Args:
    predictions: spans (N, 2), golds (N, G, 2): first and last token, of which the best of a row's G counts.
  """
  spans, golds = predictions["spans"].astype(np.int64)[:, None], predictions["golds"].astype(np.int64)
  first, last = np.maximum(spans[..., 0], golds[..., 0]), np.minimum(spans[..., 1], golds[..., 1])
  shared = np.maximum(0, last - first + 1)
  sizes = [np.broadcast_to(one[..., 1] - one[..., 0] + 1, shared.shape) for one in (golds, spans)]
  return {
    "exact_match": float(np.mean(np.any(np.all(spans == golds, axis=-1), axis=1))),
    "f1": float(np.mean(np.max(f1_of(shared, *sizes), axis=1))),
  }


def tagging_scores(predictions: Predictions, labels: Sequence[str]) -> dict[str, float]:
  """`accuracy` over words, and for BIO tags `entity_f1`: entities with the right words and the right type.

  Args:
    predictions: tags, targets, counted, segment_ids, each (N, L); a word counts where `counted` is over 0.
    labels: the tags' names.
  """
  counted = predictions["counted"] > 0
  tags, targets = predictions["tags"][counted], predictions["targets"][counted]
  found = {"accuracy": float(np.mean(tags == targets))}
  if any(label.startswith("B-") for label in labels):
    rows = np.broadcast_to(np.arange(len(counted))[:, None], counted.shape)[counted]
    segments = predictions["segment_ids"][counted]
    begins = np.ones(len(tags), bool)
    begins[1:] = (np.diff(rows) != 0) | (np.diff(segments) != 0)
    given, wanted = (entities(ids, begins, labels) for ids in (tags, targets))
    found["entity_f1"] = float(f1_of(np.array(len(given & wanted)), np.array(len(wanted)), np.array(len(given))))
  return found


def entities(tags: np.ndarray, begins: np.ndarray, labels: Sequence[str]) -> set[tuple[int, int, str]]:
  """(first word, word after the last, type) of each entity, as conlleval reads BIO tags.

  An entity begins at B-type, and at I-type where none of that type is open.

  Args:
    tags: (n,) places in `labels`.
    begins: (n,) bool: first words of sentences.
    labels: the tags' names: "O", "B-type", "I-type".
  """
  names = [label.partition("-")[2] if label[:2] in ("B-", "I-") else "" for label in labels]
  known = sorted(set(names))  # "" comes first, so that 0 is "no entity".
  kind = np.array([known.index(name) if "" in known else known.index(name) + 1 for name in names])[tags]
  opens = np.array([label.startswith("B-") for label in labels])[tags]
  before = np.concatenate([[0], kind[:-1]]) if len(kind) else kind
  starts = (kind > 0) & (opens | begins | (before != kind))
  goes_on = (kind > 0) & ~starts
  stops = np.append(np.flatnonzero(~goes_on), len(tags))
  first = np.flatnonzero(starts)
  last = stops[np.searchsorted(stops, first, side="right")]
  types = kind[first] - (0 if "" in known else 1)
  return {(int(a), int(b), known[c]) for a, b, c in zip(first, last, types, strict=True)}
