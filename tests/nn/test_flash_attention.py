# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 12 for the flash kernels: splash as it is interpreted on CPUs, and the masks that are passed to tokamax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_law_catches

from lmx.nn.attention.flash import seen_range, splash_attention
from lmx.nn.attention.kernel_check import packed_segments
from lmx.nn.attention.kernels import KERNELS, Extras
from lmx.nn.attention.masks import Mask
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout, use_layout

SEGMENTS = packed_segments(2, 128)
MASKS = {
  "packed": Mask(SEGMENTS, SEGMENTS),
  "windowed": Mask(SEGMENTS, SEGMENTS, window=17),
  "both_ways": Mask(SEGMENTS, SEGMENTS, causal=False),
  "both_ways_windowed": Mask(SEGMENTS, SEGMENTS, causal=False, window=17),
  "plain": Mask(),
}


def draw(length: int, heads: int = 4, kv_heads: int = 2, width: int = 64):
  random = np.random.default_rng(0)
  return [random.standard_normal((2, length, n, width), np.float32) for n in (heads, kv_heads, kv_heads)]


def value_and_gradients(attend, q, k, v, mask):
  weights = np.random.default_rng(1).standard_normal(q.shape, np.float32)
  real = 1.0 if mask.query_segments is None else (mask.query_segments > 0)[:, :, None, None]

  @jax.jit
  def run(q, k, v):
    return jax.value_and_grad(lambda *qkv: jnp.sum(attend(*qkv, mask) * weights * real), argnums=(0, 1, 2))(q, k, v)

  return jax.tree.leaves(run(q, k, v))


def reference(q, k, v, mask, scale=0.2, softcap=None):
  return KERNELS["reference"].attend(q, k, v, mask, Extras(scale=scale, softcap=softcap), None)


SPLASH = functools.partial(splash_attention, scale=0.2, softcap=None)


def check_splash(name: str, attend=SPLASH, length: int = 128):
  mask = MASKS[name]
  if length < 128 and mask.query_segments is not None:
    mask = Mask(SEGMENTS[:, :length], SEGMENTS[:, :length], causal=mask.causal, window=mask.window)
  arrays = draw(length)
  for got, expected in zip(value_and_gradients(attend, *arrays, mask), value_and_gradients(reference, *arrays, mask),
                           strict=True):  # fmt: skip
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4 * np.max(np.abs(expected)))


@pytest.mark.parametrize("name", MASKS)
def test_splash_equals_the_reference_in_values_and_gradients(name):
  check_splash(name)


@pytest.mark.parametrize("name", ["plain", "both_ways"])
def test_splash_takes_rows_of_any_length(name):
  check_splash(name, length=100)


def test_splash_caps_scores():
  arrays = draw(128)
  got = splash_attention(*arrays, MASKS["packed"], 0.2, 1.5)
  np.testing.assert_allclose(got, reference(*arrays, MASKS["packed"], softcap=1.5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [{"data": 2, "tensor": 2, "fsdp": 2}, {"tensor": 2, "data": 4}])
def test_splash_is_the_same_on_a_mesh_whose_devices_have_rows_and_heads_of_their_own(sizes):
  arrays, mask = draw(128), MASKS["packed"]
  with use_layout(Layout(make_mesh(sizes))):
    got = jax.jit(lambda q, k, v: splash_attention(q, k, v, mask, 0.2, None))(*arrays)
  np.testing.assert_allclose(got, reference(*arrays, mask), rtol=1e-4, atol=1e-5)


def test_the_law_notices_a_kernel_without_segments_or_scale():
  forgets = lambda q, k, v, mask: splash_attention(q, k, v, Mask(causal=mask.causal), 0.2, None)  # noqa: E731
  assert_law_catches(check_splash, "packed", forgets)
  assert_law_catches(check_splash, "packed", functools.partial(splash_attention, scale=0.1, softcap=None))


@pytest.mark.parametrize("name", MASKS)
def test_the_range_of_keys_that_a_query_sees_is_what_the_mask_shows(name):
  mask = MASKS[name]
  start, end = seen_range(mask, 128)
  columns = np.arange(128)
  seen = np.ones((2, 128, 128), bool)
  seen &= columns[:, None] >= columns[None] if mask.causal else True
  seen &= True if start is None else columns[None, None] >= np.asarray(start)[:, :, None]
  seen &= True if end is None else columns[None, None] < np.asarray(end)[:, :, None]
  np.testing.assert_array_equal(seen, np.broadcast_to(mask.dense(128, 128)[:, 0], seen.shape))
