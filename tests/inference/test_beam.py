# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Beam search against greedy decoding and against trying everything."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches
from specimens import BASE, ENCODER_DECODER, build, quick_jit

from lmx.errors import LmxError
from lmx.inference import beam as beam_module
from lmx.inference.beam import beam_search
from lmx.inference.generate import generate

TINY = {"vocab_size": 5, "vocab_multiple": 4, "layers": 1, "init_std": 0.4}
PROMPTS = [np.array([1, 4, 2]), np.array([3])]
EOS, NEW = 2, 4


@functools.cache
def model(kind: str):
  base = ENCODER_DECODER if kind == "both" else BASE
  return quick_jit(lambda: build(dataclasses.replace(base, **TINY), nnx.Rngs(1)))()


def begin(kind: str) -> dict:
  return {"start_ids": [1, 3]} if kind == "both" else {}


@functools.cache
def every_ending(kind: str, row: int) -> dict[tuple[int, ...], float]:
  """tokens -> log p of each continuation that ends at EOS or has NEW tokens; all of them are tried."""
  sequences = np.array(list(itertools.product(range(5), repeat=NEW)), np.int32)
  start = np.array(begin(kind).get("start_ids", PROMPTS[row]), np.int32)
  tokens = np.concatenate([np.tile(start, (len(sequences), 1)), sequences], axis=1)
  more = {"encoder_tokens": np.tile(PROMPTS[row], (len(sequences), 1)).astype(np.int32)} if kind == "both" else {}
  logits = quick_jit(lambda model: model(tokens, **more).logits())(model(kind))
  log_probs = np.asarray(jax.nn.log_softmax(logits))[:, len(start) - 1 : -1]
  picked = np.take_along_axis(log_probs, sequences[..., None], axis=-1)[..., 0]
  found = {}
  for sequence, values in zip(sequences.tolist(), picked, strict=True):
    length = sequence.index(EOS) + 1 if EOS in sequence else NEW
    found[tuple(sequence[:length])] = float(np.sum(values[:length]))
  return found


def check_exhaustive(search, kind: str, alpha: float) -> None:
  beams = 400  # There are 85 continuations that end at EOS and 256 that don't.
  options = {"max_new_tokens": NEW, "beams": beams, "num_results": beams, "length_penalty": alpha, "eos_id": EOS}
  for row, found in enumerate(search(model(kind), PROMPTS, **options, **begin(kind))):
    expected = every_ending(kind, row)
    assert len(found) == len(expected)
    for hypothesis in found:
      tokens = (*hypothesis.tokens.tolist(), *([EOS] if hypothesis.stop == "eos" else []))
      np.testing.assert_allclose(hypothesis.log_prob, expected[tokens], rtol=1e-4, atol=1e-5)
      np.testing.assert_allclose(
        hypothesis.score, expected[tokens] / ((5 + len(tokens)) / 6) ** alpha, rtol=1e-4, atol=1e-5
      )
    best = max(log_prob / ((5 + len(tokens)) / 6) ** alpha for tokens, log_prob in expected.items())
    np.testing.assert_allclose(found[0].score, best, rtol=1e-4, atol=1e-5)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


@pytest.mark.parametrize(("kind", "alpha"), [("decoder", 0.0), ("decoder", 2.0), ("both", 0.6)])
def test_with_beams_enough_the_best_of_all_continuations_are_found(kind, alpha):
  check_exhaustive(beam_search, kind, alpha)


def test_the_exhaustive_check_notices_beams_that_read_each_others_cache(monkeypatch):
  search = beam_module._search.__wrapped__
  monkeypatch.setattr(beam_module, "_reorder", lambda cache, rows: cache)
  static = ("beams", "ranking", "limits")
  unordered = jax.jit(lambda *given, **options: search(*given, **options), static_argnames=static)
  monkeypatch.setattr(beam_module, "_search", unordered)
  assert_law_catches(check_exhaustive, beam_search, "decoder", 0.0)


@pytest.mark.parametrize("kind", ["decoder", "both"])
def test_one_beam_is_greedy_decoding(kind):
  options = {"max_new_tokens": 9, "eos_id": EOS, **begin(kind)}
  greedy = generate(model(kind), PROMPTS, key=jax.random.key(0), temperature=0, **options)
  for (sample,), (hypothesis,) in zip(greedy, beam_search(model(kind), PROMPTS, beams=1, **options), strict=True):
    assert hypothesis.tokens.tolist() == sample.tokens.tolist()
    assert hypothesis.stop == sample.stop


def test_more_beams_find_nothing_less_likely_and_a_row_does_not_depend_on_its_neighbours():
  options = {"max_new_tokens": 6, "length_penalty": 0.0}
  search = functools.partial(beam_search, model("decoder"), **options)
  (single,) = search([PROMPTS[0]], beams=3, num_results=3)
  batched, _ = search(PROMPTS, beams=3, num_results=3)
  assert [h.tokens.tolist() for h in single] == [h.tokens.tolist() for h in batched]
  np.testing.assert_allclose([h.score for h in single], [h.score for h in batched], rtol=1e-5)
  assert [h.score for h in single] == sorted((h.score for h in single), reverse=True)
  (one,) = search([PROMPTS[0]], beams=1)
  assert single[0].log_prob >= one[0].log_prob - 1e-5
  assert len({tuple(h.tokens.tolist()) for h in single}) == 3


def test_rows_end_where_the_context_is_full_at_any_of_several_stop_ids():
  (full,), (short,) = beam_search(model("decoder"), [np.ones(14, np.int32), PROMPTS[1]], max_new_tokens=6, beams=2)
  assert (full.stop, len(full.tokens)) == ("context", 2)
  assert (short.stop, len(short.tokens)) == ("length", 6)
  results = beam_search(model("decoder"), PROMPTS, max_new_tokens=6, beams=3, eos_id=(0, 1, 2, 3, 4), num_results=3)
  assert all(h.stop == "eos" and len(h.tokens) == 0 for found in results for h in found)


@pytest.mark.parametrize(
  ("changes", "pattern"),
  [
    ({"beams": 0}, "beams"),
    ({"num_results": 5}, "num_results.*1 to beams = 4"),
    ({"length_penalty": -1.0}, "length_penalty"),
  ],
)
def test_what_cannot_be_searched_is_refused(changes, pattern):
  with pytest.raises(LmxError, match=pattern):
    beam_search(model("decoder"), PROMPTS, max_new_tokens=3, **changes)
