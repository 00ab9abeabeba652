# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Span corruption and mixtures of denoisers: invertible, of T5's sizes, and never longer than their rows."""

import numpy as np
import pytest
from laws import assert_law_catches
from objectives.making import make_objective

from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.errors import LmxError
from lmx.objectives.base import ObjectiveContext
from lmx.objectives.denoising import Denoiser, random_lengths

TOKENIZER = ByteTokenizer().extended(150)
BOS, EOS, PAD = TOKENIZER.bos_id, TOKENIZER.eos_id, TOKENIZER.pad_id
UL2 = ((2.0, 0.15, 3.0), (2.0, 0.15, 8.0), (2.0, 0.5, 3.0), (2.0, 0.5, 8.0), (1.0, 0.25, 0.0))


def spans(length=114, encoder_length=512, corrupted=0.15, span_length=3.0, tokenizer=TOKENIZER):
  setting = ObjectiveContext(tokenizer, length, encoder_length, "encoder_decoder")
  return make_objective("span_corruption", setting, z_loss=0.0, corrupted=corrupted, span_length=span_length)


def mixture(length=400, encoder_length=512, denoisers=UL2):
  setting = ObjectiveContext(TOKENIZER, length, encoder_length, "encoder_decoder")
  return make_objective("denoising", setting, z_loss=0.0, denoisers=denoisers)


def window(tokens: int, seed: int = 0) -> np.ndarray:
  return np.concatenate([[BOS], np.random.default_rng(seed).integers(0, 256, tokens), [EOS]]).astype(np.int32)


def put_back(row) -> np.ndarray:
  """The text, rebuilt from the encoder's inputs and the decoder's targets."""
  inputs, targets = row["encoder_tokens"][:-1], row["targets"][:-1]
  sentinels = {TOKENIZER.sentinel(index) for index in range(TOKENIZER.sentinels)}
  if not sentinels & set(targets.tolist()):
    return np.concatenate([inputs, targets])
  taken: dict[int, list[int]] = {}
  for token in targets.tolist():
    if token in sentinels:
      taken[token], last = [], token
    else:
      taken[last].append(token)
  text = []
  for token in inputs.tolist():
    text.extend(taken.pop(token) if token in sentinels else [token])
  assert not taken
  return np.array(text)


def check_nothing_is_lost(prepare) -> None:
  rng = np.random.default_rng(0)
  for tokens in [*range(40, 120), 300, 510]:
    row = prepare(window(tokens, tokens), rng)
    kept = put_back(row)
    assert len(kept) >= tokens - 2
    np.testing.assert_array_equal(kept, window(tokens, tokens)[1 : 1 + len(kept)])
    assert row["encoder_tokens"][-1] == row["targets"][-1] == EOS
    np.testing.assert_array_equal(row["tokens"], [PAD, *row["targets"][:-1]])
    assert row["loss_weights"].all()
  full = np.random.default_rng(1).integers(0, 256, spans().window_length)
  np.testing.assert_array_equal(put_back(prepare(full, rng)), full)


@pytest.mark.parametrize("objective", [spans(), mixture()], ids=["span_corruption", "denoising"])
def test_the_text_can_be_put_together_again(objective):
  check_nothing_is_lost(objective.prepare)


def test_a_lost_token_is_noticed():
  def mutant(window, rng):
    row = dict(spans().prepare(window, rng))
    row["encoder_tokens"] = np.delete(row["encoder_tokens"], 3)
    return row

  assert_law_catches(check_nothing_is_lost, mutant)


def test_a_full_window_has_the_sizes_of_t5():
  objective = spans()
  assert objective.window_length == 568  # T5 reads 568 tokens for rows of 512 and 114.
  row = objective.prepare(np.random.default_rng(0).integers(0, 256, 568), np.random.default_rng(0))
  assert len(row["encoder_tokens"]) == 512
  assert len(row["targets"]) == 114
  taken = row["targets"][:-1]
  assert (taken < 256).sum() == 85  # 15 % of 568,
  assert (taken >= 256).sum() == 28  # in spans of 3 on average.
  assert taken[0] == TOKENIZER.sentinel(0)
  assert row["encoder_tokens"][0] < 256  # A text begins with what stays.


def check_rows_have_room(objective, length: int, encoder_length: int) -> None:
  """Windows that fill `window_length` places together fit into both rows, however spans are drawn."""
  rng = np.random.default_rng(0)
  whole = objective.window_length
  for tokens in (whole, whole - 1, whole - 2):
    full = objective.prepare(window(tokens)[1 : whole + 1], rng)
    assert len(full["encoder_tokens"]) <= encoder_length
    assert len(full["tokens"]) <= length
  for largest in (3, 5, 12, 40, 120, whole):
    for _ in range(6):
      places = rng.integers(min(3, largest), largest + 1, whole)
      places = places[np.cumsum(places) <= whole]
      rows = [objective.prepare(window(int(p) - int(rng.integers(1, 3)))[-int(p) :], rng) for p in places]
      assert sum(len(row["encoder_tokens"]) for row in rows) <= encoder_length
      assert sum(len(row["tokens"]) for row in rows) <= length


def test_no_packing_of_windows_overfills_a_row():
  check_rows_have_room(spans(), 114, 512)
  check_rows_have_room(spans(40, 64), 40, 64)
  check_rows_have_room(mixture(), 400, 512)


def test_windows_that_overfill_a_row_are_noticed():
  assert_law_catches(check_rows_have_room, spans(), 113, 512)


def test_a_window_too_short_for_a_span_is_left_out():
  row = spans().prepare(window(5), np.random.default_rng(0))
  assert {name: values.shape for name, values in row.items()} == dict.fromkeys(row, (0,))
  assert len(spans(64, 64).prepare(window(5), np.random.default_rng(0))["tokens"])


def test_the_end_of_a_text_is_taken_out_without_sentinels():
  row = mixture(denoisers=((1.0, 0.25, 0.0),)).prepare(window(100), np.random.default_rng(0))
  np.testing.assert_array_equal(row["encoder_tokens"][:-1], window(100)[1:76])
  np.testing.assert_array_equal(row["targets"][:-1], window(100)[76:101])


def test_denoisers_are_drawn_by_their_weights():
  prepare = mixture(denoisers=((3.0, 0.15, 3.0), (1.0, 0.25, 0.0))).prepare
  rng = np.random.default_rng(0)
  ends = [not (prepare(window(200), rng)["targets"] > EOS).any() for _ in range(2000)]
  assert np.mean(ends) == pytest.approx(0.25, abs=0.03)


def test_every_way_to_cut_is_equally_likely():
  rng = np.random.default_rng(0)
  found = [tuple(random_lengths(5, 3, rng)) for _ in range(3000)]
  assert all(sum(cut) == 5 and min(cut) >= 1 for cut in found)
  counts = [found.count(cut) for cut in sorted(set(found))]
  assert len(counts) == 6  # 4 places for 2 cuts.
  assert min(counts) > 420


def test_noise_and_spans_stay_within_the_text():
  for share, span in ((0.15, 3.0), (0.9, 1.0), (0.99, 64.0), (0.01, 0.0)):
    tokens = np.arange(2, 200)
    noise = Denoiser(share, span).noise(tokens)
    spans_ = Denoiser(share, span).spans(tokens, noise)
    assert ((noise >= 1) & (noise < tokens) & (spans_ <= noise) & (spans_ <= tokens - noise)).all()


def test_a_decoder_row_that_is_too_short_names_the_key_and_the_number():
  with pytest.raises(LmxError, match=r"config.data.length: got 100.*Fix: --config.data.length=114"):
    spans(length=100)


def test_too_few_sentinels_are_refused_with_the_fix():
  with pytest.raises(LmxError, match=r"at least 28: .*Fix: --config.tokenizer.extra_ids=100"):
    spans(tokenizer=ByteTokenizer().extended(3))


@pytest.mark.parametrize("denoisers", [(), ((0.0, 0.1, 3.0),), ((1.0, 1.0, 3.0),), ((1.0, 0.1, 0.5),)])
def test_a_denoiser_that_cannot_be_is_refused(denoisers):
  with pytest.raises(LmxError, match=r"config.objective.denoisers: got"):
    mixture(denoisers=denoisers)
