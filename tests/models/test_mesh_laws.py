# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Laws 1 and 7 for every mesh of eight devices: values and gradients are one device's, a state moves between any."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches, slow_but
from mesh_cases import (
  EVERY,
  ONE,
  PAIRS,
  ROWS,
  Sizes,
  abstract_on,
  batch_for,
  fresh_on,
  layout_of,
  loss,
  name_of,
  spec_for,
  storage_shardings,
)
from specimens import DECODERS, SPECIMENS, build, quick_jit, with_spec

from lmx.errors import LmxError
from lmx.nn import losses, pipeline
from lmx.nn.moe import dispatch
from lmx.nn.pipeline import check_stages, schedule_of
from lmx.parallel.mesh import batch_sharding
from lmx.parallel.sharding import use_layout
from lmx.training.checkpoint import Checkpointer
from lmx.trees import named_leaves


@functools.cache
def wanted(spec):
  """The model, and the loss and gradients of one device."""
  model = quick_jit(lambda: build(spec, nnx.Rngs(0)))()
  return model, quick_jit(jax.value_and_grad(loss))(model, batch_for(hasattr(spec, "encoder_layers")))


def compiled_on(spec, sizes: Sizes):
  """The loss and its gradients as one program over the mesh, and its arguments."""
  model, _ = wanted(dataclasses.replace(spec, **ONE_STAGE))
  model = with_spec(model, **{key: getattr(spec, key) for key in ONE_STAGE})
  layout = layout_of(sizes)

  def both(model, batch):
    with use_layout(layout):
      return jax.value_and_grad(loss)(model, batch)

  batch = batch_for(hasattr(spec, "encoder_layers"))
  arguments = jax.device_put((model, batch), (storage_shardings(model, layout), batch_sharding(layout.mesh)))
  return quick_jit(both).lower(*arguments).compile(), arguments


ONE_STAGE = {"stage_rounds": 1, "stage_micro_batches": None, "remat": "none"}


def check_sharded_equals_single(sizes: Sizes, spec) -> None:
  """Law 1, for the loss and the gradient of every parameter.

  A bias of keys shifts all scores of a query alike, which softmax does not see: its gradient is zero but for rounding,
  which need not agree.
  """
  _, expected = wanted(dataclasses.replace(spec, **ONE_STAGE))
  program, arguments = compiled_on(spec, sizes)
  got = named_leaves(program(*arguments))
  leaves = named_leaves(expected)
  zero = 1e-6 * max(float(np.max(np.abs(leaf))) for leaf in leaves.values())
  for path, leaf in leaves.items():
    if path.endswith("attention.key.bias") and np.max(np.abs(leaf)) < zero:
      assert np.max(np.abs(got[path])) < zero, path
      continue
    largest = max(1e-6, float(np.max(np.abs(leaf))))
    np.testing.assert_allclose(got[path], leaf, rtol=0, atol=1e-4 * largest, err_msg=path)


@pytest.mark.parametrize("mesh", slow_but([name_of(sizes) for sizes in PAIRS], EVERY))
def test_sharded_equals_single_device_on_every_mesh(mesh):
  check_sharded_equals_single(EVERY[mesh], spec_for(EVERY[mesh]))


# Models with other mixers, positions, stacks and heads, on a mesh that has a pipeline and split rows.
OTHERS = {
  "gemma2": {"layers": 4},  # Layers with a window and without, in turns.
  "gpt2": {},
  "mamba2": {},
  "relative": {},
  "bert": {},
  "modernbert": {"global_every": 2},  # A first layer without a norm, in the first stage alone.
  "t5": {"encoder_layers": 2},
  "original": {},
  "embedder": {},
  "last_token_classifier": {},
}


@pytest.mark.parametrize("name", slow_but(("gemma2", "modernbert", "t5"), OTHERS))
def test_every_family_equals_single_device_with_stages_and_split_rows(name):
  spec = dataclasses.replace(SPECIMENS[name], dropout=0.0, **OTHERS[name])
  check_sharded_equals_single((1, 2, 2, 1, 1, 2, 1), spec)


def _plain(**changes):
  return dataclasses.replace(DECODERS["windowed"], **changes)


STAGES, EXPERTS, SEQUENCE = (1, 2, 2, 2, 1, 1, 1), (1, 1, 2, 1, 2, 1, 2), (1, 1, 2, 1, 1, 4, 1)


@pytest.mark.parametrize("remat", slow_but(("full",), ("none", "full", "dots")))
def test_a_pipeline_whose_micro_batches_come_round_equals_single_device(remat):
  check_sharded_equals_single(STAGES, _plain(layers=4, stage_rounds=2, stage_micro_batches=4, remat=remat))


def test_the_laws_notice_a_stage_that_keeps_what_it_should_hand_on(monkeypatch):
  monkeypatch.setattr(pipeline, "_to_next_stage", lambda y, stages: y)
  assert_law_catches(check_sharded_equals_single, STAGES, _plain())


def test_the_laws_notice_tokens_that_do_not_travel_to_their_experts(monkeypatch):
  monkeypatch.setattr(dispatch, "ragged_all_to_all", lambda rows, sizes, room: jnp.resize(rows, (room, rows.shape[1])))
  assert_law_catches(check_sharded_equals_single, EXPERTS, spec_for(layers=1))


def test_the_laws_notice_tokens_in_another_order_than_their_targets(monkeypatch):
  taken = losses._as_tokens
  monkeypatch.setattr(losses, "_as_tokens", lambda x: taken(x) if x.ndim == 3 else x.reshape(-1))
  assert_law_catches(check_sharded_equals_single, SEQUENCE, _plain(layers=1))


def test_rows_are_traded_for_heads_and_stages_hand_on_in_the_compiled_program():
  text = compiled_on(_plain(layers=1), SEQUENCE)[0].as_text()
  assert "all-to-all" in text
  text = compiled_on(_plain(), STAGES)[0].as_text()
  assert "collective-permute" in text


def test_rows_that_the_devices_do_not_divide_are_run_without_a_pipeline():
  with use_layout(layout_of(STAGES)):
    assert schedule_of(ROWS, 1, None) == pipeline.Schedule(2, 1, 2)
    assert schedule_of(ROWS, 1, 3) == pipeline.Schedule(2, 1, 2)  # Three don't divide a stage's four rows.
    assert schedule_of(ROWS - 1, 1, None) is None
  with use_layout(layout_of(EXPERTS)):
    assert schedule_of(ROWS, 1, None) is None


def test_layers_that_the_stages_do_not_divide_name_the_nearest_that_do():
  with pytest.raises(
    LmxError, match=r"model\.layers: got 6\..*= 4\. Fix: --config\.model\.layers=4, or --config\.mesh"
  ):
    check_stages(2, 2, 6, 1, "config.model.layers")
  with pytest.raises(LmxError, match=r"the kinds of layers repeat every 6 layers\) = 12"):
    check_stages(2, 1, 8, 6, "config.model.layers")
  check_stages(1, 2, 7, 3, "config.model.layers")


# ---------------------------------------------------------------------------------------------------------- law 7


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A state on slices, stages and experts, and its checkpoint."""
  state = fresh_on(layout_of((2, 2, 1, 1, 2, 1, 1)))
  folder = tmp_path_factory.mktemp("saved")
  with Checkpointer(folder) as checkpoints:
    checkpoints.save(1, state, {})
  return folder, jax.tree.map(np.asarray, state)


def restored_on(folder, sizes: Sizes):
  abstract = abstract_on(layout_of(sizes))
  with Checkpointer(folder) as checkpoints:
    return checkpoints.restore(abstract)[0], abstract


def check_restored_equals_saved(sizes: Sizes, folder, state, restore=restored_on) -> None:
  got, abstract = restore(folder, sizes)
  assert jax.tree.map(lambda leaf: leaf.sharding, got) == jax.tree.map(lambda leaf: leaf.sharding, abstract)
  jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, got), state)


@pytest.mark.parametrize("mesh", slow_but(["one", name_of(PAIRS[3])], ["one", *EVERY]))
def test_a_state_restored_on_any_mesh_equals_the_saved_one(mesh, saved):
  check_restored_equals_saved(EVERY.get(mesh, ONE), *saved)


def test_the_law_of_restoring_notices_layers_in_another_order(saved):
  def reordered(folder, sizes):
    got, abstract = restored_on(folder, sizes)
    turned = {name: leaf[::-1] if name.startswith("layers.") else leaf for name, leaf in got.params.items()}
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract.params)
    return dataclasses.replace(got, params=jax.device_put(turned, shardings)), abstract

  assert_law_catches(check_restored_equals_saved, PAIRS[3], *saved, restore=reordered)
