# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The official scores of question answering, against values worked out by hand."""

import pytest

from lmx.errors import LmxError
from lmx.evaluation.squad import exact_match, f1, normalized, squad_scores


def test_case_punctuation_articles_and_spaces_do_not_count():
  assert normalized(" The  quick, brown 'Fox'!  an A.") == "quick brown fox"
  assert exact_match("the Norman Conquest.", "Norman conquest") == 1
  assert exact_match("theme", "me") == 0


def test_f1_counts_each_word_as_often_as_it_is_there():
  assert f1("cat cat dog", "cat dog dog") == pytest.approx(2 / 3)
  assert f1("in the year 1066", "1066") == pytest.approx(0.5)
  assert f1("", "") == f1("the", "") == 1
  assert f1("something", "") == f1("", "something") == 0


def test_the_best_of_several_right_answers_counts():
  given = {"a": "Denver Broncos", "b": "Paris", "c": "", "d": "a city"}
  right = {"a": ["The Broncos", "Denver Broncos"], "b": ["London"], "c": [], "d": ["", ""]}
  assert squad_scores(given, right) == {"exact_match": 50.0, "f1": 50.0}
  assert squad_scores({"a": "big cat"}, {"a": ["cat", "dog"]}) == pytest.approx({"exact_match": 0, "f1": 200 / 3})


def test_a_question_without_an_answer_is_an_error():
  with pytest.raises(LmxError, match=r"1 of 2 questions were not answered.*'b'"):
    squad_scores({"a": "x"}, {"a": ["x"], "b": ["y"]})
  with pytest.raises(LmxError, match="0 of 0 questions"):
    squad_scores({}, {})
