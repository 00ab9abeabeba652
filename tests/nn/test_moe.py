# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The mixture of experts against its definition, on one device and several."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches
from mesh_cases import storage_shardings
from specimens import equations, quick_jit

from lmx.errors import LmxError
from lmx.models.spec import TransformerSpec
from lmx.nn.attention.kernel_check import check_experts, expert_errors
from lmx.nn.context import Context
from lmx.nn.layers.activations import ACTIVATIONS
from lmx.nn.layers.initializers import make_scheme
from lmx.nn.moe import dispatch as dispatching
from lmx.nn.moe.grouped import grouped_product, matrix_gradients
from lmx.nn.moe.layer import MixtureOfExperts, MixtureShape
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout, use_layout
from lmx.trees import named_leaves

SHAPE = MixtureShape(
  width=8,
  experts=4,
  experts_per_token=2,
  expert_width=16,
  shared_width=None,
  normalize=True,
  load_balance=0.01,
  router_z=0.001,
)
SHAPES = {
  "mixtral": SHAPE,
  "qwen": dataclasses.replace(SHAPE, shared_width=8, normalize=False),
  "switch": dataclasses.replace(SHAPE, experts_per_token=1, normalize=False),
}
X = np.random.default_rng(0).normal(size=(4, 6, 8)).astype(np.float32)
SEGMENTS = np.array([[1] * 6, [1, 1, 2, 2, 0, 0], [1] * 5 + [0], [1, 0, 0, 0, 0, 0]], np.int32)


@functools.cache
def layer(name: str, activation: str = "swiglu") -> MixtureOfExperts:
  scheme = make_scheme("normal", std=0.5, layers=1)
  return MixtureOfExperts(SHAPES[name], ACTIVATIONS[activation], scheme=scheme, dtype="float32", rngs=nnx.Rngs(0))


def by_definition(layer: MixtureOfExperts, x_BLD):
  """Every token through every expert, weighted by zero where it wasn't chosen."""
  shape, kernels = layer.shape, layer.experts.kernels()
  probs = jax.nn.softmax(x_BLD @ layer.router.kernel[...][None], axis=-1)
  kept = probs >= jnp.sort(probs, axis=-1)[..., -shape.experts_per_token, None]
  weights = jnp.where(kept, probs, 0)
  if shape.normalize:
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
  inner = layer.function(jnp.einsum("bld,edf->blef", x_BLD, kernels["gate"] if "gate" in kernels else kernels["up"]))
  if "gate" in kernels:
    inner = inner * jnp.einsum("bld,edf->blef", x_BLD, kernels["up"])
  y = jnp.einsum("blef,efd,ble->bld", inner, kernels["down"], weights)
  if layer.shared is None:
    return y
  return y + jax.nn.sigmoid(layer.shared_gate(x_BLD)) * layer.shared(x_BLD, Context())[0]


def value_and_gradient(function, layer, x):
  def total(layer, x):
    return jnp.sum(jnp.sin(function(layer, x)))

  return quick_jit(jax.value_and_grad(total, argnums=(0, 1)))(layer, x)


def check_definition(function, name: str, activation: str = "swiglu") -> None:
  got = value_and_gradient(function, layer(name, activation), X)
  expected = value_and_gradient(by_definition, layer(name, activation), X)
  for path, leaf in named_leaves(expected).items():
    np.testing.assert_allclose(named_leaves(got)[path], leaf, rtol=1e-4, atol=1e-5, err_msg=path)


def forward(layer, x):
  return layer(x, Context())[0]


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
@pytest.mark.parametrize("name", SHAPES)
def test_values_and_gradients_are_those_of_the_definition(name, platform, monkeypatch):
  monkeypatch.setattr(dispatching, "platform", lambda: platform)
  check_definition(forward, name)


def product_flops(one) -> int:
  """Of a `dot_general`."""
  (contracted, _), _ = one.params["dimension_numbers"]
  return 2 * one.outvars[0].aval.size * math.prod(one.invars[0].aval.shape[axis] for axis in contracted)


@pytest.mark.parametrize(("experts", "k"), [(8, 2), (64, 8)])
def test_a_gpu_multiplies_a_quarter_more_rows_than_there_are_at_worst(experts, k, monkeypatch):
  """Its XLA multiplies every row by every expert's weights in `ragged_dot`."""
  monkeypatch.setattr(dispatching, "platform", lambda: "cuda")
  tokens, width, wide = 16384, 1024, 2048
  array = lambda *shape, dtype="bfloat16": jax.ShapeDtypeStruct(shape, dtype)  # noqa: E731
  kernels = {"up": array(experts, width, wide), "down": array(experts, wide, width)}

  def loss(x, kernels, weights, chosen):
    return jnp.sum(dispatching.run_experts(jax.nn.relu, x, weights, chosen, kernels))

  inputs = (array(tokens, width), kernels, array(tokens, k, dtype="float32"), array(tokens, k, dtype="int32"))
  found = list(equations(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(*inputs).jaxpr))
  assert not [one for one in found if "ragged" in one.primitive.name]
  flops = sum(product_flops(one) for one in found if one.primitive.name == "dot_general")
  assert flops < 1.26 * 2 * 3 * 2 * tokens * k * width * wide


def test_gradients_of_weights_are_added_up_over_blocks_in_float32(monkeypatch):
  monkeypatch.setattr(dispatching, "platform", lambda: "cuda")
  monkeypatch.setattr(dispatching, "block_rows", lambda rows, experts: 1)
  plan = dispatching.blocked_dispatch(jnp.zeros((1024, 1), jnp.int32), 2)
  rows = jnp.ones((plan.source.size, 1), jnp.bfloat16)
  gradient = jax.grad(lambda kernels: jnp.sum(plan.multiply(rows, kernels)[:1024].astype(jnp.float32)))(
    jnp.ones((2, 1, 1), jnp.bfloat16)
  )
  np.testing.assert_array_equal(gradient[:, 0, 0], [1024, 0])  # In bfloat16 256 ones and one more are 256.


def test_an_ungated_mlp_serves_as_an_expert():
  check_definition(forward, "mixtral", "gelu_tanh")


def test_no_token_is_dropped_when_all_choose_the_same_experts():
  same = np.broadcast_to(X[:1, :1], X.shape)
  got = quick_jit(forward)(layer("mixtral"), same)
  np.testing.assert_allclose(got, quick_jit(by_definition)(layer("mixtral"), same), rtol=1e-4, atol=1e-5)
  assert np.all(np.ptp(got, axis=(0, 1)) < 1e-5)


def test_the_definition_check_notices_weights_that_are_not_normalised():
  def unnormalised(layer, x):
    changed = nnx.clone(layer)
    changed.shape = dataclasses.replace(layer.shape, normalize=False)
    return changed(x, Context())[0]

  assert_law_catches(check_definition, unnormalised, "mixtral")


@pytest.mark.parametrize(
  "sizes",
  [
    {"data": 4, "tensor": 2},
    {"data": 2, "fsdp": 2, "tensor": 2},
    {"expert": 4, "sequence": 2},
    {"data": 2, "expert": 2, "tensor": 2},
    {"expert": 2, "fsdp": 4},  # More parts than rows.
  ],
  ids=str,
)
def test_sharded_equals_single_device(sizes):
  def losses(layer, x, segments):
    y, auxiliary = layer(x, Context(segments))
    return jnp.sum(jnp.sin(y)) + sum(loss for loss, _ in auxiliary.values())

  one = quick_jit(jax.value_and_grad(losses))(layer("qwen"), X, SEGMENTS)
  layout = Layout(make_mesh(sizes))

  @quick_jit
  def sharded(layer, x, segments):
    with use_layout(layout):
      return jax.value_and_grad(losses)(layer, x, segments)

  placed = jax.device_put(layer("qwen"), storage_shardings(layer("qwen"), layout))
  many = sharded(placed, X, SEGMENTS)
  for path, leaf in named_leaves(one).items():
    np.testing.assert_allclose(named_leaves(many)[path], leaf, rtol=1e-4, atol=1e-5, err_msg=path)


# ---------------------------------------------------------------------------------------------------------- losses


def auxiliary(segments=SEGMENTS, x=X, name="mixtral"):
  return {
    key: np.array(value)
    for key, value in quick_jit(lambda layer, x, segments: layer(x, Context(segments))[1])(
      layer(name), x, segments
    ).items()
  }


def test_losses_add_over_rows_and_leave_padding_out():
  together = auxiliary()
  apart = [auxiliary(SEGMENTS[[i]], X[[i]]) for i in range(4)]
  for key, value in together.items():
    np.testing.assert_allclose(value, sum(part[key] for part in apart), rtol=1e-5)
  assert together["router_z"][1] == np.sum(SEGMENTS > 0)
  noisy = np.where(SEGMENTS[..., None] > 0, X, 7.0).astype(np.float32)
  for key, value in auxiliary(x=noisy).items():
    np.testing.assert_allclose(value, together[key], rtol=1e-5)


def test_an_even_router_has_a_balance_loss_of_one_per_token_and_a_lopsided_one_more():
  losses = quick_jit(lambda layer, x: layer(x, Context())[1])
  even = nnx.clone(layer("switch"))
  even.router.kernel = nnx.Param(jnp.zeros((8, 4)))
  value, tokens = losses(even, X)["load_balance"]
  np.testing.assert_allclose(value / tokens, 0.01, rtol=1e-5)  # Whatever top-k picks, P is 1 / E everywhere.
  lopsided = nnx.clone(layer("switch"))
  lopsided.router.kernel = nnx.Param(jnp.zeros((8, 4)).at[0, 2].set(100.0))
  value, tokens = losses(lopsided, np.abs(X) + 1)["load_balance"]
  np.testing.assert_allclose(value / tokens, 0.04, rtol=1e-4)  # All on one of four experts.
  z, tokens = losses(even, X)["router_z"]
  np.testing.assert_allclose(z / tokens, 0.001 * np.log(4) ** 2, rtol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
@pytest.mark.parametrize(("activation", "dtype"), [("swiglu", "float32"), ("gelu_tanh", "bfloat16")])
def test_the_check_at_start_passes_each_way(activation, dtype, platform, monkeypatch):
  monkeypatch.setattr(dispatching, "platform", lambda: platform)
  chosen = ACTIVATIONS[activation]
  errors = expert_errors(chosen.function, chosen.gated, experts=4, experts_per_token=2, dtype=dtype)
  assert set(errors) == {"output", "token gradient", "weight gradient", "up gradient", "down gradient"} | (
    {"gate gradient"} if chosen.gated else set()
  )
  assert max(errors.values()) < (2e-5 if dtype == "float32" else 3e-2)


def test_the_check_at_start_reports_what_was_checked_and_notices_a_lost_row(monkeypatch):
  check = functools.partial(check_experts, jax.nn.relu, False, experts=4, experts_per_token=2, dtype="float32")
  assert check().startswith("blocks, checked here against the definition")
  whole = dispatching.blocked_dispatch

  def forgetting(chosen, experts):
    plan = whole(chosen, experts)
    return dataclasses.replace(plan, row=plan.row.at[3, 1].set(plan.source.size))

  monkeypatch.setitem(dispatching.DISPATCHES, "blocks", forgetting)
  with pytest.raises(LmxError, match=r"differ from their definition.*output by"):
    check()


def test_a_run_of_experts_reports_that_they_were_checked():
  spec = TransformerSpec(vocab_size=64, layers=1, width=32, heads=2, context=16, experts=4, mlp_bias=False)
  checks = spec.check_kernels("cpu")
  assert list(checks) == ["attention", "experts"]
  assert list(dataclasses.replace(spec, experts=None).check_kernels("cpu")) == ["attention"]


@pytest.mark.parametrize("sizes", [[7, 0, 13, 4], [0, 0, 24, 0], [5, 6, 7, 0]], ids=str)
@pytest.mark.parametrize(("rows", "inner", "outer"), [(24, 8, 12), (24, 200, 130)])
def test_the_kernel_of_matrix_gradients_adds_up_each_group_s_rows(rows, inner, outer, sizes):
  generator = np.random.default_rng(0)
  x, dy = (jnp.asarray(generator.standard_normal((rows, size), np.float32)) for size in (inner, outer))
  got = matrix_gradients(x, dy, jnp.asarray(sizes, jnp.int32), interpret=True)
  group = np.repeat(np.arange(5), [*sizes, rows - sum(sizes)])  # The last is of none.
  expected = [np.einsum("ri,ro->io", x[group == number], dy[group == number]) for number in range(4)]
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_a_tpu_has_kernels_for_products_of_experts_and_for_both_gradients():
  array = lambda *shape, dtype="bfloat16": jax.ShapeDtypeStruct(shape, dtype)  # noqa: E731
  function = jax.grad(lambda x, w, sizes: jnp.sum(jnp.sin(grouped_product(x, w, sizes))), argnums=(0, 1))
  inputs = (array(64, 128), array(4, 128, 256), array(4, dtype="int32"))
  text = jax.jit(function).trace(*inputs).lower(lowering_platforms=("tpu",)).as_text()
  assert text.count('"chlo.ragged_dot"') == 2  # Forward, and of the rows.
  assert text.count("tpu_custom_call") == 1
  assert "tgmm" in text


def test_products_of_experts_in_a_pipeline_have_no_batch_that_a_tpu_does_not_support():
  generator = np.random.default_rng(0)
  x, w = (jnp.asarray(generator.standard_normal(shape, np.float32)) for shape in ((2, 6, 8), (2, 3, 8, 4)))
  sizes = jnp.asarray([[2, 3, 1], [0, 6, 0]], jnp.int32)

  def total(product, x, w):
    return jnp.sum(jnp.sin(jax.vmap(product)(x, w, sizes)))

  got, expected = (jax.grad(functools.partial(total, product), argnums=(0, 1)) for product in
                   (grouped_product, jax.lax.ragged_dot))  # fmt: skip
  for ours, theirs in zip(got(x, w), expected(x, w), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
  ranks = {len(one.invars[0].aval.shape) for one in equations(jax.make_jaxpr(got)(x, w).jaxpr)
           if "ragged_dot" in one.primitive.name}  # fmt: skip
  assert ranks == {2}
