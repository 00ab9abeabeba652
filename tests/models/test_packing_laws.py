# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 3 of the design, over every specimen: packed equals unpacked."""

import jax
import numpy as np
import pytest
from laws import assert_law_catches
from specimens import ENCODER_DECODERS, HEADED, SPECIMENS, model_of, quick_jit
from tiny_rows import LENGTH, assert_close, loss_of, packed_and_apart, without_prefix

from lmx.trees import named_leaves

# Heads for whole rows read one document a row.
PACKED = [name for name, spec in SPECIMENS.items() if name not in HEADED or spec.head in ("span", "tagging")]
loss_and_gradient = quick_jit(jax.value_and_grad(loss_of))


def check_packing(change, name: str, prefix: bool = False) -> None:
  packed, apart = packed_and_apart(SPECIMENS[name])
  if not prefix:
    packed, apart = without_prefix(packed), without_prefix(apart)
  value, gradient = loss_and_gradient(model_of(name), change(packed))
  expected_value, expected_gradient = loss_and_gradient(model_of(name), apart)
  assert_close(value, expected_value, "loss")
  got = named_leaves(gradient)
  for path, expected in named_leaves(expected_gradient).items():
    if not path.endswith("key.bias"):  # Its gradient is zero: the softmax doesn't see a constant.
      assert_close(got[path], expected, path)


@pytest.mark.parametrize("name", PACKED)
def test_packed_rows_give_the_same_loss_and_gradient_as_unpacked_documents(name):
  check_packing(lambda batch: batch, name)


def test_packed_rows_with_prefixes_give_the_same_loss_and_gradient_as_unpacked_documents():
  check_packing(lambda batch: batch, "llama", prefix=True)


def changed(**changes):
  return lambda batch: batch | {name: change(batch[name]) for name, change in changes.items()}


def one_segment(ids):
  return np.minimum(ids, 1)


def by_column(positions):
  return np.tile(np.arange(positions.shape[1], dtype=np.int32), (2, 1))


@pytest.mark.parametrize(
  ("name", "changes"),
  [
    ("llama", {"segment_ids": one_segment}),
    ("gpt2", {"positions": by_column}),
    ("bert", {"segment_ids": one_segment}),
    ("bert", {"token_types": np.zeros_like}),
    ("t5", {"segment_ids": one_segment, "encoder_segment_ids": one_segment}),
    ("original", {"encoder_positions": by_column}),
  ],
)
def test_the_packing_law_notices_ignored_segments_positions_and_types(name, changes):
  assert_law_catches(check_packing, changed(**changes), name)


@pytest.mark.parametrize("name", ["gpt2", "bert", next(iter(ENCODER_DECODERS))])
def test_positions_left_out_are_counted_within_segments(name):
  packed = without_prefix(packed_and_apart(SPECIMENS[name])[0])
  assert packed["tokens"].shape[1] == LENGTH
  given = {key: packed[key] for key in model_of(name).inputs if key in packed}
  counted = {key: value for key, value in given.items() if not key.endswith("positions")}
  hidden = quick_jit(lambda model, tokens, **placed: model(tokens, **placed).hidden)
  real = packed["segment_ids"] > 0
  got, expected = (hidden(model_of(name), x.pop("tokens"), **x)[real] for x in (counted, given))
  np.testing.assert_array_equal(got, expected)
