# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The small parts: matrix products, activations, norms, positions, dropout, masks, initialisation, stacking."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches

from lmx.nn.attention.masks import Mask
from lmx.nn.layers.activations import ACTIVATIONS
from lmx.nn.layers.dropout import dropout
from lmx.nn.layers.embedding import Embedding
from lmx.nn.layers.initializers import Fan, make_scheme
from lmx.nn.layers.linear import Linear, contract
from lmx.nn.layers.norm import LayerNorm, RMSNorm, ZeroCenteredRMSNorm
from lmx.nn.layers.positions import (
  relative_buckets,
  rope_frequencies,
  rotary_tables,
  rotate,
  rotate_by_product,
  segment_positions,
  sinusoids,
)
from lmx.nn.stack import stacked, unstack

SCHEME = make_scheme("normal", std=0.5, layers=2)


@pytest.mark.parametrize("shapes", [((2, 3, 4), (4, 2, 5), 1), ((2, 3, 2, 5), (2, 5, 4), 2)])
def test_a_product_and_its_gradients_equal_tensordot(shapes):
  x_shape, kernel_shape, inputs = shapes
  generator = np.random.default_rng(0)
  x, kernel = (generator.standard_normal(shape, np.float32) for shape in (x_shape, kernel_shape))
  loss = lambda product: jax.value_and_grad(lambda x, k: jnp.sum(jnp.sin(product(x, k))), argnums=(0, 1))(x, kernel)  # noqa: E731
  value, gradients = loss(lambda x, k: contract(x, k, inputs, jnp.float32))
  expected, expected_gradients = loss(lambda x, k: jnp.tensordot(x, k, inputs))
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  for got, wanted in zip(gradients, expected_gradients, strict=True):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_bfloat16_product_has_a_float32_weight_gradient():
  gradient = jax.grad(lambda k: jnp.sum(contract(jnp.ones((3, 4)), k, 1, jnp.bfloat16).astype(jnp.float32)))
  assert gradient(jnp.ones((4, 2))).dtype == jnp.float32


@pytest.mark.parametrize(
  ("name", "textbook"),
  [
    ("gelu", lambda x: jax.nn.gelu(x, approximate=False)),
    ("gelu_tanh", jax.nn.gelu),
    ("relu", jax.nn.relu),
    ("swiglu", jax.nn.silu),
    ("silu", jax.nn.silu),
    ("geglu_exact", lambda x: jax.nn.gelu(x, approximate=False)),
    ("geglu", jax.nn.gelu),
  ],
)
def test_an_activation_and_its_derivative_equal_the_textbook(name, textbook):
  x = jnp.linspace(-6, 6, 101)
  ours = ACTIVATIONS[name].function
  np.testing.assert_allclose(ours(x), textbook(x), atol=1e-6)
  derivative = lambda f: jax.vmap(jax.grad(f))(x)  # noqa: E731
  np.testing.assert_allclose(derivative(ours), derivative(textbook), atol=1e-5)


def test_norms_compute_in_float32_and_follow_their_papers():
  x = np.random.default_rng(0).standard_normal((2, 3, 8), np.float32) * 5 + 2
  layer, rms = (kind("embed", 8, eps=1e-5, bias=True, dtype=jnp.float32) for kind in (LayerNorm, RMSNorm))
  np.testing.assert_allclose(layer(x), (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True), rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(rms(x), x / np.sqrt((x**2).mean(-1, keepdims=True)), rtol=1e-4)
  centred = ZeroCenteredRMSNorm("embed", 8, eps=1e-5, bias=True, dtype=jnp.float32)
  np.testing.assert_array_equal(centred(x), rms(x))
  centred.scale[...] = centred.scale[...] + 0.5
  np.testing.assert_allclose(centred(x), 1.5 * rms(x), rtol=1e-6)
  low = LayerNorm("embed", 8, eps=1e-5, bias=True, dtype=jnp.bfloat16)
  assert low(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16
  # 300 and 301 are the same number in bfloat16; statistics of them in float32 are exact all the same.
  np.testing.assert_array_equal(low(jnp.full((1, 1, 8), 300, jnp.bfloat16)), 0)


def scores_of(positions, scaling="none", factor=1.0, original=None):
  frequencies = rope_frequencies(8, 10_000.0, scaling, factor, original)
  q, k = (np.random.default_rng(i).standard_normal((1, 1, 1, 8), np.float32) for i in range(2))
  turned = [rotate(x, rotary_tables(jnp.array([[p]]), frequencies)) for x, p in zip((q, k), positions, strict=True)]
  return jnp.sum(turned[0] * turned[1])


def test_rotary_scores_depend_on_distance_only():
  np.testing.assert_allclose(scores_of((3, 1)), scores_of((103, 101)), rtol=1e-4)
  assert abs(scores_of((3, 1)) - scores_of((5, 1))) > 1e-2


def check_rotation(rotation) -> None:
  """Values and gradients are those of `rotate`, to the bit of bfloat16."""
  random = np.random.default_rng(0)
  x, dy = (jnp.asarray(random.standard_normal((2, 5, 3, 16)), jnp.bfloat16) for _ in range(2))
  tables = rotary_tables(jnp.arange(10).reshape(2, 5), rope_frequencies(16, 10_000.0, "none", 1.0, None))
  found, expected = (jax.vjp(functools.partial(form, rotary=tables), x) for form in (rotation, rotate))
  np.testing.assert_array_equal(found[0], expected[0])
  np.testing.assert_array_equal(found[1](dy)[0], expected[1](dy)[0])


def test_the_rotation_for_tpus_equals_the_plain_one():
  check_rotation(rotate_by_product)
  assert_law_catches(check_rotation, lambda x, rotary: rotate_by_product(x, (rotary[0], -rotary[1])))


def test_linear_scaling_divides_positions():
  np.testing.assert_allclose(scores_of((12, 4), "linear", 4.0), scores_of((3, 1)), rtol=1e-4)


def test_ntk_and_llama3_keep_fast_frequencies_and_stretch_slow_ones():
  plain = rope_frequencies(64, 10_000.0, "none", 1.0, None)
  for scaling in ("ntk", "llama3"):
    stretched = rope_frequencies(64, 10_000.0, scaling, 8.0, 1024)
    np.testing.assert_allclose(stretched[0], plain[0], rtol=1e-6)
    np.testing.assert_allclose(stretched[-1], plain[-1] / 8, rtol=1e-5)
    assert np.all(stretched <= plain)


def test_positions_restart_with_each_segment():
  segments = jnp.array([[1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 2, 3]])
  np.testing.assert_array_equal(segment_positions(segments), [[0, 1, 2, 0, 1, 0], [0, 0, 1, 2, 3, 0]])


def test_a_mask_shows_what_its_conditions_allow():
  segments = jnp.array([[1, 1, 1, 2]])
  seen = Mask(segments, segments, causal=True, window=2).dense(4, 4)[0, 0]
  np.testing.assert_array_equal(seen, [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])


def test_a_mask_of_both_sides_has_a_window_of_both_sides():
  seen = Mask(causal=False, window=2).dense(3, 3)[0, 0]
  np.testing.assert_array_equal(seen, [[1, 1, 0], [1, 1, 1], [0, 1, 1]])
  assert Mask(causal=False).dense(2, 3).all()


def test_a_prefix_is_seen_from_before_it_within_its_segment_and_the_window():
  segments, prefix = jnp.array([[1, 1, 1, 2, 2]]), jnp.array([[1, 1, 0, 0, 1]])
  seen = Mask(segments, segments, key_prefix=prefix).dense(5, 5)[0, 0]
  np.testing.assert_array_equal(
    seen, [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]
  )
  np.testing.assert_array_equal(Mask(key_prefix=jnp.array([[0, 0, 1]]), window=2).dense(3, 3)[0, 0],
                                [[1, 0, 0], [1, 1, 1], [0, 1, 1]])  # fmt: skip


def test_sinusoids_are_those_of_the_paper_with_all_sines_first():
  waves = sinusoids(jnp.array([[0, 3, 70]]), 8)[0]
  for row, position in enumerate((0, 3, 70)):
    for i in range(4):
      angle = position / 10_000 ** (2 * i / 8)
      np.testing.assert_allclose(waves[row, [i, 4 + i]], [np.sin(angle), np.cos(angle)], atol=1e-5)


def bucket_by_hand(distance: int, both_ways: bool, buckets: int, limit: int) -> int:
  """T5's function as its paper tells it: an exact half, then a logarithmic half up to the limit."""
  first = 0
  if both_ways:
    buckets //= 2
    first = buckets if distance > 0 else 0
  away = abs(distance) if both_ways else max(-distance, 0)
  exact = buckets // 2
  if away < exact:
    return first + away
  steps = np.log(np.float32(away) / exact) / np.log(limit / exact) * (buckets - exact)
  return first + min(exact + int(steps + 1e-6), buckets - 1)


@pytest.mark.parametrize(("both_ways", "buckets", "limit"), [(True, 32, 128), (False, 32, 128), (False, 8, 12)])
def test_relative_buckets_are_those_of_t5(both_ways, buckets, limit):
  distances = range(-200, 201)
  got = relative_buckets(np.array(distances), both_ways=both_ways, buckets=buckets, limit=limit)
  np.testing.assert_array_equal(got, [bucket_by_hand(d, both_ways, buckets, limit) for d in distances])
  assert len(set(got.tolist())) >= buckets - 1  # With two directions, one bucket of distance 0 is unused.


def test_dropout_keeps_the_mean_and_needs_a_key():
  x = jnp.ones((100, 100))
  assert dropout(x, 0.3, None) is x
  dropped = dropout(x, 0.3, jax.random.key(0))
  np.testing.assert_allclose(jnp.mean(dropped == 0), 0.3, atol=0.02)
  np.testing.assert_allclose(jnp.mean(dropped), 1, atol=0.02)


def test_dropout_falls_on_every_position_alike_and_on_neighbours_independently():
  """Two elements share a random number, and the last of an odd row has one for itself."""
  kept = np.asarray(dropout(jnp.ones((20_000, 3), jnp.bfloat16), 0.3, jax.random.key(0))) > 0
  np.testing.assert_allclose(kept.mean(axis=0), 0.7, atol=0.015)
  np.testing.assert_allclose(np.corrcoef(kept.T), np.eye(3), atol=0.03)
  for rate in (1e-9, 1 - 1e-9):
    assert jnp.isfinite(dropout(jnp.ones((4, 4)), rate, jax.random.key(0))).all()


def test_initial_spreads_are_those_published():
  inner, ending = Fan(100, 300, residual=False), Fan(300, 100, residual=True)
  spreads = {name: make_scheme(name, std=0.02, layers=8) for name in ("gpt2", "normal", "xavier", "lecun")}
  assert [spreads[n].matrix_std(inner) for n in spreads] == pytest.approx([0.02, 0.02, (2 / 400) ** 0.5, 0.1])
  assert spreads["gpt2"].matrix_std(ending) == pytest.approx(0.02 / 4)
  wide = make_scheme("gpt2", std=0.02, layers=8, width_ratio=4.0)
  assert (wide.matrix_std(inner), wide.embedding_std) == (pytest.approx(0.01), 0.02)
  assert make_scheme("lecun", std=0.02, layers=8, width_ratio=4.0).matrix_std(inner) == pytest.approx(0.1)
  drawn = spreads["lecun"].matrix(jax.random.key(0), (100, 3, 100), inner)
  np.testing.assert_allclose(jnp.std(drawn), 0.1, rtol=0.02)


def test_an_id_beyond_the_table_gives_nan_and_never_another_row():
  table = Embedding("vocab", 4, 2, scheme=SCHEME, dtype="float32", rngs=nnx.Rngs(0))
  rows = table(jnp.array([[3, 4]]))
  assert jnp.all(jnp.isfinite(rows[0, 0]))
  assert jnp.all(jnp.isnan(rows[0, 1]))


def make_linear(rngs: nnx.Rngs) -> Linear:
  return Linear((("embed", 3),), (("mlp", 4),), bias=True, scheme=SCHEME, dtype="float32", rngs=rngs)


def test_stacked_layers_differ_carry_their_axis_and_are_split_without_padding():
  layers = stacked(make_linear, 3, nnx.Rngs(0))
  assert layers.kernel.get_metadata("axes") == ("layers", "embed", "mlp")
  first, second, _ = unstack(layers, 3)
  np.testing.assert_array_equal(first.kernel[...], layers.kernel[0])
  assert jnp.any(first.kernel[...] != second.kernel[...])
  program = str(jax.make_jaxpr(jax.grad(lambda m: sum(jnp.sum(x.kernel[...] ** 2) for x in unstack(m, 3))))(layers))
  assert "concatenate" in program
  assert "pad" not in program
