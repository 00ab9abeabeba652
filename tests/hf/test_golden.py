# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 8 without torch: for tiny weights of every family, lmx's outputs equal those recorded from `transformers`."""

import dataclasses
import functools

import numpy as np
import pytest
from golden_models import GOLDEN, NAMES, batch_and_outputs
from laws import assert_law_catches

from lmx.hf import families
from lmx.hf.importing import import_hf
from lmx.parallel.mesh import make_mesh
from tools.parity import LIMIT, gradient_errors, round_trip
from tools.reference import ours

WITH_GRADIENTS = [name for name in NAMES if (GOLDEN / name / "gradients").is_dir()]
# One of each kind of table: fused projections, experts, two stacks, several parts of one tensor, offset positions.
SHARDED = ("gpt2-language-6", "mixtral-language-2", "t5-language-6", "mamba2-language-1", "roberta-masked-8")


@functools.cache
def imported(name: str) -> ours.Imported:
  return ours.read(GOLDEN / name)


def check_parity(model: ours.Imported, name: str) -> None:
  batch, expected = batch_and_outputs(name)
  errors = ours.errors(ours.answers(model, batch), expected, batch)
  wrong = {what: error for what, error in errors.items() if not error <= LIMIT}
  assert not wrong, f"{name}: {wrong}"


@pytest.mark.parametrize("name", NAMES)
def test_an_imported_model_equals_transformers_in_logits_and_every_layer(name):
  check_parity(imported(name), name)


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients_of_the_loss_equal_those_of_transformers(name):
  batch, _ = batch_and_outputs(name)
  model = imported(name)
  errors = gradient_errors(ours.gradients(model, batch), ours.their_gradients(model, GOLDEN / name / "gradients"))
  wrong = {what: error for what, error in errors.items() if not error <= LIMIT}
  assert not wrong, f"{name}: {wrong}"


def test_parity_notices_keys_read_as_queries(monkeypatch):
  llama = families.FAMILIES["llama"]
  swap = {"layers.attention.key.kernel": "k_proj", "layers.attention.value.kernel": "v_proj"}
  other = {"k_proj": "v_proj", "v_proj": "k_proj"}
  rows = tuple(
    dataclasses.replace(row, theirs=row.theirs.replace(swap[row.ours], other[swap[row.ours]]))
    if row.ours in swap else row
    for row in llama.backbone
  )  # fmt: skip
  monkeypatch.setitem(families.FAMILIES, "llama", dataclasses.replace(llama, backbone=rows))
  assert_law_catches(check_parity, ours.read(GOLDEN / "llama-language-7"), "llama-language-7")


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_is_written_again_is_the_same_bit_for_bit(name):
  assert round_trip(imported(name), GOLDEN / name) == 0


def test_the_round_trip_notices_one_changed_number():
  def check(model) -> None:
    assert round_trip(model, GOLDEN / "bert-span-8") == 0

  model = imported("bert-span-8")
  changed = dict(model.parameters)
  changed["head.out.bias"] = changed["head.out.bias"].at[0].add(1e-6)
  assert_law_catches(check, dataclasses.replace(model, parameters=changed))


def check_sharded(model: ours.Imported, name: str) -> None:
  for parameter, array in imported(name).parameters.items():
    np.testing.assert_array_equal(np.asarray(model.parameters[parameter]), np.asarray(array), err_msg=parameter)


@pytest.mark.parametrize("name", SHARDED)
def test_a_model_read_onto_a_mesh_equals_one_on_a_single_device(name):
  mesh = make_mesh({"fsdp": 4, "tensor": 2})
  model = import_hf(GOLDEN / name, mesh=mesh, dtype="float32")
  check_sharded(model, name)
  table = model.parameters["token_embedding.embedding"]
  assert len({str(shard.index) for shard in table.addressable_shards}) == 8


def test_the_sharded_check_notices_a_shard_in_the_wrong_place():
  model = imported("gpt2-language-6")
  moved = dict(model.parameters)
  moved["layers.mlp.up.kernel"] = np.roll(moved["layers.mlp.up.kernel"], 1, axis=1)
  assert_law_catches(check_sharded, dataclasses.replace(model, parameters=moved), "gpt2-language-6")
