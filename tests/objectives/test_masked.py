# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Masked language modelling: which tokens are hidden, how, and that scoring only those is exact."""

import dataclasses

import jax
import numpy as np
import pytest
from laws import assert_law_catches
from objectives.making import make_objective
from objectives.tiny_models import table_model

from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.errors import LmxError
from lmx.objectives import masked
from lmx.objectives.base import ObjectiveContext
from lmx.objectives.parts import special_ids, token_loss

TOKENIZER = ByteTokenizer().extended(4)
LENGTH = 512


def make(**options):
  given = {"z_loss": 0.0, "mask_rate": 0.15, "whole_words": False, **options}
  return make_objective("masked", ObjectiveContext(TOKENIZER, LENGTH, LENGTH, "encoder"), **given)


def window(tokens: int, seed: int = 0) -> np.ndarray:
  text = np.random.default_rng(seed).integers(97, 123, tokens)
  text[::5] = ord(" ")
  return np.concatenate([[TOKENIZER.bos_id], text, [TOKENIZER.eos_id]]).astype(np.int32)


def check_shares(prepare, rate: float) -> None:
  """Exactly the rate is predicted, of which 80 % are masked, 10 % replaced and 10 % kept; special tokens never."""
  rng = np.random.default_rng(0)
  rows = [prepare(window(400), rng) for _ in range(300)]
  assert {int(row["loss_weights"].sum()) for row in rows} == {round(rate * 400)}
  tokens, targets, weights = (np.stack([row[name] for row in rows]) for name in ("tokens", "targets", "loss_weights"))
  chosen = weights > 0
  assert not chosen[:, [0, -1]].any()
  np.testing.assert_array_equal(targets, np.stack([window(400)] * 300))
  np.testing.assert_array_equal(tokens[~chosen], targets[~chosen])
  np.testing.assert_allclose(chosen[:, 1:-1].mean(axis=0), rate, atol=0.14)  # Everywhere alike.
  hidden, kept = (tokens == TOKENIZER.mask_id)[chosen], (tokens == targets)[chosen]
  assert hidden.mean() == pytest.approx(0.8, abs=0.01)
  assert kept.mean() == pytest.approx(0.1, abs=0.01)
  replaced = tokens[chosen][~hidden & ~kept]
  assert not np.isin(replaced, special_ids(TOKENIZER)).any()
  assert len(np.unique(replaced)) > 200  # Of 256 bytes.


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_the_share_of_tokens_is_exact_and_split_80_10_10(rate):
  check_shares(make(mask_rate=rate).prepare, rate)


def test_masking_all_that_is_chosen_is_noticed(monkeypatch):
  monkeypatch.setattr(masked, "HIDDEN", 1.0)
  assert_law_catches(check_shares, make().prepare, 0.15)


def check_words_are_whole(prepare) -> None:
  rng = np.random.default_rng(0)
  for _ in range(20):
    row = prepare(window(400), rng)
    chosen = row["loss_weights"][1:-1].reshape(-1, 5)  # Words are a space and four letters.
    assert 55 <= chosen.sum() <= 60
    assert set(chosen.sum(axis=1)) <= {0, 5}


def test_whole_words_are_chosen_together():
  check_words_are_whole(make(whole_words=True).prepare)
  assert_law_catches(check_words_are_whole, make(whole_words=False).prepare)


def test_a_word_longer_than_the_share_is_passed_over():
  text = np.concatenate([np.full(30, ord("a")), TOKENIZER.encode(" bc de")])
  row = make(whole_words=True).prepare(text.astype(np.int32), np.random.default_rng(0))
  assert row["loss_weights"].sum() == 3
  assert not row["loss_weights"][:30].any()


def check_rows_have_room(most: int, rate: float) -> None:
  """No packing of windows into a row has more predictions than are scored."""
  rng = np.random.default_rng(0)
  for size in [*range(1, 40), LENGTH]:
    fitting = [size] * (LENGTH // size)
    assert sum(masked.predictions_of(max(0, places - (places < LENGTH)), rate) for places in fitting) <= most
  for _ in range(50):
    places = rng.integers(1, 60, 1000)
    places = places[np.cumsum(places) <= LENGTH]
    assert sum(masked.predictions_of(places - 1, rate)) <= most


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.3, 0.5, 0.9])
def test_no_row_has_more_predictions_than_are_scored(rate):
  most = masked.most_predictions(LENGTH, rate)
  check_rows_have_room(most, rate)
  assert most <= max(1.4 * rate, 0.1) * LENGTH


def test_room_for_one_full_window_only_is_noticed():
  assert_law_catches(check_rows_have_room, int(masked.predictions_of(LENGTH, 0.15)), 0.15)


def test_scoring_only_the_chosen_positions_equals_scoring_all():
  objective = make()
  rng = np.random.default_rng(0)
  rows = [objective.prepare(window(LENGTH - 2, seed), rng) for seed in range(3)]
  batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
  batch["loss_weights"] *= np.array([[1.0], [0.5], [0.0]], np.float32)
  batch["segment_ids"] = np.ones((3, LENGTH), np.int32)
  model = table_model("masked", TOKENIZER.vocab_size)

  def gradient(loss):
    return jax.jit(jax.value_and_grad(lambda model: loss(model, batch, None, None).sum))(model)

  (few, few_gradient), (all_, all_gradient) = gradient(objective.loss), gradient(token_loss(z_loss=0.0))
  np.testing.assert_allclose(few, all_, rtol=1e-5)
  for name, value in few_gradient.params.items():
    np.testing.assert_allclose(value, all_gradient.params[name], rtol=1e-4, atol=1e-5)


def test_the_positions_scored_are_those_with_weight():
  weights = np.array([[0, 1, 0, 0, 0.5], [0, 0, 0, 0, 0]], np.float32)
  hidden = np.arange(10, dtype=np.float32).reshape(2, 5, 1)
  values, targets, kept = masked.only_predicted(hidden, np.arange(10).reshape(2, 5), weights, 3)
  np.testing.assert_array_equal(kept, [[1, 0.5, 0], [0, 0, 0]])
  np.testing.assert_array_equal(targets[0, :2], [1, 4])
  np.testing.assert_array_equal(values[0, :2, 0], [1, 4])


def test_a_window_without_enough_text_has_nothing_to_predict():
  for tokens in (0, 1, 3):
    assert not make().prepare(window(tokens), np.random.default_rng(0))["loss_weights"].any()


def test_a_tokenizer_without_a_mask_is_refused_with_the_fix():
  setting = dataclasses.replace(ObjectiveContext(TOKENIZER, 8, 8, "encoder"), tokenizer=ByteTokenizer())
  with pytest.raises(LmxError, match=r"Fix: --config.tokenizer.extra_ids=1"):
    make_objective("masked", setting, z_loss=0.0, mask_rate=0.15, whole_words=False)


@pytest.mark.parametrize("rate", [0.0, 1.5, -1.0])
def test_a_share_out_of_range_is_refused(rate):
  with pytest.raises(LmxError, match=r"config.objective.mask_rate: got"):
    make(mask_rate=rate)
