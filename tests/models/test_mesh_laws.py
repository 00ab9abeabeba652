# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Laws 1 and 7 for every mesh of eight devices: values and gradients are one device's, a state moves between any."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from laws import assert_law_catches, slow_but
from specimens import DECODERS, SPECIMENS, build, quick_jit

from lmx.errors import LmxError
from lmx.mesh import batch_sharding, make_mesh
from lmx.nn import dispatch, losses, pipeline
from lmx.nn.losses import cross_entropy
from lmx.nn.pipeline import check_stages, schedule_of
from lmx.optim.optimizers import make_optimizer
from lmx.optim.schedules import make_schedule
from lmx.shapes import AXES
from lmx.sharding import Layout, storage_shardings, use_layout
from lmx.training.checkpoint import Checkpointer
from lmx.training.state import Parts, abstract_state, blueprint, init_state
from lmx.trees import named_leaves

DEVICES, ROWS, LENGTH = 8, 16, 16
Sizes = tuple[int, ...]  # Devices along each of AXES.

# Three axes of two devices each: between them, these seven have every pair of axes once (the Fano plane).
PAIRS = [tuple(2 if axis in triple else 1 for axis in range(7))
         for triple in ({0, 1, 2}, {0, 3, 4}, {0, 5, 6}, {1, 3, 5}, {1, 4, 6}, {2, 3, 6}, {2, 4, 5})]  # fmt: skip
ONE = (1,) * 7


def name_of(sizes: Sizes) -> str:
  return ",".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True) if size > 1)


EVERY = {name_of(sizes): sizes for sizes in itertools.product((1, 2, 4, 8), repeat=7) if math.prod(sizes) == DEVICES}


def layout_of(sizes: Sizes) -> Layout:
  return Layout(make_mesh(dict(zip(AXES, sizes, strict=True)), jax.devices()[: math.prod(sizes)]))


def spec_for(sizes: Sizes = ONE, **changes):
  """Everything that is split, in sizes that this mesh divides: experts, fewer key-value heads than heads, layers."""
  tensor = sizes[AXES.index("tensor")]
  wanted = {
    "heads": 8,
    "kv_heads": max(2, tensor),
    "experts": 8,
    "layers": max(2, sizes[AXES.index("stage")]),
  } | changes
  return dataclasses.replace(DECODERS["mixtral"], **wanted)


@functools.cache
def batch_for(encoder: bool) -> dict[str, np.ndarray]:
  """Packed rows."""
  random = np.random.default_rng(0)
  names = ("", "encoder_") if encoder else ("",)
  batch = {}
  for prefix in names:
    batch[f"{prefix}tokens"] = random.integers(0, 35, (ROWS, LENGTH)).astype(np.int32)
    batch[f"{prefix}segment_ids"] = np.sort(random.integers(1, 4, (ROWS, LENGTH)), axis=1).astype(np.int32)
  return batch


def loss(model, batch):
  """A loss through every output of a model, weighted unevenly."""
  outputs = model(**batch)
  tokens = batch["tokens"]
  if outputs.unembedding is None:
    total = sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(outputs.scores))
  else:
    weights = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.float32)[None], tokens.shape)
    found = cross_entropy(outputs.hidden, outputs.unembedding, (tokens + 1) % 35, weights, outputs.head, outputs.bias)
    total = found.total / found.weight
  return total + sum(value / count for value, count in outputs.auxiliary.values())


@functools.cache
def wanted(spec):
  """The model, and the loss and gradients of one device."""
  model = quick_jit(lambda: build(spec, nnx.Rngs(0)))()
  return model, quick_jit(jax.value_and_grad(loss))(model, batch_for(hasattr(spec, "encoder_layers")))


def compiled_on(spec, sizes: Sizes):
  model, _ = wanted(dataclasses.replace(spec, **ONE_STAGE))
  layout = layout_of(sizes)
  stored = storage_shardings(model, layout)
  placed = dataclasses.replace(spec)

  def both(model, batch):
    model.spec = placed
    for part in ("encoder", "decoder"):
      if hasattr(model, part):
        getattr(model, part).spec = placed
    with use_layout(layout):
      return jax.value_and_grad(loss)(model, batch)

  rows = jax.device_put(batch_for(hasattr(spec, "encoder_layers")), batch_sharding(layout.mesh))
  return quick_jit(both).lower(jax.device_put(model, stored), rows).compile(), (jax.device_put(model, stored), rows)


ONE_STAGE = {"stage_rounds": 1, "stage_micro_batches": None, "remat": "none"}


def check_sharded_equals_single(sizes: Sizes, spec) -> None:
  """Law 1, for the loss and the gradient of every parameter."""
  _, expected = wanted(dataclasses.replace(spec, **ONE_STAGE))
  program, arguments = compiled_on(spec, sizes)
  got = named_leaves(program(*arguments))
  for path, leaf in named_leaves(expected).items():
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
  "t5": {"encoder_layers": 2},
  "original": {},
  "embedder": {},
  "last_token_classifier": {},
}


@pytest.mark.parametrize("name", slow_but(("gemma2", "t5"), OTHERS))
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
  with pytest.raises(LmxError, match=r"so often the kinds of layers repeat\) = 12"):
    check_stages(2, 1, 8, 6, "config.model.layers")
  check_stages(1, 2, 7, 3, "config.model.layers")


# ---------------------------------------------------------------------------------------------------------- law 7


def make_model(key):
  return build(spec_for((1, 8, 1, 1, 1, 1, 8)), nnx.Rngs(key))


@functools.cache
def parts():
  """A blueprint and an optimizer whose state is as large as the parameters."""
  plan = blueprint(make_model)
  rules = ((".*", 0.0),)
  schedule = make_schedule("cosine", peak_lr=1e-2, total_steps=20, warmup_steps=2)
  return plan, make_optimizer("adamw", schedule=schedule, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.0,
                              decay_rules=rules, axes=plan.axes, shapes=plan.dimensions)  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A state on slices, stages and experts, and what was saved of it."""
  plan, optimizer = parts()
  abstract = abstract_state(plan, optimizer, layout_of((2, 2, 1, 1, 2, 1, 1)), Parts())
  state = init_state(make_model, jax.random.key(0), plan, optimizer, abstract)
  folder = tmp_path_factory.mktemp("saved")
  with Checkpointer(folder) as checkpoints:
    checkpoints.save(1, state, {})
  return folder, jax.tree.map(np.asarray, state)


def restored_on(folder, sizes: Sizes):
  plan, optimizer = parts()
  abstract = abstract_state(plan, optimizer, layout_of(sizes), Parts())
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
