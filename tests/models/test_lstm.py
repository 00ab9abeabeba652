# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The LSTM language model: packing, caching, the carried state, dropout, and the checks and counts of its spec."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches
from specimens import quick_jit
from tiny_rows import LENGTH, assert_close, loss_of, packed_and_apart

from lmx.errors import LmxError
from lmx.models import MODELS
from lmx.models.lstm import LSTM, LSTMSpec
from lmx.trees import count, map_variables, named_leaves

SPEC = LSTMSpec(
  vocab_size=35, vocab_multiple=8, layers=2, width=16, context=16, init="uniform", init_std=0.5, dtype="float32"
)
TOKENS = np.random.default_rng(0).integers(0, 35, (2, LENGTH)).astype(np.int32)


@functools.cache
def model(**changes) -> LSTM:
  return quick_jit(lambda: LSTM(dataclasses.replace(SPEC, **changes), rngs=nnx.Rngs(0)))()


@quick_jit
def full_logits(model, tokens, **more):
  return model(tokens, **more).logits()


# ------------------------------------------------------------------------------------------------------------- laws


def check_packing(change) -> None:
  packed, apart = packed_and_apart(SPEC)
  run = quick_jit(jax.value_and_grad(loss_of))
  value, gradient = run(model(), change(packed))
  expected_value, expected = run(model(), apart)
  assert_close(value, expected_value, "loss")
  for path, leaf in named_leaves(expected).items():
    assert_close(named_leaves(gradient)[path], leaf, path)


def without(batch, name):
  return {key: values for key, values in batch.items() if key != name}


def test_packed_rows_give_the_same_loss_and_gradient_as_unpacked_documents():
  check_packing(lambda batch: batch)
  check_packing(lambda batch: without(batch, "positions"))


def test_the_packing_law_notices_a_state_that_continues():
  on = lambda batch: batch | {"positions": np.arange(LENGTH, dtype=np.int32)[None].repeat(2, axis=0)}  # noqa: E731
  assert_law_catches(check_packing, on)


PROMPT, LENGTHS = 8, (8, 5)


@functools.partial(quick_jit, static_argnames="mark_padding")
def cached_logits(model, tokens, lengths, mark_padding=True):
  real = (jnp.arange(PROMPT)[None] < lengths[:, None]).astype(jnp.int32)
  prompt = model(tokens[:, :PROMPT], segment_ids=real if mark_padding else None, cache=model.init_cache(2, LENGTH))
  cache, later = prompt.cache, []
  for _ in range(4):
    outputs = model(jnp.take_along_axis(tokens, cache.length[:, None], axis=1), cache=cache)
    cache = outputs.cache
    later.append(outputs.logits()[:, 0])
  return prompt.logits(), jnp.stack(later, axis=1)


def check_cache(decode) -> None:
  expected = full_logits(model(), TOKENS)
  prompt, later = decode(model(), TOKENS, np.array(LENGTHS))
  for row, length in enumerate(LENGTHS):
    assert_close(prompt[row, :length], expected[row, :length], f"prompt of row {row}")
    assert_close(later[row], expected[row, length : length + 4], f"new tokens of row {row}")


def test_cached_decoding_of_ragged_prompts_equals_the_full_forward_pass():
  check_cache(cached_logits)


def test_the_cache_law_notices_padding_taken_for_tokens():
  assert_law_catches(check_cache, functools.partial(cached_logits, mark_padding=False))


def zero_carry(spec=SPEC, rows=2):
  return {name: jnp.zeros(x.shape, x.dtype) for name, x in spec.carry_shapes(rows).items()}


def test_a_carried_state_continues_where_the_row_ended_and_is_reset_at_position_0():
  whole = full_logits(model(), TOKENS)
  run = quick_jit(lambda model, tokens, carry, positions=None: model(tokens, carry=carry, positions=positions))
  first = run(model(), TOKENS[:, :7], zero_carry())
  second = run(model(), TOKENS[:, 7:], first.carry)
  assert_close(jnp.concatenate([first.logits(), second.logits()], axis=1), whole, "halves")
  positions = np.array([[7, 8, 9, 0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6, 7, 8]], np.int32)
  second = run(model(), TOKENS[:, 7:], first.carry, positions)
  assert_close(second.logits()[0, :3], whole[0, 7:10], "before the new document")
  assert_close(second.logits()[0, 3:], full_logits(model(), TOKENS[:1, 10:])[0], "the new document")
  assert_close(second.logits()[1], full_logits(model(), TOKENS[1:, 7:])[0], "a row that starts from zero")
  assert model()(TOKENS).carry is None
  assert jax.tree.map(lambda x: (x.shape, x.dtype), first.carry) == {
    name: (x.shape, x.dtype) for name, x in SPEC.carry_shapes(2).items()
  }


def test_no_gradient_goes_back_into_the_carried_state():
  loss = lambda carry: jnp.sum(model()(TOKENS, carry=carry).hidden)  # noqa: E731
  gradient = quick_jit(jax.grad(loss))(zero_carry())
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_dropout_falls_between_layers_and_never_on_the_state():
  dropping, key = model(dropout=0.5), jax.random.key(1)
  outputs = quick_jit(lambda model: model(TOKENS, dropout_key=key, carry=zero_carry(), keep_layers=True))(dropping)
  for layer in outputs.layers:
    assert 0.3 < np.mean(np.asarray(layer) == 0) < 0.7
  assert np.all(np.asarray(outputs.carry["h"]) != 0)


def test_layers_are_those_between_which_the_model_computes():
  outputs = quick_jit(lambda model: model(TOKENS, keep_layers=True))(model())
  np.testing.assert_array_equal(outputs.layers[-1], outputs.hidden)
  np.testing.assert_array_equal(outputs.layers[0], model().token_embedding(TOKENS))


# ----------------------------------------------------------------------------------------------------------- record


@pytest.mark.parametrize("changes", [{}, {"tied": False}, {"head": "classification", "outputs": 3}, {"head": "span"}])
def test_parameters_are_named_and_placed(changes):
  spec = dataclasses.replace(SPEC, **changes)
  abstract = jax.eval_shape(lambda: MODELS["lstm"].build(spec, rngs=nnx.Rngs(0)))
  map_variables(
    lambda path, leaf, axes: (len(axes) == leaf.ndim and leaf.dtype == "float32") or pytest.fail(path), abstract
  )
  names = {"token_embedding.embedding", "layers.input.kernel", "layers.input.bias", "layers.recurrent.kernel"}
  assert names <= set(named_leaves(abstract))


def test_the_medium_model_of_the_literature_has_its_size():
  spec = LSTMSpec(vocab_size=10_000, vocab_multiple=1, layers=2, width=650, context=35, tied=False)
  assert count(jax.eval_shape(lambda: LSTM(spec, rngs=nnx.Rngs(0)))) == 2 * 10_000 * 650 + 2 * (8 * 650**2 + 4 * 650)
  assert spec.flops_per_token(35, 35).full == 6 * (10_000 * 650 + 2 * 8 * 650**2)
  assert "LSTM, 2 layers, width 650" in spec.describe()
  assert "none" in spec.check_attention("cpu")


def test_the_uniform_initialisation_stays_within_its_bound_and_reaches_it():
  table = np.asarray(model().token_embedding.embedding[...])
  assert np.max(np.abs(table)) <= 0.5
  assert np.max(np.abs(table)) > 0.48
  np.testing.assert_allclose(np.std(table), 0.5 / np.sqrt(3), rtol=0.1)


@pytest.mark.parametrize(
  ("changes", "pattern"),
  [
    ({"width": 0}, "width"),
    ({"init": "xaver"}, "xavier"),
    ({"head": "masked"}, "head of an lstm"),
    ({"dropout": 1}, "dropout"),
  ],
)
def test_an_impossible_record_is_refused(changes, pattern):
  with pytest.raises(LmxError, match=pattern):
    dataclasses.replace(SPEC, **changes)
