# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Laws 3, 4, 5 and 9 of the design, over every specimen: packing, caching, looping over layers, causality."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches
from specimens import SPECIMENS, model_of, quick_jit

import lmx.nn.attention
from lmx.models.transformer import Transformer
from lmx.nn.masks import Mask
from lmx.objectives import OBJECTIVES
from lmx.trees import named_leaves

LENGTH = 16
OBJECTIVE = OBJECTIVES["causal"]()
TOLERANCE = 2e-4  # Relative to the largest value; float32 sums in another order.


def assert_close(got, expected, what: str) -> None:
  got, expected = np.asarray(got), np.asarray(expected)
  largest = np.max(np.abs(expected))
  assert np.max(np.abs(got - expected)) <= TOLERANCE * max(largest, 1e-3), what


def random_tokens(spec, rows: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, spec.vocab_size, (rows, LENGTH + 1)).astype(np.int32)


# ------------------------------------------------------------------------------------------- 3, packed = unpacked


def packed_and_unpacked(spec) -> tuple[dict, dict]:
  """Two documents of 6 and 9 pairs in one row with one padding token, and each in a row of its own."""
  window = random_tokens(spec, 2)
  lengths, packed, apart = (6, 9), {}, {}
  for name in ("tokens", "targets", "loss_weights", "segment_ids", "positions"):
    dtype = np.float32 if name == "loss_weights" else np.int32
    packed[name], apart[name] = np.zeros((2, LENGTH), dtype), np.zeros((2, LENGTH), dtype)
  start = 0
  for row, length in enumerate(lengths):
    pieces = {
      "tokens": window[row, :length],
      "targets": window[row, 1 : length + 1],
      "loss_weights": np.ones(length),
      "positions": np.arange(length),
    }
    for name, piece in pieces.items():
      packed[name][0, start : start + length] = piece
      apart[name][row, :length] = piece
    packed["segment_ids"][0, start : start + length] = row + 1
    apart["segment_ids"][row, :length] = 1
    start += length
  return packed, apart


@quick_jit
def loss_and_gradient(model, batch, dropout_key=None):
  def loss(model):
    placed = {"segment_ids": batch["segment_ids"], "positions": batch["positions"]}
    outputs = model(batch["tokens"], **placed, dropout_key=dropout_key)
    return OBJECTIVE.loss(outputs, batch).sum

  return jax.value_and_grad(loss)(model)


def check_packing(change, name: str) -> None:
  packed, apart = packed_and_unpacked(SPECIMENS[name])
  value, gradient = loss_and_gradient(model_of(name), change(packed))
  expected_value, expected_gradient = loss_and_gradient(model_of(name), apart)
  assert_close(value, expected_value, "loss")
  for path, expected in named_leaves(expected_gradient).items():
    if not path.endswith("key.bias"):  # Its gradient is zero: the softmax doesn't see a constant.
      assert_close(named_leaves(gradient)[path], expected, path)


@pytest.mark.parametrize("name", SPECIMENS)
def test_packed_rows_give_the_same_loss_and_gradient_as_unpacked_documents(name):
  check_packing(lambda batch: batch, name)


def test_the_packing_law_notices_ignored_segments_and_ignored_positions():
  one_segment = lambda batch: batch | {"segment_ids": np.minimum(batch["segment_ids"], 1)}  # noqa: E731
  by_column = lambda batch: batch | {"positions": np.tile(np.arange(LENGTH, dtype=np.int32), (2, 1))}  # noqa: E731
  assert_law_catches(check_packing, one_segment, "llama")
  assert_law_catches(check_packing, by_column, "gpt2")


def test_positions_left_out_are_counted_within_segments():
  packed, _ = packed_and_unpacked(SPECIMENS["gpt2"])
  real = packed["segment_ids"] > 0
  hidden = quick_jit(lambda model, tokens, **placed: model(tokens, **placed).hidden)
  counted = hidden(model_of("gpt2"), packed["tokens"], segment_ids=packed["segment_ids"])
  given = hidden(model_of("gpt2"), packed["tokens"], segment_ids=packed["segment_ids"], positions=packed["positions"])
  np.testing.assert_array_equal(counted[real], given[real])


# -------------------------------------------------------------------------------------------------- 4, cached = full

PROMPT, LENGTHS = 8, (8, 5)


@quick_jit
def full_logits(model, tokens):
  return model(tokens).logits()


@functools.partial(quick_jit, static_argnames="mark_padding")
def cached_logits(model, tokens, lengths, mark_padding=True):
  """Ragged prompts at once, then one token at a time: the logits after each prompt token, and after each new one."""
  real = (jnp.arange(PROMPT)[None] < lengths[:, None]).astype(jnp.int32)
  prompt = model(tokens[:, :PROMPT], segment_ids=real if mark_padding else None, cache=model.init_cache(2, LENGTH))

  def step(cache, _):
    at = jnp.minimum(cache.length, LENGTH - 1)
    outputs = model(jnp.take_along_axis(tokens, at[:, None], axis=1), cache=cache)
    return outputs.cache, outputs.logits()[:, 0]

  _, later = jax.lax.scan(step, prompt.cache, length=LENGTH - min(LENGTHS))
  return prompt.logits(), later.swapaxes(0, 1)


def check_cache(decode, name: str) -> None:
  tokens, lengths = random_tokens(SPECIMENS[name], 2)[:, :LENGTH], np.array(LENGTHS)
  expected = full_logits(model_of(name), tokens)
  prompt, later = decode(model_of(name), tokens, lengths)
  for row, length in enumerate(LENGTHS):
    assert_close(prompt[row, :length], expected[row, :length], f"prompt of row {row}")
    assert_close(later[row, : LENGTH - length], expected[row, length:], f"new tokens of row {row}")


@pytest.mark.parametrize("name", SPECIMENS)
def test_cached_decoding_of_ragged_prompts_equals_the_full_forward_pass(name):
  check_cache(cached_logits, name)


def test_the_cache_law_notices_padding_taken_for_tokens():
  assert_law_catches(check_cache, functools.partial(cached_logits, mark_padding=False), "llama")


def test_unrolled_layers_share_the_cache_as_scanned_ones_do():
  model = model_of("llama")
  unrolled = with_loop(model, "unrolled", "none")
  tokens, lengths = random_tokens(model.spec, 2)[:, :LENGTH], np.array(LENGTHS)
  for got, expected in zip(
    cached_logits(unrolled, tokens, lengths), cached_logits(model, tokens, lengths), strict=True
  ):
    assert_close(got, expected, "logits")


# --------------------------------------------------------- 5, scanned = unrolled, rematerialised = not rematerialised


def with_loop(model: Transformer, loop: str, remat: str) -> Transformer:
  changed = nnx.clone(model)
  changed.spec = dataclasses.replace(model.spec, layer_loop=loop, remat=remat)
  return changed


def check_loops(change, name: str) -> None:
  model, batch = model_of(name), packed_and_unpacked(SPECIMENS[name])[0]
  key = jax.random.key(3) if SPECIMENS[name].dropout else None
  value, gradient = loss_and_gradient(change(model), batch, key)
  expected_value, expected = loss_and_gradient(model, batch, key)
  assert_close(value, expected_value, "loss")
  for path, leaf in named_leaves(gradient).items():
    if not path.endswith("key.bias"):
      assert_close(leaf, named_leaves(expected)[path], path)


# A loop doesn't look inside a block: these have what a loop carries (a norm of either place, keys, gated weights).
LOOP_CASES = [
  *((name, "unrolled", "none") for name in ("gpt2", "llama", "soft_capped", "post_norm", "dropping")),
  *((name, loop, "full") for name in ("llama", "dropping") for loop in ("scanned", "unrolled")),
]


@pytest.mark.parametrize(("name", "loop", "remat"), LOOP_CASES)
def test_unrolled_layers_equal_scanned_ones_and_rematerialised_equal_kept(name, loop, remat):
  check_loops(functools.partial(with_loop, loop=loop, remat=remat), name)


def test_the_loop_law_notices_layers_in_another_order():
  def reversed_layers(model):
    changed = with_loop(model, "unrolled", "none")
    changed.layers = jax.tree.map(lambda x: x[::-1], changed.layers)
    return changed

  assert_law_catches(check_loops, reversed_layers, "gpt2")


# -------------------------------------------------------------------------------- 9, causality and segment isolation

SEGMENTS = np.array([[1] * 6 + [2] * 8 + [0] * 2], np.int32)


def influence(name: str) -> np.ndarray:
  """(L, L): how strongly the output at each place depends on the input at each place, by gradient.

  Every place has an id of its own, so that a row of the embedding table is the input at one place.
  """
  model = model_of(name)
  tokens = jnp.arange(LENGTH, dtype=jnp.int32)[None]
  direction = jax.random.normal(jax.random.key(1), (1, 1, SPECIMENS[name].width))

  def outputs(table):
    changed = nnx.clone(model)
    changed.token_embedding.embedding = nnx.Param(table)
    return jnp.sum(changed(tokens, segment_ids=jnp.asarray(SEGMENTS)).hidden * direction, axis=-1)[0]

  jacobian = quick_jit(jax.jacrev(outputs))(model.token_embedding.embedding[...])
  return np.asarray(jnp.linalg.norm(jacobian, axis=-1))[:, :LENGTH]


def check_isolation(influence_of, name: str) -> None:
  strength, spec = influence_of(name), SPECIMENS[name]
  index, segments = np.arange(LENGTH), SEGMENTS[0]
  reach = LENGTH if spec.window is None else spec.layers * (spec.window - 1)
  before = index[:, None] - index[None]
  allowed = (segments[:, None] == segments[None]) & (before >= 0) & (before <= reach)
  assert np.all(strength[~allowed] == 0), "an output depends on an input it must not see"
  assert np.all(strength[allowed] > 0), "an output doesn't depend on an input it may see"


@pytest.mark.parametrize("name", SPECIMENS)
def test_outputs_have_zero_gradient_from_later_tokens_and_other_segments(name):
  check_isolation(influence, name)


@pytest.mark.parametrize("forgotten", [{"causal": False}, {"query_segments": None}, {"window": None}])
def test_the_isolation_law_notices_each_forgotten_part_of_the_mask(forgotten, monkeypatch):
  def broken(query_segments=None, key_segments=None, **rest):
    return Mask(**({"query_segments": query_segments, "key_segments": key_segments} | rest | forgotten))

  monkeypatch.setattr(lmx.nn.attention, "Mask", broken)
  assert_law_catches(check_isolation, influence, "windowed")
