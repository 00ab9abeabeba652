# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Formulations for GPUs equal the plain ones in values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_law_catches

from lmx.nn import losses
from lmx.nn.layers import linear, norm
from lmx.nn.layers.norm import LayerNorm
from lmx.nn.losses import Head, cross_entropy


def draw(*shape: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).standard_normal(shape, np.float32)


def same(function, other, *arrays):
  """Values and gradients of a weighted sum of two functions agree."""

  def of(f):
    weighted = lambda *xs: jnp.sum(f(*xs) * draw(*f(*xs).shape, seed=9))  # noqa: E731
    return jax.tree.leaves(jax.value_and_grad(weighted, argnums=tuple(range(len(arrays))))(*arrays))

  for got, expected in zip(of(function), of(other), strict=True):
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.max(np.abs(expected)))


def test_a_bias_whose_gradient_is_a_product_with_ones():
  same(linear.add_bias, lambda y, b: y + b[None, None], draw(3, 4, 2, 5), draw(2, 5, seed=1))
  doubled = lambda y, b: y + 2 * b[None, None]  # noqa: E731
  assert_law_catches(same, linear.add_bias, doubled, draw(3, 4, 5), draw(5, seed=1))


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_norm_that_keeps_its_statistics(bias, monkeypatch):
  x, scale, shift = 3 + 2 * draw(2, 5, 16), 1 + draw(16, seed=1), draw(16, seed=2)

  def run(x, scale, shift):
    module = LayerNorm("embed", 16, eps=1e-5, bias=bias, dtype="float32")
    module.scale[...] = scale
    if module.bias is not None:
      module.bias[...] = shift
    return module(x)

  def on_gpu(*arrays):
    with monkeypatch.context() as patch:
      patch.setattr(norm, "platform", lambda: "tpu")
      return run(*arrays)

  same(on_gpu, run, x, scale, shift)
  other_statistics = lambda x, *more: on_gpu(x * x, *more)  # noqa: E731
  assert_law_catches(same, other_statistics, run, x, scale, shift)


def test_a_loss_whose_vocabulary_is_summed_in_two_stages(monkeypatch):
  hidden, table = draw(2, 3, 8), draw(48, 8, seed=1)
  targets, weights = np.array([[0, 11, 46], [5, 5, 7]]), np.ones((2, 3), np.float32)
  head = Head(vocab_size=47, z_loss=1e-2, label_smoothing=0.1)
  run = lambda hidden, table: cross_entropy(hidden, table, targets, weights, head).total  # noqa: E731

  def in_stages(hidden, table):
    with monkeypatch.context() as patch:
      patch.setattr(losses, "on_gpu", lambda: True)
      patch.setattr(losses, "_GPU_ROW", 12)
      return run(hidden, table)

  assert "optimization_barrier" in str(jax.make_jaxpr(in_stages)(hidden, table))
  same(in_stages, run, hidden, table)
