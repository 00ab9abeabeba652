# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx config explain` lists the shardings that arrays on a mesh really have."""

import math

import jax
import pytest
from laws import assert_law_catches
from tiny_runs import ROOT, overrides

from lmx.cli.main import main
from lmx.config.loading import load
from lmx.errors import LmxError
from lmx.experiment.build import abstract_setup
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout
from lmx.plan.explain import explain
from lmx.training.state import abstract_state

MESH = {"mesh__data": 2, "mesh__fsdp": 2, "mesh__tensor": 2}


def explained(tmp_path, devices=8, **changes):
  network, shapes = abstract_setup(load(str(ROOT / "configs" / "base.py"), overrides(tmp_path, **changes)), devices)
  return network, explain(network, **shapes)


def bytes_on_one_device(tree) -> int:
  return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_bytes(found, network, layout: Layout) -> None:
  state = abstract_state(network.plan, network.optimizer, layout)
  assert found.parameter_bytes == bytes_on_one_device(state.params)
  assert found.optimizer == bytes_on_one_device(state.opt_state)


def test_bytes_are_those_of_the_state_on_a_mesh_that_exists(tmp_path):
  network, found = explained(tmp_path, **MESH)
  check_bytes(found, network, Layout(make_mesh({"data": 2, "fsdp": 2, "tensor": 2})))
  assert_law_catches(lambda mesh: check_bytes(found, network, Layout(make_mesh(mesh))), {"data": 8})


def test_every_parameter_and_what_splits_it_is_listed(tmp_path):
  network, found = explained(tmp_path, **MESH)
  assert [one.name for one in found.parameters] == list(network.plan.shapes)
  (up,) = (one for one in found.parameters if one.name == "layers.mlp.up.kernel")
  assert (up.axes, up.why) == (("layers", "embed", "mlp"), "embed -> fsdp = 2, mlp -> tensor = 2")
  assert up.bytes == 16 * 64 * 4 // 4


def test_activations_of_a_micro_batch_have_their_axes_and_bytes(tmp_path):
  _, found = explained(tmp_path, **MESH, train__micro_batches=2)
  by_axes = {one.axes: one for one in found.activations}
  mlp = by_axes["batch", "length", "mlp"]
  assert (mlp.shape, mlp.bytes, mlp.count) == ((4, 32, 64), 4 * 32 * 64 * 4 // 8, 1)
  assert by_axes["tokens", "vocab"].shape[0] == 4 * 32
  assert [one.bytes for one in found.activations] == sorted((one.bytes for one in found.activations), reverse=True)


@pytest.mark.parametrize(
  "changes",
  [
    {"model__family": "encoder", "objective__name": "classification", "data__packing": "padded"},
    {"model__family": "encoder_decoder", "objective__name": "span_corruption", "tokenizer__extra_ids": 8,
     "data__encoder_length": 16},
    {"model__experts": 2, "model__activation": "swiglu", "model__mlp_bias": False},
  ],
  ids=["encoder", "encoder_decoder", "experts"],
)  # fmt: skip
def test_every_family_can_be_explained_on_devices_that_do_not_exist(tmp_path, changes):
  _, found = explained(tmp_path, devices=64, mesh__data=4, mesh__fsdp=2, mesh__tensor=8, model__heads=8,
                       train__batch_size=8, **changes)  # fmt: skip
  assert found.activations
  assert any("tensor = 8" in one.why for one in found.parameters)


def test_a_dimension_that_does_not_divide_is_named_with_the_key(tmp_path):
  with pytest.raises(
    LmxError, match=r"\(kv_heads\): got 2\. .* config\.mesh\.tensor = 8\. Fix: --config\.mesh\.tensor=2, or a size of 8"
  ):
    explained(tmp_path, mesh__tensor=8)


def test_the_command_prints_every_parameter(capsys):
  assert main(["config", "explain", "--config=configs/llama.py:1b", "--config.mesh.tensor=4", "--devices=64"]) == 0
  output = capsys.readouterr().out
  assert "llama_1b on 64 devices: fsdp 16, tensor 4" in output
  assert "layers.mlp.up.kernel (layers 16, embed 2048, mlp 8192) float32" in output
  assert "77.3MB of parameters" in output
