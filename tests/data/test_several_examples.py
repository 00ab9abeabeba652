# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Rows that become several examples, notes about rows, and columns that at least one row of a source must have."""

from typing import Any, ClassVar

import numpy as np
import pytest
from data.test_examples import BYTES, ROWS, Translate, spec_of

from lmx.data.cache.encoding import Encoded
from lmx.data.corpus import prepare_corpus
from lmx.errors import LmxError


class Twice(Translate):
  """Two examples of each row, and a note; rows without a label are doubted."""

  fingerprint: ClassVar[dict[str, Any]] = {"twice": True}

  def __call__(self, row) -> Encoded:
    one = super().__call__(row)
    doubts = () if "label" in row else ("a label",)
    return Encoded(one.fields, one.truncated, more=(one,), notes=("rows were doubled",), doubts=doubts)


def test_a_row_may_give_several_examples_whose_text_counts_once(tmp_path):
  once = prepare_corpus(spec_of(tmp_path, ROWS), BYTES, encoder=Translate())
  for _ in range(2):  # Made, then found in the cache.
    twice = prepare_corpus(spec_of(tmp_path, ROWS), BYTES, encoder=Twice())
    for part in ("train", "validation"):
      (one,), (other,) = getattr(once, part), getattr(twice, part)
      assert (other.documents, other.text_bytes) == (2 * one.documents, one.text_bytes)
      np.testing.assert_array_equal(other[0]["tokens"], one[0]["tokens"])
      np.testing.assert_array_equal(other[1]["tokens"], one[0]["tokens"])
    assert "; 120 rows were doubled" in twice.describe()


def test_what_no_row_has_is_refused_and_what_some_have_is_not(tmp_path):
  prepare_corpus(
    spec_of(tmp_path, [*ROWS[:5], {"source": "a", "target": "b"}], heldout_fraction=0.0), BYTES, encoder=Twice()
  )
  rows = [{key: row[key] for key in ("source", "target")} for row in ROWS]
  with pytest.raises(LmxError, match=r"config.data.sources: none of the 120 rows of '.*rows.jsonl' has a label"):
    prepare_corpus(spec_of(tmp_path, rows), BYTES, encoder=Twice())
