# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Generation and scoring against the plain forward pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches
from specimens import SPECIMENS, model_of, quick_jit

from lmx.errors import LmxError
from lmx.inference import generate as generate_module
from lmx.inference.generate import generate
from lmx.inference.sampling import Sampling, filtered_logits, sample
from lmx.inference.score import score
from lmx.models.lstm import LSTM, LSTMSpec

KEY = jax.random.key(0)
PROMPTS = [np.array([3, 1, 4, 1, 5]), np.array([9]), np.array([2, 6, 5])]


@quick_jit
def forward_logits(model, tokens):
  return model(tokens).logits()


def greedy_by_hand(name: str, prompt: np.ndarray, count: int) -> list[int]:
  row = np.zeros((1, SPECIMENS[name].context), np.int32)
  row[0, : len(prompt)] = prompt
  for end in range(len(prompt), len(prompt) + count):
    row[0, end] = np.argmax(forward_logits(model_of(name), row)[0, end - 1])
  return row[0, len(prompt) : len(prompt) + count].tolist()


def check_greedy(continue_with, name: str) -> None:
  for prompt, (continuation,) in zip(PROMPTS, continue_with(model_of(name)), strict=True):
    assert continuation.tokens.tolist() == greedy_by_hand(name, prompt, 8)


def greedy(model, **changes):
  return generate(model, PROMPTS, key=KEY, max_new_tokens=8, temperature=0, **changes)


@pytest.mark.parametrize("name", ["gpt2", "windowed"])
def test_greedy_generation_of_ragged_prompts_is_the_argmax_of_the_forward_pass(name):
  check_greedy(greedy, name)


def test_the_generation_check_notices_another_temperature():
  assert_law_catches(
    check_greedy, lambda model: generate(model, PROMPTS, key=KEY, max_new_tokens=8, temperature=9.0), "gpt2"
  )


def test_a_row_ends_at_eos_at_the_length_or_where_the_context_is_full():
  model = model_of("gpt2")
  free = greedy(model)[0][0]
  eos = int(free.tokens[3])
  ended = greedy(model, eos_id=eos)[0][0]
  assert ended.stop == "eos"
  assert ended.tokens.tolist() == free.tokens[: free.tokens.tolist().index(eos)].tolist()
  assert free.stop == "length"
  assert len(free.tokens) == 8
  (full,), (short,), _ = generate(model, PROMPTS, key=KEY, max_new_tokens=15, temperature=0)
  assert (full.stop, len(full.tokens)) == ("context", 11)
  assert (short.stop, len(short.tokens)) == ("length", 15)


def test_samples_differ_repeat_with_their_key_and_never_hold_a_padding_id():
  model = model_of("gpt2")
  draw = lambda key: generate(model, PROMPTS, key=key, max_new_tokens=8, temperature=50.0, num_samples=3)  # noqa: E731
  one, again, other = draw(KEY), draw(KEY), draw(jax.random.key(1))
  flat = lambda result: [s.tokens.tolist() for samples in result for s in samples]  # noqa: E731
  assert [len(samples) for samples in one] == [3, 3, 3]
  assert flat(one) == flat(again)
  assert flat(one) != flat(other)
  assert one[0][0].tokens.tolist() != one[0][1].tokens.tolist()
  assert max(map(max, flat(one))) < SPECIMENS["gpt2"].vocab_size


def test_one_program_serves_a_bucket_of_lengths_and_every_temperature():
  model = model_of("gpt2")
  compiled = lambda: generate_module._generate._cache_size()  # noqa: E731
  greedy(model)
  before = compiled()
  generate(model, [np.arange(n) for n in (1, 7, 2)], key=KEY, max_new_tokens=5, temperature=0.7)
  assert compiled() == before


def test_top_k_and_top_p_leave_out_the_unlikely():
  logits = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05]]))
  kept = lambda **options: (filtered_logits(logits, Sampling.checked(**options)) > -1e29)[0].tolist()  # noqa: E731
  assert kept(temperature=1.0, top_k=2, top_p=None) == [True, True, False, False]
  assert kept(temperature=1.0, top_k=None, top_p=0.79) == [True, True, False, False]
  assert kept(temperature=1.0, top_k=None, top_p=0.81) == [True, True, True, False]
  assert kept(temperature=1.0, top_k=None, top_p=1e-6) == [True, False, False, False]
  assert kept(temperature=1.0, top_k=99, top_p=1.0) == [True] * 4
  keys = jax.random.split(KEY, 2000)
  drawn = sample(jnp.repeat(logits, 2000, axis=0), Sampling.checked(1.0, 3, None), keys)
  np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 2000, np.array([0.5, 0.3, 0.15, 0]) / 0.95, atol=0.05)


# ----------------------------------------------------------------------------------- other families, slides, stop ids

WITH_START = {"start_ids": [0, 3]}


@quick_jit
def likeliest(model, tokens, encoder):
  return jnp.argmax(model(tokens, **encoder).logits(), axis=-1)


def by_hand(model, prompt, count: int, window: int | None = None, start_ids=None) -> list[int]:
  """Greedy decoding without a cache; past `window` tokens the oldest half is forgotten."""
  encoder = {} if start_ids is None else {"encoder_tokens": np.array([prompt], np.int32)}
  seen, new = list(prompt if start_ids is None else start_ids), []
  for _ in range(count):
    row = np.zeros((1, 16 if len(seen) <= 16 else 32), np.int32)
    row[0, : len(seen)] = seen
    new.append(int(likeliest(model, row, encoder)[0, len(seen) - 1]))
    seen = (seen[window // 2 :] if window and len(seen) == window else seen) + new[-1:]
  return new


@pytest.mark.parametrize("name", ["t5", "original"])
def test_an_encoder_decoder_answers_ragged_prompts_as_without_a_cache(name):
  model = model_of(name)
  answers = generate(model, PROMPTS, key=KEY, max_new_tokens=4, temperature=0, **WITH_START)
  for prompt, (answer,) in zip(PROMPTS, answers, strict=True):
    assert answer.tokens.tolist() == by_hand(model, prompt, 4, start_ids=[0, 3])
    assert answer.stop == "length"


@functools.cache
def lstm() -> LSTM:
  spec = LSTMSpec(vocab_size=35, layers=2, width=16, context=4, init="xavier", init_std=0.5, dtype="float32")
  return quick_jit(lambda: LSTM(spec, rngs=nnx.Rngs(0)))()


@pytest.mark.parametrize("name", ["lstm", "mamba2"])
def test_models_with_a_state_continue_past_the_context(name):
  model, count = (lstm(), 6) if name == "lstm" else (model_of(name), 14)
  (first,), *_ = generate(model, PROMPTS, key=KEY, max_new_tokens=count, temperature=0)
  assert first.tokens.tolist() == by_hand(model, PROMPTS[0], count)
  assert first.stop == "length"


def check_slide(count: int, **changes) -> None:
  model = model_of("llama")
  samples = generate(model, PROMPTS, key=KEY, max_new_tokens=count, temperature=0, **changes)
  for prompt, (continuation,) in zip(PROMPTS[:2], samples[:2], strict=True):
    assert continuation.tokens.tolist() == by_hand(model, prompt, count, window=16)
    assert continuation.stop == "length"


def test_a_row_that_slides_drops_the_oldest_half_and_continues():
  check_slide(24, slide=True)
  assert_law_catches(check_slide, 24, slide=False)


def test_any_of_several_stop_ids_ends_a_row():
  free = greedy(model_of("gpt2"))[0][0].tokens.tolist()
  unused = next(i for i in range(35) if i not in free)
  ended = greedy(model_of("gpt2"), eos_id=(unused, free[2]))[0][0]
  assert ended.stop == "eos"
  assert ended.tokens.tolist() == free[: free.index(free[2])]


BAD = {
  "no token": ({"prompts": [np.array([], np.int32)]}, "at least one token"),
  "prompt too long": ({"prompts": [np.zeros(16, np.int32)]}, "at most 15 tokens"),
  "padding id": ({"prompts": [np.array([36])]}, "ids from 0 to 34"),
  "temperature": ({"temperature": -1.0}, "temperature: got -1.0"),
  "top_k": ({"top_k": 0}, "top_k: got 0"),
  "top_p": ({"top_p": 1.5}, "top_p: got 1.5"),
  "nothing to add": ({"max_new_tokens": 0}, "max_new_tokens: got 0"),
  "start without an encoder": ({"start_ids": [0]}, "start_ids.*without an encoder"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_generated_is_refused(case):
  changes, pattern = BAD[case]
  arguments = {"prompts": PROMPTS, "max_new_tokens": 4, "key": KEY} | changes
  with pytest.raises(LmxError, match=pattern):
    generate(model_of("gpt2"), **arguments)


@pytest.mark.parametrize(
  ("name", "changes", "pattern"),
  [
    ("t5", {}, "start_ids: got None"),
    ("t5", {**WITH_START, "prefix": True}, "prefix"),
    ("bert", {}, "head: got 'masked'"),
  ],
)
def test_what_a_family_cannot_do_is_refused(name, changes, pattern):
  with pytest.raises(LmxError, match=pattern):
    generate(model_of(name), PROMPTS, key=KEY, max_new_tokens=4, **changes)


def test_no_prompts_give_no_samples():
  assert generate(model_of("gpt2"), [], key=KEY, max_new_tokens=4) == []


def test_scores_are_the_log_probabilities_of_the_forward_pass_whatever_the_batch():
  rows = [np.arange(17) % 19, np.array([7]), np.array([3, 1, 4, 1, 5])]
  scores = score(model_of("gpt2"), rows, batch_size=2)
  for row, got in zip(rows, scores, strict=True):
    padded = np.zeros((1, 16), np.int32)
    padded[0, : len(row) - 1] = row[:-1]
    log_probs = jax.nn.log_softmax(forward_logits(model_of("gpt2"), padded))[0]
    expected = [log_probs[i, target] for i, target in enumerate(row[1:])]
    assert got.shape == (len(row) - 1,)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
