# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Embeddings and task heads over ragged rows: each row as if it were the only one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_law_catches
from specimens import model_of, quick_jit

from lmx.errors import LmxError
from lmx.inference import batches
from lmx.inference.embed import embed
from lmx.inference.predict import Span, classify, find_spans, regress, scores, tag
from lmx.objectives.span import best_spans

RANDOM = np.random.default_rng(0)
ROWS = [
  RANDOM.integers(0, 35, n).astype(np.int32) for n in (5, 16, 1, 5, 16)
]  # Few lengths: each one compiles a program.
TYPES = [np.arange(len(row)) % 2 for row in ROWS]

hidden_of = quick_jit(lambda model, tokens: model(tokens).hidden)
scores_of = quick_jit(lambda model, tokens, **types: model(tokens, **types).scores)


def single(function, model, row, **types):
  """The model on one row without padding."""
  return np.asarray(
    function(model, row[None], **{name: np.asarray(x)[None].astype(np.int32) for name, x in types.items()})
  )[0]


def close(got, expected):
  np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_embeddings_are_the_pooled_hidden_states_of_each_row_single(pooling):
  vectors = embed(model_of("embedder"), ROWS, pooling=pooling, batch_size=2)
  assert vectors.dtype == np.float32
  for row, vector in zip(ROWS, vectors, strict=True):
    hidden = single(hidden_of, model_of("embedder"), row)
    close(vector, {"cls": hidden[0], "last": hidden[-1], "mean": hidden.mean(axis=0)}[pooling])


def test_embeddings_can_have_length_one_and_default_to_the_models_pooling():
  vectors = embed(model_of("embedder"), ROWS, normalize=True)
  close(np.linalg.norm(vectors, axis=1), np.ones(5))
  plain = embed(model_of("embedder"), ROWS, pooling="mean")
  close(vectors, plain / np.linalg.norm(plain, axis=1, keepdims=True))
  assert embed(model_of("embedder"), []).shape == (0, 16)


def test_an_encoder_decoder_is_embedded_by_its_encoder():
  model = model_of("t5")
  (vector,) = embed(model, ROWS[:1], pooling="mean")
  close(vector, np.mean(quick_jit(lambda model, tokens: model.encode(tokens))(model, ROWS[0][None])[0], axis=0))


def check_classes(run) -> None:
  for row, types, got in zip(ROWS, TYPES, run(model_of("classifier")), strict=True):
    close(got, jax.nn.softmax(single(scores_of, model_of("classifier"), row, token_types=types)))


def test_probabilities_are_those_of_each_row_alone_in_the_order_they_came():
  check_classes(lambda model: classify(model, ROWS, token_types=TYPES, batch_size=2))
  check_classes(lambda model: classify(model, ROWS, token_types=TYPES, batch_size=8))
  assert_law_catches(check_classes, lambda model: classify(model, ROWS))
  each = classify(model_of("classifier"), ROWS, multi_label=True)
  close(each, jax.nn.sigmoid(np.stack(scores(model_of("classifier"), ROWS))))


def test_numbers_tags_and_spans_are_those_of_each_row_single():
  numbers, tags = regress(model_of("regressor"), ROWS), tag(model_of("tagger"), ROWS)
  masks = [np.arange(len(row)) >= 1 for row in ROWS]
  spans = find_spans(model_of("span_reader"), ROWS, context_mask=masks)
  for row, number, tagged, span, mask in zip(ROWS, numbers, tags, spans, masks, strict=True):
    close(number, single(scores_of, model_of("regressor"), row))
    np.testing.assert_array_equal(tagged, np.argmax(single(scores_of, model_of("tagger"), row), axis=-1))
    raw = single(scores_of, model_of("span_reader"), row)
    if mask.any():
      ((first, last),), (score,) = best_spans(jnp.asarray(raw)[None], jnp.asarray(mask)[None])
      assert (span.first, span.last) == (first, last)
      close(span.score, score)
    else:
      assert span == Span(0, 0, -np.inf)


def test_rows_of_a_batch_are_of_one_bucket_and_none_is_lost():
  found = batches._batches([5, 40, 1, 17, 16, 33, 3], 2)
  assert sorted(number for batch in found for number in batch) == list(range(7))
  assert found == [[1, 5], [3], [4, 0], [6, 2]]


def test_what_cannot_be_predicted_is_refused():
  with pytest.raises(LmxError, match=r"head: got 'classification'.*regression"):
    regress(model_of("classifier"), ROWS)
  with pytest.raises(LmxError, match=r"row 1, length"):
    tag(model_of("tagger"), [ROWS[0], np.zeros(17, np.int32)])
  with pytest.raises(LmxError, match=r"pooling.*Did you mean 'mean'"):
    embed(model_of("embedder"), ROWS, pooling="meen")
  with pytest.raises(ValueError, match="token_types"):
    classify(model_of("classifier"), ROWS, token_types=TYPES[:2])
