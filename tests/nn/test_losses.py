# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The fused cross-entropy against the textbook's, values and gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from laws import assert_law_catches
from specimens import quick_jit

from lmx.nn.losses import Head, cross_entropy, token_log_probs
from lmx.parallel.mesh import batch_sharding, make_mesh
from lmx.parallel.sharding import Layout, use_layout

B, L, D, V = 2, 5, 8, 12
HEADS = {
  "plain": Head(V),
  "padded": Head(9),
  "soft_capped": Head(V, softcap=1.5),
  "z_loss": Head(9, softcap=2.0, z_loss=0.1),
  "scaled_and_smoothed": Head(9, softcap=2.0, scale=0.3, label_smoothing=0.2, z_loss=0.1),
  "in_chunks": Head(9, softcap=2.0, scale=0.3, label_smoothing=0.2, z_loss=0.1, chunks=5),
  "in_chunks_that_do_not_divide": Head(V, chunks=4),
}


def inputs():
  generator = np.random.default_rng(0)
  hidden, table = (generator.standard_normal(shape, np.float32) for shape in ((B, L, D), (V, D)))
  targets = generator.integers(0, 9, (B, L)).astype(np.int32)
  return hidden, table, targets, generator.random((B, L), np.float32)


def textbook(hidden, table, targets, weights, head: Head, bias=None):
  logits = head.scale * (hidden @ table.T) + (0 if bias is None else bias[None, None])
  logits = logits[..., : head.vocab_size]
  logits = logits if head.softcap is None else head.softcap * jnp.tanh(logits / head.softcap)
  log_z = jax.nn.logsumexp(logits, axis=-1)
  even = jnp.full((head.vocab_size,), head.label_smoothing / head.vocab_size)
  wanted = (1 - head.label_smoothing) * jax.nn.one_hot(targets, head.vocab_size) + even[None, None]
  nll = log_z - jnp.sum(wanted * logits, axis=-1)
  return jnp.sum(weights * (nll + head.z_loss * log_z**2))


def check_loss(loss, head: Head, bias=None) -> None:
  hidden, table, targets, weights = inputs()
  given = (hidden, table) if bias is None else (hidden, table, bias)

  def compare(f):
    total = lambda h, t, *b: 3 * f(h, t, targets, weights, head, *b)  # noqa: E731
    return quick_jit(jax.value_and_grad(total, argnums=tuple(range(len(given)))))(*given)

  value, gradients = compare(loss)
  expected, expected_gradients = compare(textbook)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  for got, wanted in zip(gradients, expected_gradients, strict=True):
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def total(*args, **kwargs):
  return cross_entropy(*args, **kwargs).total


@pytest.mark.parametrize("name", HEADS)
def test_the_fused_loss_and_its_gradients_equal_the_textbook(name):
  check_loss(total, HEADS[name])


def test_in_chunks_the_logits_never_exist_at_once():
  hidden, table, targets, weights = inputs()

  def arrays(chunks: int) -> str:
    loss = functools.partial(total, head=Head(V, chunks=chunks))
    return str(jax.make_jaxpr(jax.grad(loss))(hidden, table, targets, weights))

  assert f"f32[{B * L},{V}]" in arrays(1)
  assert f"f32[{B * L},{V}]" not in arrays(5)
  assert f"f32[2,{V}]" in arrays(5)


def test_chunks_stay_on_their_devices_and_change_nothing_on_a_mesh():
  layout = Layout(make_mesh({"data": 2, "fsdp": 2, "tensor": 2}))
  generator = np.random.default_rng(0)
  hidden, table = generator.standard_normal((8, 6, D), np.float32), generator.standard_normal((V, D), np.float32)
  targets, weights = generator.integers(0, V, (8, 6)).astype(np.int32), generator.random((8, 6), np.float32)
  places = (batch_sharding(layout.mesh), NamedSharding(layout.mesh, PartitionSpec("tensor", "fsdp")))

  def loss(hidden, table, chunks):
    with use_layout(layout):
      return cross_entropy(hidden, table, targets, weights, Head(V, chunks=chunks)).total

  def result(chunks):
    step = jax.jit(jax.value_and_grad(functools.partial(loss, chunks=chunks), (0, 1)), in_shardings=places)
    assert "all-to-all" not in step.lower(hidden, table).compile().as_text()
    return jax.tree.leaves(step(hidden, table))

  for got, expected in zip(result(4), result(1), strict=True):
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_a_bias_on_the_logits_counts_in_the_loss_and_has_a_gradient():
  bias = np.random.default_rng(1).standard_normal(V, np.float32)
  check_loss(total, HEADS["scaled_and_smoothed"], bias)
  assert_law_catches(check_loss, lambda *a: total(*a[:5], jax.lax.stop_gradient(a[5])), HEADS["padded"], bias)


def test_the_loss_check_notices_a_missing_scale_and_missing_smoothing():
  head = HEADS["scaled_and_smoothed"]
  for left_out in ({"scale": 1.0}, {"label_smoothing": 0.0}):
    other = dataclasses.replace(head, **left_out)
    assert_law_catches(check_loss, lambda *a, other=other: total(*a[:4], other), head)


def test_the_loss_check_notices_padding_rows_with_probability_and_a_missing_soft_cap():
  assert_law_catches(check_loss, lambda *a: total(*a[:4], dataclasses.replace(a[4], vocab_size=V)), HEADS["padded"])
  assert_law_catches(check_loss, lambda *a: total(*a[:4], Head(V)), HEADS["soft_capped"])


def test_without_a_gradient_the_sums_are_the_same():
  arguments = (*inputs(), HEADS["z_loss"])
  alone = quick_jit(cross_entropy, static_argnums=4)(*arguments)
  np.testing.assert_allclose(alone.total, textbook(*arguments), rtol=1e-5)
  np.testing.assert_allclose(alone.total, alone.nll + 0.1 * alone.z, rtol=1e-5)
  np.testing.assert_allclose(alone.weight, arguments[3].sum(), rtol=1e-6)


def test_token_log_probs_sum_to_the_loss_and_count_the_hits():
  hidden, table, targets, weights = inputs()
  log_probs = token_log_probs(hidden, table, targets, HEADS["padded"])
  sums = cross_entropy(hidden, table, targets, weights, HEADS["padded"])
  np.testing.assert_allclose(-jnp.sum(log_probs * weights), sums.nll, rtol=1e-5)
  hits = (hidden @ table.T)[..., :9].argmax(-1) == targets
  np.testing.assert_allclose(sums.correct, np.sum(hits * weights), rtol=1e-6)


def test_bfloat16_hidden_states_give_float32_sums_and_a_float32_table_gradient():
  hidden, table, targets, weights = inputs()
  low = jnp.asarray(hidden, jnp.bfloat16)
  value, (dhidden, dtable) = jax.value_and_grad(
    lambda h, t: cross_entropy(h, t, targets, weights, HEADS["plain"]).total, argnums=(0, 1)
  )(low, table)
  assert (value.dtype, dhidden.dtype, dtable.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
  np.testing.assert_allclose(value, textbook(hidden, table, targets, weights, HEADS["plain"]), rtol=2e-2)


def test_shapes_that_do_not_fit_are_named():
  hidden, table, targets, weights = inputs()
  with pytest.raises(ValueError, match="cross_entropy: model width"):
    cross_entropy(hidden, table[:, :4], targets, weights, HEADS["plain"])
