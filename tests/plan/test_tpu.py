# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 15: a step compiles for every kind of TPU with the options of a run. Law 16: its bytes are those of arithmetic.

No TPU is needed: libtpu compiles ahead of time. `pytest -m tpu`, with the extra lmx[tpu]; .ci/run does so with each
pair of jax and libtpu that constraints.txt has.
"""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from laws import assert_law_catches

from lmx.config import loading as configs
from lmx.nn.attention.flash import splash_attention
from lmx.nn.attention.masks import Mask
from lmx.parallel.compilation_cache import without_compilation_cache
from lmx.parallel.compiler_options import compiler_options
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout, use_layout
from lmx.plan.compile_step import compile_step, make_plan
from lmx.plan.hlo import Program, read_program
from lmx.plan.topology import parse_topology, tpu_devices
from lmx.versions import TESTED_LIBTPU, libtpu_warning

pytestmark = pytest.mark.tpu
HOSTS = ("v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1")
TINY = ["model.layers=2", "model.width=256", "model.heads=4", "model.context=256", "data.length=256",
        "train.batch_size=16", "compute.dtype=bfloat16", "compute.layers=scanned", "compute.remat=full",
        "compute.loss_chunks=2", "mesh.data=1", "mesh.fsdp=-1"]  # fmt: skip


@pytest.fixture(autouse=True)
def without_the_cache_of_compiled_programs():
  """For the programs that tests compile by themselves."""
  with without_compilation_cache():
    yield


@functools.cache
def tiny_plan(topology: str):
  return make_plan(configs.load("configs/cpu.py", TINY), devices_of(topology))


def devices_of(topology: str):
  return tpu_devices(parse_topology(topology))


@pytest.mark.parametrize("topology", HOSTS)
def test_a_step_compiles_with_the_options_of_a_run(topology):
  plan = tiny_plan(topology)
  assert plan.program.matmul_cycles > 0
  assert any("splash" in name for name in plan.program.kernels), "attention is not what a run would get"
  assert plan.memory.total < plan.memory.limit
  gathered = sum(one.bytes * one.count for one in plan.program.collectives if one.kind == "all-gather")
  assert gathered > plan.memory.parameters  # Of each device a part, whole in bfloat16.
  hidden = sum(one.bytes * one.count for one in plan.program.collectives if one.overlapped)
  assert hidden > 0


@pytest.mark.parametrize("topology", ["v5e:2x2", "v6e:2x2", "tpu7x:2x2x1"])
def test_experts_compile_with_the_options_of_a_run(topology):
  mixture = ["model.experts=4", "model.experts_per_token=2", "model.expert_width=256", "model.mlp_bias=False"]
  plan = make_plan(configs.load("configs/cpu.py", [*TINY, *mixture]), devices_of(topology))
  assert plan.program.grouped_flops > 0


def test_one_chip_and_several_slices_compile():
  config = configs.load("configs/cpu.py", TINY)
  assert make_plan(config, devices_of("v6e:1x1")).devices == 1
  assert make_plan(config, devices_of("tpu7x:1x1x1")).devices == 2
  config.mesh.slice = 2
  plan = make_plan(config, devices_of("2xv6e:2x2"))
  assert any(one.axes == ("slice",) for one in plan.program.collectives)


# ---------------------------------------------------------------- bytes

LAYERS, WIDTH = 3, 512


def known_program(topology: str) -> tuple[Program, int]:
  """FSDP of LAYERS matrices with gradients, and how many devices it is for."""
  devices = devices_of(topology)
  mesh = make_mesh({"data": 1, "fsdp": -1}, devices)
  weights = NamedSharding(mesh, PartitionSpec(None, "fsdp"))

  def loss(kernels, x):
    layer = jax.checkpoint(lambda x, kernel: (jnp.tanh(x @ kernel.astype(jnp.bfloat16)), None))
    return jnp.sum(jax.lax.scan(layer, x, kernels)[0].astype(jnp.float32) ** 2)

  def step(kernels, x):
    return kernels - 0.1 * jax.grad(loss)(kernels, x)

  kernels = jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.float32, sharding=weights)
  rows = NamedSharding(mesh, PartitionSpec("fsdp"))
  x = jax.ShapeDtypeStruct((256 * len(devices), WIDTH), jnp.bfloat16, sharding=rows)
  options = compiler_options("tpu", devices[0].device_kind)
  compiled = jax.jit(step, out_shardings=weights, compiler_options=options).lower(kernels, x).compile()
  return read_program(compiled.as_text(), dict(mesh.shape)), len(devices)


def check_bytes(program: Program) -> None:
  """Weights are gathered in bfloat16 for the forward and the backward pass; gradients are reduced once."""
  parameters = LAYERS * WIDTH * WIDTH
  sums = dict.fromkeys(("all-gather", "reduced"), 0.0)
  for one in program.collectives:
    sums["all-gather" if one.kind == "all-gather" else "reduced"] += one.bytes * one.count
    assert one.axes == ("fsdp",)
  assert sums["all-gather"] == 2 * 2 * parameters
  assert sums["reduced"] in (2 * parameters, 4 * parameters)


@pytest.mark.parametrize("topology", HOSTS)
def test_the_bytes_of_fsdp_are_those_of_arithmetic(topology):
  program, _ = known_program(topology)
  check_bytes(program)
  lost = [one for one in program.collectives if one.kind == "all-gather"]
  assert_law_catches(check_bytes, Program(**{**vars(program), "collectives": lost}))


# ---------------------------------------------------------------- kernels and memory


@pytest.mark.parametrize("head_width", [64, 80, 96, 128, 192, 256])
@pytest.mark.parametrize("topology", ["v5e:2x2", "v6e:2x2", "tpu7x:2x2x1"])
def test_splash_compiles_for_every_head_width_in_use(topology, head_width):
  mesh = make_mesh(None, devices_of(topology)[:1])
  whole = NamedSharding(mesh, PartitionSpec())

  def loss(q, k, v, segments):
    with use_layout(Layout(mesh)):
      out = splash_attention(q, k, v, Mask(causal=True, query_segments=segments, key_segments=segments), 0.1, None)
    return jnp.sum(out.astype(jnp.float32) ** 2)

  q = jax.ShapeDtypeStruct((1, 256, 2, head_width), jnp.bfloat16, sharding=whole)
  segments = jax.ShapeDtypeStruct((1, 256), jnp.int32, sharding=whole)
  text = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(q, q, q, segments).compile().as_text()
  assert text.count('custom_call_target="tpu_custom_call"') == 3


@pytest.mark.parametrize("topology", HOSTS)
def test_the_memory_of_a_chip_is_what_the_compiler_enforces(topology):
  limit = tiny_plan(topology).memory.limit
  mesh = make_mesh(None, devices_of(topology)[:1])

  def compile_with(size: float) -> None:
    whole = NamedSharding(mesh, PartitionSpec())
    x = jax.ShapeDtypeStruct((int(size / 2**30 * 256), 2**20), jnp.float32, sharding=whole)
    jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()

  compile_with(0.98 * limit)
  with pytest.raises(jax.errors.JaxRuntimeError, match=r"(?i)hbm"):
    compile_with(1.02 * limit)


def test_the_pair_that_is_here_is_a_tested_one():
  assert libtpu_warning() == ""
  assert len(TESTED_LIBTPU) == 2


def test_chips_of_two_devices_keep_together_on_a_real_topology():
  grid = make_mesh({"fsdp": 32, "tensor": 4}, devices_of("tpu7x:4x4x4")).devices.reshape(-1, 2)
  assert all(tuple(a.coords) == tuple(b.coords) for a, b in grid)


def test_a_step_that_needs_too_much_reports_what_would_fit():
  config = configs.load("configs/cpu.py", [*TINY, "train.batch_size=262144", "compute.remat=none"])
  with pytest.raises(Exception, match=r"of a device's .* of memory. Fixes, the cheapest first"):
    compile_step(config, devices_of("v5e:2x2"))
