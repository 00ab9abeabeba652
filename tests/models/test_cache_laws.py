# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 4 of the design: cached decoding equals the full forward pass, an encoder's memory included."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_law_catches
from specimens import DECODERS, ENCODER_DECODERS, SPECIMENS, model_of, quick_jit, with_spec
from tiny_rows import LENGTH, MEMORY, assert_close

PROMPT, LENGTHS, MEMORIES = 8, (8, 5), (12, 7)
CACHED = (*DECODERS, *ENCODER_DECODERS)


def tokens_of(spec, width: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, spec.vocab_size, (2, width)).astype(np.int32)


def encoder_of(name: str) -> dict[str, np.ndarray]:
  """Two rows for an encoder, the second with padding; none for a model without one."""
  if name not in ENCODER_DECODERS:
    return {}
  real = (np.arange(MEMORY)[None] < np.array(MEMORIES)[:, None]).astype(np.int32)
  return {"encoder_tokens": tokens_of(SPECIMENS[name], MEMORY, seed=1), "encoder_segment_ids": real}


@quick_jit
def full_logits(model, tokens, prefix, encoder):
  return model(tokens, **({} if prefix is None else {"prefix": prefix}), **encoder).logits()


@functools.partial(quick_jit, static_argnames="mark_padding")
def cached_logits(model, tokens, lengths, prefix, encoder, mark_padding=True):
  """Ragged prompts at once, then one token at a time: the logits after each prompt token, and after each new one."""
  real = (jnp.arange(PROMPT)[None] < lengths[:, None]).astype(jnp.int32)
  more = {} if prefix is None else {"prefix": prefix[:, :PROMPT]}
  cache = model.init_cache(2, LENGTH, **encoder)
  prompt = model(tokens[:, :PROMPT], segment_ids=real if mark_padding else None, cache=cache, **more)

  def step(cache, _):
    at = jnp.minimum(cache.length, LENGTH - 1)
    outputs = model(jnp.take_along_axis(tokens, at[:, None], axis=1), cache=cache)
    return outputs.cache, outputs.logits()[:, 0]

  _, later = jax.lax.scan(step, prompt.cache, length=LENGTH - min(LENGTHS))
  return prompt.logits(), later.swapaxes(0, 1)


def check_cache(decode, name: str, prefix=None, model=None) -> None:
  tokens, lengths, encoder = tokens_of(SPECIMENS[name], LENGTH), np.array(LENGTHS), encoder_of(name)
  expected = full_logits(model_of(name), tokens, prefix, encoder)
  prompt, later = decode(model or model_of(name), tokens, lengths, prefix, encoder)
  for row, length in enumerate(LENGTHS):
    assert_close(prompt[row, :length], expected[row, :length], f"prompt of row {row}")
    assert_close(later[row, : LENGTH - length], expected[row, length:], f"new tokens of row {row}")


@pytest.mark.parametrize("name", CACHED)
def test_cached_decoding_of_ragged_prompts_equals_the_full_forward_pass(name):
  check_cache(cached_logits, name)


def test_a_prompt_whose_tokens_all_see_each_other_is_cached_as_such():
  prefix = (np.arange(LENGTH)[None] < np.array([[4], [3]])).astype(np.int32)
  check_cache(cached_logits, "llama", prefix)
  forgotten = lambda model, tokens, lengths, prefix, encoder: cached_logits(model, tokens, lengths, None, encoder)  # noqa: E731
  assert_law_catches(check_cache, forgotten, "llama", prefix)


def test_the_cache_law_notices_padding_taken_for_tokens():
  assert_law_catches(check_cache, functools.partial(cached_logits, mark_padding=False), "llama")


def test_the_cache_law_notices_padding_of_the_encoder_that_is_looked_at():
  def all_real(model, tokens, lengths, prefix, encoder):
    return cached_logits(model, tokens, lengths, prefix, {"encoder_tokens": encoder["encoder_tokens"]})

  assert_law_catches(check_cache, all_real, "t5")


@pytest.mark.parametrize("name", ["gemma3", "t5"])
def test_unrolled_layers_share_the_cache_as_scanned_ones_do(name):
  check_cache(cached_logits, name, model=with_spec(model_of(name), layer_loop="unrolled"))


@quick_jit
def continued(model, tokens, encoder, copies, rows):
  """Logits after a prompt that is cached, from the cache as it is, repeated, and with rows selected."""
  cache = model(tokens[:, :PROMPT], cache=model.init_cache(2, LENGTH, **encoder)).cache
  later = tokens[:, PROMPT:]
  plain = model(later, cache=cache).logits()
  repeated = model(jnp.repeat(later, copies.size, axis=0), cache=cache.repeat(copies.size)).logits()
  return cache, plain, repeated, model(later[rows], cache=cache.select(rows)).logits()


def test_a_cache_can_be_repeated_and_its_rows_selected():
  model, rows = model_of("t5"), np.array([1, 0, 1])
  tokens = tokens_of(model.spec, LENGTH)
  cache, plain, repeated, selected = continued(model, tokens, encoder_of("t5"), np.zeros(2), rows)
  np.testing.assert_allclose(repeated, np.repeat(plain, 2, axis=0), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(selected, plain[rows], rtol=1e-5, atol=1e-5)
  assert all(leaf.shape[1] == 2 for leaf in jax.tree.leaves(cache.layers))
