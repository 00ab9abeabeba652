# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Products of 8-bit operands: how far from float ones they are, the same in every loop and mesh; what is refused."""

import dataclasses
import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches
from mesh_cases import storage_shardings
from specimens import SPECIMENS, build, equations, quick_jit, with_spec
from tiny_rows import loss_of, packed_and_apart, without_prefix

import lmx.nn.layers.quantized
from lmx.errors import LmxError
from lmx.nn.layers.linear import contract
from lmx.nn.layers.lora import named_linears
from lmx.nn.layers.quantized import QUANTIZATIONS, check_quantization, describe_quantization
from lmx.parallel.mesh import batch_sharding, make_mesh
from lmx.parallel.sharding import Layout, use_layout
from lmx.trees import named_leaves
from lmx.units import CHIPS

needs_qwix = pytest.mark.skipif(importlib.util.find_spec("qwix") is None, reason="needs qwix: lmx[quantized]")
KINDS = ("int8", "fp8", "fp8_b11")
# Least and most relative error of a product of normal numbers: int8 has steps of 1/127 of the largest, e4m3 of 1/16 of
# each number (as e4m3b11 has), and e5m2, which gradients are in, of 1/8.
ERROR = {"int8": (0.003, 0.02), "fp8": (0.015, 0.09), "fp8_b11": (0.01, 0.09)}
SHAPES = [((2, 24, 32), (32, 2, 8), 1), ((2, 24, 2, 16), (2, 16, 24), 2)]


def relative(got, expected) -> float:
  """Norm of the difference over the norm."""
  got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
  return np.linalg.norm(got - expected) / np.linalg.norm(expected)


def value_and_gradients(product, x, kernel, dy):
  y, pull = jax.vjp(product, x, kernel)
  return y, *pull(dy.astype(y.dtype))


def operands(shapes):
  x_shape, kernel_shape, inputs = shapes
  random = np.random.default_rng(0)
  dy_shape = (*x_shape[:-inputs], *kernel_shape[inputs:])
  return tuple(jnp.asarray(random.standard_normal(shape, np.float32)) for shape in (x_shape, kernel_shape, dy_shape))


def check_error(product, kind: str, shapes, dtype) -> None:
  """`product`, dx and dW are as far from the float ones as 8 bits are, and no nearer."""
  arrays, (least, most) = operands(shapes), ERROR[kind]
  got = value_and_gradients(lambda x, k: product(x, k, shapes[2], dtype), *arrays)
  expected = value_and_gradients(lambda x, k: jnp.tensordot(x, k, shapes[2]), *arrays)
  for name, one, other in zip(("y", "dx", "dW"), got, expected, strict=True):
    assert least < relative(one, other) < most, name


@needs_qwix
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_quantized_product_and_its_gradients_are_as_near_to_the_float_ones_as_eight_bits_can_be(kind, dtype, shapes):
  check_error(functools.partial(contract, quantization=kind), kind, shapes, dtype)


@needs_qwix
@pytest.mark.parametrize("kind", KINDS)
def test_the_error_law_notices_floats_and_a_float_backward_pass(kind):
  assert_law_catches(check_error, contract, kind, SHAPES[0], "float32")

  @functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
  def forward_only(x, kernel, inputs, dtype):
    return contract(x, kernel, inputs, dtype, quantization=kind)

  forward_only.defvjp(
    lambda x, kernel, inputs, dtype: (forward_only(x, kernel, inputs, dtype), (x, kernel)),
    lambda inputs, dtype, saved, dy: jax.vjp(lambda x, k: jnp.tensordot(x, k, inputs), *saved)[1](dy),
  )
  assert_law_catches(check_error, forward_only, kind, SHAPES[0], "float32")


def dot_operands(jaxpr) -> list[tuple[str, str]]:
  """The operands' dtypes of every product in a program."""
  products = (one for one in equations(jaxpr) if one.primitive.name == "dot_general")
  return [tuple(str(operand.aval.dtype) for operand in one.invars) for one in products]


@needs_qwix
@pytest.mark.parametrize("kind", KINDS)
def test_all_three_products_of_a_layer_have_operands_of_eight_bits(kind):
  x, kernel, dy = operands(SHAPES[0])
  product = functools.partial(value_and_gradients, lambda x, k: contract(x, k, 1, "bfloat16", quantization=kind))
  bits = QUANTIZATIONS[kind]
  forward, backward = (bits.forward, bits.forward), (bits.backward, bits.forward)
  assert dot_operands(jax.make_jaxpr(product)(x, kernel, dy).jaxpr) == [forward, backward, backward]


@needs_qwix
def test_the_largest_value_is_no_tie_that_programs_round_differently():
  x = -jnp.asarray([[127.0, 3.0, 64.0]])
  y = contract(x, jnp.eye(3, dtype=jnp.float32), 1, "float32", quantization="int8")
  np.testing.assert_allclose(y, x, rtol=1e-6)  # By steps of 127 / 127.5 they would be 126.5, 2.99 and 63.7.


@needs_qwix
def test_an_outlier_in_one_row_costs_the_other_rows_nothing():
  x, kernel, _ = operands(SHAPES[0])
  alone = contract(x, kernel, 1, "float32", quantization="int8")
  with_outlier = contract(x.at[0, 0, 0].set(1e4), kernel, 1, "float32", quantization="int8")
  np.testing.assert_array_equal(alone[0, 1:], with_outlier[0, 1:])
  np.testing.assert_array_equal(alone[1], with_outlier[1])


# ---------------------------------------------------------------- models

CASES = [("gpt2", "int8"), ("llama", "fp8"), ("t5", "int8"), ("mamba2", "int8")]
# Relative, of a whole gradient. Sums in another order could be rounded to the next of 256 numbers; these are not.
TOLERANCE = 1e-3
loss_and_gradient = quick_jit(jax.value_and_grad(loss_of))


@functools.cache
def quantized(name: str, kind: str):
  """A specimen with its first parameters, whose products are of that kind. Shared, as those of `model_of` are."""
  return quick_jit(lambda: build(dataclasses.replace(SPECIMENS[name], quantization=kind), nnx.Rngs(0)))()


def batch_of(name: str):
  return without_prefix(packed_and_apart(SPECIMENS[name])[0])


def whole(gradient) -> np.ndarray:
  """All of it but the gradient of keys' biases, which is zero but for rounding."""
  return np.concatenate([np.ravel(leaf) for name, leaf in named_leaves(gradient).items() if "key.bias" not in name])


def check_way(way, name: str, kind: str) -> None:
  """`way(model, batch)` has the loss and gradient of the scanned model on one device."""
  value, gradient = way(quantized(name, kind), batch_of(name))
  expected_value, expected = loss_and_gradient(quantized(name, kind), batch_of(name))
  assert abs(value - expected_value) < TOLERANCE * abs(expected_value)
  assert relative(whole(gradient), whole(expected)) < TOLERANCE


def unrolled(model, batch):
  return loss_and_gradient(with_spec(model, layer_loop="unrolled"), batch)


def rematerialised(model, batch):
  return loss_and_gradient(with_spec(model, remat="dots"), batch)


def sharded(model, batch):
  layout = Layout(make_mesh({"data": 1, "fsdp": 2, "tensor": 2}, jax.devices()[:4]))

  @quick_jit
  def run(model, batch):
    with use_layout(layout):
      return jax.value_and_grad(loss_of)(model, batch)

  rows = jax.device_put(batch, batch_sharding(layout.mesh))
  return run(jax.device_put(model, storage_shardings(model, layout)), rows)


def in_floats(model, batch):
  """The broken twin: quantisation is forgotten on the way."""
  model = nnx.clone(model)
  for _, layer in named_linears(model):
    layer.quantization = "none"
  return loss_and_gradient(model, batch)


@needs_qwix
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_gradient_of_a_quantized_model_is_the_same_unrolled(name, kind):
  check_way(unrolled, name, kind)


@needs_qwix
def test_the_gradient_of_a_quantized_model_is_the_same_rematerialised():
  check_way(rematerialised, "gpt2", "int8")


@needs_qwix
@pytest.mark.parametrize(("name", "kind"), CASES[:3])
def test_the_gradient_of_a_quantized_model_is_the_same_on_a_mesh(name, kind):
  check_way(sharded, name, kind)


@needs_qwix
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_law_of_the_ways_notices_that_quantisation_is_forgotten(name, kind):
  assert_law_catches(check_way, in_floats, name, kind)


def test_what_is_quantized_is_projections_and_mlps_and_no_head():
  spec = dataclasses.replace(SPECIMENS["classifier"], quantization="int8")
  layers = dict(named_linears(build(spec, nnx.Rngs(0))))
  kinds = {name: layer.quantization for name, layer in layers.items()}
  assert kinds == {name: "int8" if name.startswith("layers") else "none" for name in layers}
  assert len(set(kinds.values())) == 2


# ---------------------------------------------------------------- errors and output


def test_experts_are_refused():
  with pytest.raises(LmxError, match="none with experts"):
    dataclasses.replace(SPECIMENS["mixtral"], quantization="int8")


def test_without_the_package_the_error_has_the_command_that_installs_it(monkeypatch):
  monkeypatch.setattr(lmx.nn.layers.quantized.importlib.util, "find_spec", lambda name: None)
  check_quantization("none", "cpu")
  with pytest.raises(LmxError, match=r"pip install 'lmx\[quantized\]'"):
    check_quantization("int8", "cpu")


@pytest.mark.parametrize(
  ("kind", "device", "allowed"),
  [
    ("fp8", "TPU v5 lite", "none or int8 or fp8_b11 on a TPU v5e, which multiplies fp8 no faster .* TPU7x, H100 SXM"),
    ("fp8", "TPU v6 lite", "none or int8 or fp8_b11 on a TPU v6e"),
    ("int8", "TPU7x", "none or fp8 on a TPU7x, which multiplies int8 no faster"),
    ("fp8_b11", "TPU7x", "none or fp8 on a TPU7x"),
    ("int8", "TPU v4", "none on a TPU v4"),
    ("fp8", "NVIDIA A100-SXM4-80GB", "none or int8 on a A100"),
    ("int8", "TPU v6 lite", ""),
    ("fp8_b11", "TPU v5", ""),
    ("fp8", "TPU7x", ""),
    ("fp8", "NVIDIA H100 80GB HBM3", ""),
    ("fp8", "cpu", ""),
    ("fp8", "a chip of tomorrow", ""),
  ],
)
def test_a_chip_without_units_for_it_is_refused_with_those_that_have_them(kind, device, allowed, monkeypatch):
  monkeypatch.setattr(lmx.nn.layers.quantized.importlib.util, "find_spec", lambda name: object())
  if not allowed:
    return check_quantization(kind, device)
  with pytest.raises(LmxError, match=allowed):
    check_quantization(kind, device)


def test_a_run_reports_what_its_products_are_and_that_a_cpu_only_simulates_them():
  assert describe_quantization("none", "cpu") == ""
  assert "simulated" in describe_quantization("int8", "cpu")
  assert "2 times the bf16 peak" in describe_quantization("int8", "TPU v6 lite")
  assert "unknown" in describe_quantization("int8", "a chip of tomorrow")


def test_eight_bit_peaks_are_twice_the_bf16_peak_where_there_are_any():
  ratios = {round(chip.peak(kind) / chip.bf16_flops, 2) for chip in CHIPS.values() for kind in KINDS}
  assert ratios == {0, 2}
