# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Prefix language models and filling in the middle: causal models that see, or are given, more than the past."""

import numpy as np
import pytest
from laws import assert_law_catches
from objectives.making import make_objective

from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.errors import LmxError
from lmx.objectives.base import ObjectiveContext

TOKENIZER = ByteTokenizer().extended(3)
BOS, EOS = TOKENIZER.bos_id, TOKENIZER.eos_id
PRE, SUF, MID = (TOKENIZER.sentinel(index) for index in range(3))
LENGTH = 256
RNG = np.random.default_rng


def fim(rate=1.0, spm=0.5, length=LENGTH):
  setting = ObjectiveContext(TOKENIZER, length, length, "transformer")
  return make_objective("fill_in_middle", setting, z_loss=0.0, fim_rate=rate, fim_spm=spm)


def window(tokens: int) -> np.ndarray:
  return np.concatenate([[BOS], np.arange(tokens) % 256, [EOS]]).astype(np.int32)


def put_back(ids: np.ndarray) -> tuple[str, np.ndarray]:
  """(form, text) of a rearranged document without its start and end."""
  pre, suf, mid = (int(np.flatnonzero(ids == mark)[0]) for mark in (PRE, SUF, MID))
  if suf == pre + 1:
    # <pre> <suf> suffix <mid> prefix middle: where the middle begins is not marked.
    return "spm", np.concatenate([ids[mid + 1 :], ids[suf + 1 : mid]])
  return "psm", np.concatenate([ids[pre + 1 : suf], ids[mid + 1 :], ids[suf + 1 : mid]])


def check_nothing_is_lost(prepare) -> None:
  rng = RNG(0)
  for tokens in (150, 200, 246):
    for _ in range(20):
      row = prepare(window(tokens), rng)
      ids = np.append(row["tokens"], row["targets"][-1:])
      np.testing.assert_array_equal(row["tokens"][1:], row["targets"][:-1])
      assert len(row["tokens"]) == tokens + 1 + 3
      assert ids[0] == BOS
      assert ids[-1] == EOS
      assert row["loss_weights"].all()
      np.testing.assert_array_equal(put_back(ids[1:-1])[1], window(tokens)[1:-1])


@pytest.mark.parametrize("spm", [0.0, 0.5, 1.0])
def test_a_rearranged_document_has_all_of_its_tokens(spm):
  check_nothing_is_lost(fim(spm=spm).prepare)


def test_a_lost_token_is_noticed():
  def mutant(window, rng):
    return fim().prepare(np.delete(window, 9), rng)

  assert_law_catches(check_nothing_is_lost, mutant)


def test_the_shares_of_documents_and_orders_are_kept():
  rng = RNG(0)
  rows = [fim(0.6, 0.25).prepare(window(200), rng)["tokens"] for _ in range(2000)]
  changed = [row for row in rows if (row == MID).any()]
  assert len(changed) / len(rows) == pytest.approx(0.6, abs=0.04)
  forms = [put_back(row[1:])[0] for row in changed]
  assert forms.count("spm") / len(forms) == pytest.approx(0.25, abs=0.04)


def test_a_window_that_ends_before_its_document_does_keeps_its_form():
  row = fim(spm=0.0).prepare(window(200)[:150], RNG(0))
  ids = np.append(row["tokens"], row["targets"][-1])
  np.testing.assert_array_equal(put_back(ids[1:])[1], window(200)[1:150])


def test_no_packing_of_documents_overfills_a_row():
  objective, rng = fim(), RNG(0)
  assert objective.window_length == 248
  for largest in (10, 50, 150, 248):
    places = rng.integers(2, largest + 1, 248)
    places = places[np.cumsum(places) <= 248]
    rows = [objective.prepare(window(int(p) - 1), rng) for p in places]
    assert sum(len(row["tokens"]) for row in rows) <= LENGTH
  assert len(objective.prepare(window(30), rng)["tokens"]) == 31  # Too short for its part of the places.


def test_filling_in_needs_three_sentinels():
  setting = ObjectiveContext(ByteTokenizer(), 64, 64, "transformer")
  with pytest.raises(LmxError, match=r"config.tokenizer.extra_ids: got 0.*at least 3"):
    make_objective("fill_in_middle", setting, z_loss=0.0, fim_rate=0.5, fim_spm=0.5)


def check_no_scored_token_was_seen(prepare) -> None:
  """A pair is scored only where its target is after the prefix, and all of those are."""
  rng = RNG(0)
  sizes = set()
  for _ in range(300):
    row = prepare(np.arange(9), rng)
    size = int(row["prefix"].sum())
    np.testing.assert_array_equal(row["prefix"], np.arange(8) < size)
    np.testing.assert_array_equal(row["targets"][row["loss_weights"] > 0], np.arange(size, 9))
    sizes.add(size)
  assert sizes == set(range(1, 9))


def test_a_prefix_is_never_scored_and_what_follows_always_is():
  make = make_objective("prefix", ObjectiveContext(TOKENIZER, 16, 16, "transformer"), z_loss=0.0)
  check_no_scored_token_was_seen(make.prepare)

  def mutant(window, rng):
    row = make.prepare(window, rng)
    return {**row, "loss_weights": np.ones(8, np.float32)}

  assert_law_catches(check_no_scored_token_was_seen, mutant)
