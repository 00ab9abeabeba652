# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Scores of a whole split against values worked out by hand, and at the edges where they are not defined."""

import numpy as np
import pytest

from lmx.objectives import scores

# 10 rows, labels by what was predicted: rows of the table are labels.
TABLE = np.array([[3, 1, 0], [1, 2, 1], [0, 0, 2]])


def predictions_of(table: np.ndarray) -> dict[str, np.ndarray]:
  labels, given = (np.repeat(index.ravel(), table.ravel()) for index in np.indices(table.shape))
  return {"labels": labels.astype(np.int32), "scores": np.eye(len(table), dtype=np.float32)[given]}


def test_a_split_of_three_classes():
  found = scores.classification_scores(predictions_of(TABLE))
  f1 = (6 / 8, 4 / 7, 4 / 5)
  assert found == pytest.approx({"accuracy": 0.7, "macro_f1": sum(f1) / 3, "matthews": 36 / (66 * 64) ** 0.5})
  # covariance 7 * 10 - (4*4 + 4*3 + 2*3) = 36; spreads 100 - (16+9+9) = 66 and 100 - (16+16+4) = 64


def test_two_classes_also_have_the_f1_of_the_second():
  table = np.array([[50, 10], [5, 35]])  # 35 true and 10 false positives, 5 misses.
  found = scores.classification_scores(predictions_of(table))
  matthews = (35 * 50 - 10 * 5) / np.sqrt(45 * 40 * 60 * 55.0)
  assert found["f1"] == pytest.approx(70 / 85)
  assert found["macro_f1"] == pytest.approx((70 / 85 + 100 / 115) / 2)
  assert found["matthews"] == pytest.approx(matthews)
  assert found["accuracy"] == 0.85


def test_constant_predictions_and_a_single_class_have_no_correlation():
  constant = scores.classification_scores(predictions_of(np.array([[6, 0], [4, 0]])))
  assert constant == pytest.approx({"accuracy": 0.6, "macro_f1": 12 / 16 / 2, "matthews": 0.0, "f1": 0.0})
  one_class = scores.classification_scores(predictions_of(np.array([[6, 0], [0, 0]])))
  assert one_class == {"accuracy": 1.0, "macro_f1": 1.0, "matthews": 0.0, "f1": 0.0}


def test_a_perfect_and_a_wholly_wrong_split_are_the_ends_of_matthews_scale():
  assert scores.matthews(np.diag([4, 3, 2])) == pytest.approx(1.0)
  assert scores.matthews(np.array([[0, 5], [7, 0]])) == pytest.approx(-1.0)


def test_matthews_of_counts_past_32_bits_is_exact():
  assert scores.matthews(np.array([[3, 1], [1, 3]]) * 10**9) == pytest.approx(0.5)


def test_correlations_of_a_small_split():
  found = scores.regression_scores({"scores": np.array([1.0, 2, 3, 4]), "labels": np.array([1.0, 3, 2, 5])})
  assert found == pytest.approx({"pearson": 5.5 / np.sqrt(5 * 8.75), "spearman": 0.8, "mse": 0.75})


def test_equal_values_share_their_rank():
  assert scores.spearman(np.array([1, 2, 2, 3]), np.array([1, 2, 3, 4])) == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_correlations_are_exact_far_from_zero():
  values = np.array([1.0, 2, 3])
  assert scores.pearson(values + 1e8, values) == pytest.approx(1.0)


def test_constant_predictions_have_no_correlation():
  found = scores.regression_scores({"scores": np.zeros(3), "labels": np.array([1.0, 2, 3])})
  assert found == pytest.approx({"pearson": 0.0, "spearman": 0.0, "mse": 14 / 3})


def test_several_labels_a_row():
  labels = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], np.float32)
  given = np.array([[1, -1, -1], [-1, 1, 1], [-1, -1, -1]], np.float32)
  found = scores.multi_label_scores({"labels": labels, "scores": given})
  assert found == pytest.approx({"accuracy": 1 / 3, "micro_f1": 4 / 6, "macro_f1": 2 / 3})


def test_spans_are_compared_as_sets_of_tokens():
  spans = np.array([[2, 5], [0, 0], [3, 4], [0, 0]])
  labels = np.array([[4, 7], [0, 0], [8, 9], [5, 6]])
  found = scores.span_scores({"spans": spans, "golds": labels[:, None]})
  assert found == pytest.approx({"exact_match": 0.25, "f1": (0.5 + 1 + 0 + 0) / 4})
  golds = np.stack([labels, [[1, 5], [0, 0], [3, 4], [4, 6]]], axis=1)  # The best of several answers counts.
  found = scores.span_scores({"spans": spans, "golds": golds})
  assert found == pytest.approx({"exact_match": 0.5, "f1": (2 * 4 / 9 + 1 + 1 + 0) / 4})


LABELS = ("B-loc", "B-per", "I-loc", "I-per", "O")


def entities(text: str, labels=LABELS) -> set:
  sentences = [sentence.split() for sentence in text.split("|")]
  begins = np.concatenate([np.arange(len(one)) == 0 for one in sentences])
  return scores.entities(np.array([labels.index(tag) for one in sentences for tag in one]), begins, labels)


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("O B-per I-per O", {(1, 3, "per")}),
    ("B-per I-per", {(0, 2, "per")}),
    ("B-per B-per I-per", {(0, 1, "per"), (1, 3, "per")}),
    ("I-per I-per O", {(0, 2, "per")}),  # An entity may begin with I, as conlleval reads it,
    ("B-per I-loc", {(0, 1, "per"), (1, 2, "loc")}),  # also after one of another type,
    ("B-per | I-per O", {(0, 1, "per"), (1, 2, "per")}),  # but none continues in the next sentence.
    ("O O", set()),
  ],
)
def test_entities_are_read_as_conlleval_reads_them(text, expected):
  assert entities(text) == expected


def test_entities_without_any_outside_tag():
  assert entities("B-x I-x B-x", ("B-x", "I-x")) == {(0, 2, "x"), (2, 3, "x")}


def test_tagging_counts_words_and_whole_entities():
  targets = np.array([[1, 3, 4, 0], [1, 4, 4, 4]])
  tags = np.array([[1, 3, 4, 1], [1, 3, 4, 4]])
  counted = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], np.float32)
  segments = np.ones((2, 4), np.int32)
  found = scores.tagging_scores({"tags": tags, "targets": targets, "counted": counted, "segment_ids": segments}, LABELS)
  # 3 entities in the text, 3 given, 1 the same.
  assert found == pytest.approx({"accuracy": 5 / 7, "entity_f1": 2 / 6})
  plain = scores.tagging_scores(
    {"tags": tags, "targets": targets, "counted": counted, "segment_ids": segments}, ("a", "b", "c", "d", "e")
  )
  assert set(plain) == {"accuracy"}


def test_packed_sentences_do_not_share_entities():
  arrays = {"tags": np.array([[1, 3]]), "targets": np.array([[1, 1]]), "counted": np.ones((1, 2), np.float32)}
  apart = scores.tagging_scores({**arrays, "segment_ids": np.array([[1, 2]])}, LABELS)
  together = scores.tagging_scores({**arrays, "segment_ids": np.array([[1, 1]])}, LABELS)
  assert apart["entity_f1"] == 1.0
  assert together["entity_f1"] == 0.0


def test_retrieval_is_ranked_over_the_whole_split(monkeypatch):
  monkeypatch.setattr(scores, "_BLOCK", 2)
  first = np.eye(3, dtype=np.float32)
  second = np.array([[1, 0, 0], [0, 0.6, 0.8], [0, 0.8, 0.6]], np.float32)
  found = scores.retrieval_scores({"first": first, "second": second})
  assert found == pytest.approx({"retrieval_accuracy": 1 / 3, "mrr": (1 + 1 / 2 + 1 / 2) / 3})
