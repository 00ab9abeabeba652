# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Heads: which tokens they read, and their results' shapes."""

import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_law_catches
from specimens import ENCODERS, HEADED, SPECIMENS, model_of, quick_jit

from lmx.nn.heads import pool
from lmx.nn.losses import logits

TOKENS = np.random.default_rng(0).integers(0, 35, (3, 16)).astype(np.int32)
REAL = (np.arange(16)[None] < np.array([[16], [9], [4]])).astype(np.int32)
SHAPES = {
  "classifier": (3, 3),
  "regressor": (3,),
  "span_reader": (3, 16, 2),
  "tagger": (3, 16, 3),
  "modern_classifier": (3, 3),
  "modern_tagger": (3, 16, 3),
  "embedder": (3, 16),
  "last_token_classifier": (3, 2),
}


@quick_jit
def outputs_of(model, tokens, real):
  return model(tokens, segment_ids=real)


def check_padding_is_ignored(change, name: str) -> None:
  """The contents of padding must not change a result for a real token or row."""
  got, expected = (outputs_of(model_of(name), tokens, REAL) for tokens in (change(TOKENS), TOKENS))
  assert expected.scores.shape == SHAPES[name]
  assert expected.scores.dtype == jnp.float32
  of_tokens = expected.scores.ndim == 3
  keep = REAL > 0 if of_tokens else np.ones(3, bool)
  np.testing.assert_allclose(np.asarray(got.scores)[keep], np.asarray(expected.scores)[keep], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HEADED)
def test_scores_have_their_shape_and_do_not_depend_on_padding(name):
  check_padding_is_ignored(lambda tokens: np.where(REAL > 0, tokens, 7), name)
  with pytest.raises(ValueError, match="no vocabulary"):
    outputs_of(model_of(name), TOKENS, REAL).logits()


@pytest.mark.parametrize("name", ["classifier", "regressor", "last_token_classifier"])
def test_the_padding_check_notices_other_real_tokens(name):
  assert_law_catches(check_padding_is_ignored, lambda tokens: np.where(REAL > 0, 7, tokens), name)


def test_pooling_takes_the_first_the_mean_or_the_last_real_token():
  hidden = jnp.arange(2 * 4 * 3, dtype=jnp.bfloat16).reshape(2, 4, 3)
  segments = jnp.array([[1, 1, 1, 0], [1, 0, 0, 0]])
  plain = np.asarray(hidden, np.float32)
  np.testing.assert_array_equal(pool("cls", hidden, segments), plain[:, 0])
  np.testing.assert_array_equal(pool("mean", hidden, segments), [plain[0, :3].mean(0), plain[1, 0]])
  np.testing.assert_array_equal(pool("last", hidden, segments), [plain[0, 2], plain[1, 0]])
  np.testing.assert_array_equal(pool("mean", hidden, None), plain.mean(1))
  np.testing.assert_array_equal(pool("last", hidden, None), plain[:, 3])
  assert not np.any(pool("mean", hidden, jnp.zeros((2, 4), jnp.int32)))


@pytest.mark.parametrize("name", ENCODERS)
def test_a_masked_head_gives_logits_over_the_real_vocabulary_with_a_bias(name):
  outputs = outputs_of(model_of(name), TOKENS, REAL)
  assert outputs.logits().shape == (3, 16, SPECIMENS[name].vocab_size)
  shifted = logits(outputs.hidden, outputs.unembedding, outputs.head, outputs.bias + 1)
  real = shifted[..., : SPECIMENS[name].vocab_size]
  np.testing.assert_allclose(real, outputs.logits() + SPECIMENS[name].output_scale ** 0, rtol=1e-4, atol=1e-4)
