# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Mamba-2 against its recurrence, and the laws of a sequence mixer: packing, caching, chunks, devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches
from mesh_cases import storage_shardings
from specimens import quick_jit

from lmx.nn.context import Context
from lmx.nn.layers.chunked_scan import chunked_scan
from lmx.nn.layers.initializers import make_scheme
from lmx.nn.layers.mamba2 import Mamba2, MambaShape, MambaState
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout, use_layout
from lmx.trees import named_leaves

SHAPE = MambaShape(width=8, heads=4, head_width=4, state=6, groups=2, conv=4, chunk=4, norm_eps=1e-5)
LENGTH = 11
X = np.random.default_rng(0).normal(size=(3, LENGTH, 8)).astype(np.float32)


@functools.cache
def mixer() -> Mamba2:
  scheme = make_scheme("normal", std=0.5, layers=1)
  return quick_jit(lambda: Mamba2(SHAPE, scheme=scheme, dtype="float32", rngs=nnx.Rngs(0)))()


@quick_jit
def run(mixer, x, segments=None):
  return mixer(x, Context(segment_ids=segments), None, 0, None)[0]


def close(got, expected) -> None:
  np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)


# --------------------------------------------------------------------------------------------------------- the scan


def recurrence(value, step, rate, write, read, runs, state):
  """The definition, one token at a time."""
  heads_per_group = value.shape[2] // write.shape[2]
  write, read = np.repeat(write, heads_per_group, axis=2), np.repeat(read, heads_per_group, axis=2)
  y, state, run = np.zeros(value.shape), state.astype(np.float64), np.zeros(value.shape[0])
  for t in range(value.shape[1]):
    state = np.where((runs[:, t] == run)[:, None, None, None], state, 0)
    run = runs[:, t]
    decay = np.exp(-rate * step[:, t])[..., None, None]
    state = decay * state + step[:, t, :, None, None] * value[:, t, :, :, None] * write[:, t, :, None]
    y[:, t] = np.einsum("bhps,bhs->bhp", state, read[:, t])
  return y, state


def check_scan(scan, chunk: int) -> None:
  random = np.random.default_rng(1)
  B, L, H, P, G, S = 2, 11, 4, 3, 2, 5
  value, write, read = (random.normal(size=(B, L, *shape)).astype(np.float32) for shape in ((H, P), (G, S), (G, S)))
  step, rate = random.uniform(0, 1, (B, L, H)).astype(np.float32), np.arange(1, H + 1, dtype=np.float32)
  runs = np.array([[0] * 4 + [1] * 3 + [2] * 4, [0] * 11], np.int32)
  state = random.normal(size=(B, H, P, S)).astype(np.float32)
  expected = recurrence(value, step, rate, write, read, runs, state)
  got = scan(value, step, rate, write, read, runs_BL=runs, state_BHPS=state, chunk=chunk)
  for one, other in zip(got, expected, strict=True):
    close(one, other)


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_the_scan_in_chunks_is_the_recurrence(chunk):
  check_scan(quick_jit(chunked_scan, static_argnames="chunk"), chunk)


def test_the_scan_check_notices_documents_that_do_not_start_at_zero():
  check = quick_jit(lambda *a, runs_BL, state_BHPS: chunked_scan(*a, runs_BL=None, state_BHPS=state_BHPS, chunk=4))
  assert_law_catches(check_scan, lambda *a, chunk, **rest: check(*a, **rest), 4)


def test_gradients_stay_finite_where_a_state_decays_to_nothing():
  def total(rate):
    ones = jnp.ones((1, 8, 1, 1))
    return jnp.sum(chunked_scan(ones, jnp.ones((1, 8, 1)), rate, ones, ones, runs_BL=None, state_BHPS=None, chunk=4)[0])

  value, gradient = quick_jit(jax.value_and_grad(total))(jnp.array([1e4]))
  assert np.isfinite(value)
  assert np.all(np.isfinite(gradient))


# --------------------------------------------------------------------------------------------------------- the laws


def check_packing(run) -> None:
  """Documents of 5 and 4 tokens in one row with padding, and each in a row of its own."""
  segments = np.array([[1] * 5 + [2] * 4 + [0] * 2], np.int32)
  packed = run(mixer(), X[:1], segments)[0]
  close(packed[:5], run(mixer(), X[:1, :5])[0])
  close(packed[5:9], run(mixer(), X[:1, 5:9])[0])


def test_packed_equals_unpacked():
  check_packing(run)


def test_the_packing_law_notices_a_state_and_a_convolution_that_continue():
  assert_law_catches(check_packing, lambda mixer, x, segments=None: run(mixer, x))


def test_nothing_depends_on_later_tokens_nor_on_the_chunk():
  changed = X.copy()
  changed[:, 6:] = 3.0
  close(run(mixer(), changed)[:, :6], run(mixer(), X)[:, :6])
  other = nnx.clone(mixer())
  other.shape = dataclasses.replace(SHAPE, chunk=3)
  close(run(other, X), run(mixer(), X))


LENGTHS = np.array([5, 2, 6])
PROMPT = 6


@functools.partial(quick_jit, static_argnames="mark_padding")
def run_cached(mixer, x, lengths, mark_padding=True):
  """Ragged prompts, then three more tokens at once, then one at a time, all through the second layer of a cache."""
  cache = MambaState.empty(SHAPE, 2, 3, jnp.float32)
  real = (jnp.arange(PROMPT)[None] < lengths[:, None]).astype(jnp.int32)
  rows = lambda at, size: jnp.take_along_axis(x, (at[:, None] + jnp.arange(size)[None])[..., None], axis=1)  # noqa: E731
  prompt, cache = mixer(x[:, :PROMPT], Context(segment_ids=real if mark_padding else None), cache, 1, None)
  three, cache = mixer(rows(lengths, 3), Context(), cache, 1, None)
  one, cache = mixer(rows(lengths + 3, 1), Context(), cache, 1, None)
  two, _ = mixer(rows(lengths + 4, 1), Context(), cache, 1, None)
  return prompt, jnp.concatenate([three, one, two], axis=1), cache


def check_cache(run_cached) -> None:
  expected = run(mixer(), X)
  prompt, later, cache = run_cached(mixer(), X, LENGTHS)
  for row, length in enumerate(LENGTHS):
    close(prompt[row, :length], expected[row, :length])
    close(later[row], expected[row, length : length + 5])
  assert not np.any(cache.state[0]), "another layer's state was touched"


def test_cached_equals_full_for_ragged_prompts():
  check_cache(run_cached)


def test_the_cache_law_notices_padding_taken_for_tokens():
  assert_law_catches(check_cache, functools.partial(run_cached, mark_padding=False))


def test_sharded_equals_single_device():
  def loss(mixer, x):
    return jnp.sum(jnp.sin(mixer(x, Context(), None, 0, None)[0]))

  layout = Layout(make_mesh({"data": 1, "fsdp": 4, "tensor": 2}))

  @quick_jit
  def sharded(mixer, x):
    with use_layout(layout):
      return jax.value_and_grad(loss)(mixer, x)

  x = np.concatenate([X, X[:1]])
  expected = quick_jit(jax.value_and_grad(loss))(mixer(), x)
  got = sharded(jax.device_put(mixer(), storage_shardings(mixer(), layout)), x)
  for path, leaf in named_leaves(expected).items():
    np.testing.assert_allclose(named_leaves(got)[path], leaf, rtol=1e-3, atol=1e-4, err_msg=path)
