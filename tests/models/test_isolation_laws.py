# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 9 of the design, by gradient: causality, isolation of segments, prefixes, and whose memory a decoder reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches
from specimens import DECODERS, ENCODER_DECODERS, ENCODERS, SPECIMENS, model_of, quick_jit
from tiny_rows import LENGTH, MEMORY

import lmx.nn.attention.attention
from lmx.nn.attention.masks import Mask

SEGMENTS = np.array([[1] * 6 + [2] * 8 + [0] * 2], np.int32)
MEMORY_SEGMENTS = np.array([[1] * 4 + [2] * 7 + [0]], np.int32)
PREFIX = np.array([[1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]], np.int32)
ISOLATED = (*DECODERS, *ENCODERS, *ENCODER_DECODERS)


def influence(name: str, prefix=None) -> tuple[np.ndarray, np.ndarray]:
  """(L, L) and (L, M): how strongly the output at each position depends on the input at each position, by gradient.

  Every place has an id of its own, so that a row of the embedding table is the input at one place.
  """
  model = model_of(name)
  tokens = jnp.arange(LENGTH, dtype=jnp.int32)[None]
  more = {} if prefix is None else {"prefix": prefix}
  if name in ENCODER_DECODERS:
    memory = LENGTH + jnp.arange(MEMORY, dtype=jnp.int32)[None]
    more |= {"encoder_tokens": memory, "encoder_segment_ids": MEMORY_SEGMENTS}
  direction = jax.random.normal(jax.random.key(1), (1, 1, SPECIMENS[name].width))

  def outputs(table):
    changed = nnx.clone(model)
    changed.token_embedding.embedding = nnx.Param(table)
    return jnp.sum(changed(tokens, segment_ids=jnp.asarray(SEGMENTS), **more).hidden * direction, axis=-1)[0]

  jacobian = quick_jit(jax.jacrev(outputs))(model.token_embedding.embedding[...])
  strength = np.asarray(jnp.linalg.norm(jacobian, axis=-1))
  return strength[:, :LENGTH], strength[:, LENGTH : LENGTH + MEMORY]


def allowed_places(name: str, prefix) -> np.ndarray:
  """(L, L): which inputs an output may depend on."""
  spec, index, segments = SPECIMENS[name], np.arange(LENGTH), SEGMENTS[0]
  before = index[:, None] - index[None]
  allowed = segments[:, None] == segments[None]
  if name not in ENCODERS:
    allowed &= (before >= 0) | (False if prefix is None else prefix[0][None] > 0)
  if spec.window is not None and spec.local_layers == spec.layers:
    allowed &= np.abs(before) <= spec.layers * (spec.window - 1)
  return allowed


def check_isolation(influence_of, name: str, prefix=None) -> None:
  (own, memory), allowed = influence_of(name, prefix), allowed_places(name, prefix)
  assert np.all(own[~allowed] == 0), "an output depends on an input it must not see"
  assert np.all(own[allowed] > 0), "an output doesn't depend on an input it may see"
  if name in ENCODER_DECODERS:
    read = SEGMENTS[0][:, None] == MEMORY_SEGMENTS[0][None]
    assert np.all(memory[~read] == 0), "an output depends on the memory of another segment"
    assert np.all(memory[read] > 0), "an output doesn't depend on the memory of its segment"


@pytest.mark.parametrize("name", ISOLATED)
def test_outputs_have_zero_gradient_from_tokens_they_must_not_see(name):
  check_isolation(influence, name)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_tokens_of_a_prefix_are_seen_by_all_of_their_segment(name):
  check_isolation(influence, name, PREFIX)


FORGOTTEN = [
  ("windowed", {"causal": False}),
  ("windowed", {"query_segments": None}),
  ("windowed", {"window": None}),
  ("bert", {"causal": True}),
  ("bert", {"query_segments": None}),
  ("t5", {"query_segments": None}),
]


@pytest.mark.parametrize(("name", "forgotten"), FORGOTTEN)
def test_the_isolation_law_notices_each_forgotten_part_of_the_mask(name, forgotten, monkeypatch):
  def broken(query_segments=None, key_segments=None, **rest):
    return Mask(**({"query_segments": query_segments, "key_segments": key_segments} | rest | forgotten))

  monkeypatch.setattr(lmx.nn.attention.attention, "Mask", broken)
  assert_law_catches(check_isolation, influence, name)


def test_the_isolation_law_notices_a_forgotten_prefix():
  assert_law_catches(check_isolation, lambda name, prefix: influence(name), "llama", PREFIX)
