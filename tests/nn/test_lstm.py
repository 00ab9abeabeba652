# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The LSTM layer against its equations: values, and the hand-written gradient against JAX's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches
from mesh_cases import storage_shardings
from specimens import quick_jit

from lmx.nn.layers import lstm
from lmx.nn.layers.initializers import make_scheme
from lmx.nn.layers.lstm import LSTMLayer
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout, use_layout
from lmx.trees import named_leaves

B, L, D = 4, 7, 8
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(B, L, D)).astype(np.float32)
STATE = tuple(RANDOM.normal(size=(B, D)).astype(np.float32) for _ in range(2))
REAL = np.array([[1] * 7, [1] * 7, [1] * 4 + [0] * 3, [1, 1, 0, 0, 1, 1, 1]], bool)
STARTS = np.array([[0] * 7, [0, 0, 0, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0]], bool)


@functools.cache
def layer() -> LSTMLayer:
  return LSTMLayer(D, scheme=make_scheme("normal", std=0.5, layers=1), dtype="float32", rngs=nnx.Rngs(0))


def by_equations(layer, x, state, starts, real):
  """The equations, token by token, with JAX's own gradient."""
  h, c = state
  outputs = []
  for t in range(L):
    start, now = starts[:, t, None], real[:, t, None]
    h, c = jnp.where(start, 0, h), jnp.where(start, 0, c)
    z = jnp.einsum("bd,dge->bge", x[:, t], layer.input.kernel[...]) + layer.input.bias[...][None]
    z = z + jnp.einsum("bd,dge->bge", h, layer.recurrent.kernel[...])
    i, f, g, o = (z[:, number] for number in range(4))
    new_c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    new_h = jax.nn.sigmoid(o) * jnp.tanh(new_c)
    h, c = jnp.where(now, new_h, h), jnp.where(now, new_c, c)
    outputs.append(h)
  return jnp.stack(outputs, axis=1), (h, c)


def value_and_gradient(run):
  def total(layer, x, state):
    h, (last_h, last_c) = run(layer, x, state, STARTS, REAL)
    return jnp.sum(jnp.sin(h)) + jnp.sum(jnp.cos(last_h) * last_c)

  return quick_jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(layer(), X, STATE)


def check_equations(run) -> None:
  got, expected = value_and_gradient(run), value_and_gradient(by_equations)
  for path, leaf in named_leaves(expected).items():
    np.testing.assert_allclose(named_leaves(got)[path], leaf, rtol=1e-4, atol=1e-5, err_msg=path)


def forward(layer, *arguments):
  return layer(*arguments)


def test_values_and_gradients_are_those_of_the_equations():
  check_equations(forward)


@pytest.mark.parametrize("number", [2, 3])
def test_the_check_notices_ignored_starts_and_ignored_padding(number):
  def broken(layer, *arguments):
    arguments = list(arguments)
    arguments[number] = jnp.zeros_like(STARTS) if number == 2 else jnp.ones_like(REAL)
    return layer(*arguments)

  assert_law_catches(check_equations, broken)


def test_the_check_notices_a_gradient_that_forgets_the_state(monkeypatch):
  backward = lstm._cell_backward
  monkeypatch.setattr(lstm, "_cell_backward", lambda gates, c, dh, dc: backward(gates, c, dh, 0 * dc))
  assert_law_catches(check_equations, forward)


def test_the_forget_gate_starts_open_and_other_biases_at_zero():
  np.testing.assert_array_equal(layer().input.bias[...], np.eye(4)[1][:, None] * np.ones((4, D)))


def test_sharded_equals_single_device():
  def loss(layer, x):
    return jnp.sum(jnp.sin(layer(x, STATE, STARTS, REAL)[0]))

  layout = Layout(make_mesh({"data": 2, "fsdp": 2, "tensor": 2}))

  @quick_jit
  def sharded(layer, x):
    with use_layout(layout):
      return jax.value_and_grad(loss)(layer, x)

  expected = quick_jit(jax.value_and_grad(loss))(layer(), X)
  got = sharded(jax.device_put(layer(), storage_shardings(layer(), layout)), X)
  for path, leaf in named_leaves(expected).items():
    np.testing.assert_allclose(named_leaves(got)[path], leaf, rtol=1e-4, atol=1e-5, err_msg=path)
