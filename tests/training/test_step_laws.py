# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Laws 1 and 2: sharded equals single-device, and K micro-batches equal one batch, for every optimizer."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_law_catches
from tiny_training import (
  BATCH,
  PLAIN,
  assert_close,
  host,
  layout,
  loss,
  loss_with_dropout,
  make_batch,
  optimizer,
  plan,
  program,
  score,
)

from lmx.optim.optimizers import OPTIMIZERS
from lmx.training.state import abstract_state, shardings_of
from lmx.training.step import StepOptions, split_rows

STEPS = range(3)
MESHES = [(8, 1, 1), (1, 8, 1), (1, 1, 8), (4, 1, 2), (2, 2, 2)]
FOUR = StepOptions(micro_batches=4)


def check_training_equals_the_reference(candidate, name: str = "adamw") -> None:
  """Three steps of `candidate` equal those of one device with one batch: every loss, norm and array."""
  reference = program(name)
  wanted, wanted_history = reference.run(reference.fresh(), STEPS)
  got, got_history = candidate.run(candidate.fresh(), STEPS)
  assert_close(got_history, wanted_history)
  # Normalised methods turn a rounding error in a gradient near zero into one of the size of a step (1e-2 here).
  assert_close(got.params, wanted.params, tolerance=3e-4)


def mean_of_means(model, batch, key, reference=None):
  """The broken twin: each call divides by its own weight, so parts of unequal weight count the same."""
  result = loss(model, batch, key)
  return dataclasses.replace(result, sum=result.sum / result.weight, weight=jnp.ones(()))


def mean_of_device_means(model, batch, key, reference=None):
  """The broken twin: eight devices each divide by their own weight."""
  del key
  parts = jax.vmap(lambda logits, rows: score(logits, rows))(
    model(batch["tokens"]).reshape(8, BATCH // 8, *batch["tokens"].shape[1:], -1),
    {name: rows.reshape(8, BATCH // 8, *rows.shape[1:]) for name, rows in batch.items()},
  )
  return dataclasses.replace(
    jax.tree.map(jnp.sum, parts), sum=jnp.sum(parts.sum / parts.weight), weight=jnp.asarray(8.0)
  )


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_sharded_training_equals_training_on_a_single_device(mesh):
  check_training_equals_the_reference(program(mesh=mesh))


@pytest.mark.parametrize("mesh", [(8, 1, 1), (2, 2, 2)], ids=str)
def test_an_optimizer_split_over_the_copies_of_the_model_gives_the_same(mesh):
  split, whole = program(mesh=mesh, zero1=True), program(mesh=mesh)
  check_training_equals_the_reference(split)
  # Each device holds its part of the moments, and the whole of its parameters.
  bytes_of = lambda tree: sum(np.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(tree))  # noqa: E731
  moments = [bytes_of(one.abstract.opt_state.mu) for one in (split, whole)]
  assert moments[0] * mesh[0] < 1.3 * moments[1]
  assert bytes_of(split.abstract.params) == bytes_of(whole.abstract.params)
  text = split.step.lower(split.abstract, make_batch(0)).compile().as_text()
  assert "all-gather" in text  # Of the parameters, after each has updated its part.


def test_the_law_of_sharding_notices_a_mean_of_device_means():
  assert_law_catches(check_training_equals_the_reference, program(mesh=(8, 1, 1), objective=mean_of_device_means))


@pytest.mark.parametrize("parts", [4, 16])
def test_micro_batches_of_unequal_weight_equal_one_batch(parts):
  check_training_equals_the_reference(program(options=StepOptions(micro_batches=parts)))


def test_the_law_of_micro_batches_notices_a_mean_of_means():
  assert_law_catches(check_training_equals_the_reference, program(options=FOUR, objective=mean_of_means))


@pytest.mark.parametrize("name", ["adafactor", "muon"])
def test_optimizers_with_states_of_other_shapes_give_the_same_sharded_and_in_micro_batches(name):
  check_training_equals_the_reference(program(name, (2, 2, 2), StepOptions(micro_batches=2)), name)


def updated_by_every_optimizer(mesh: tuple[int, int, int], names=tuple(OPTIMIZERS)):
  """Parameters after three updates by each optimizer from the same gradients: one program for all, to compile once."""
  states = {name: abstract_state(plan(), optimizer(name), layout(*mesh)) for name in names}

  def train(gradients):
    result = {}
    for name in names:
      params = jax.tree.map(jnp.ones_like, gradients[0])
      state = optimizer(name).init(params)
      for given in gradients:
        updates, state = optimizer(name).update(given, state, params, jnp.asarray(1e-2), np.array(True))
        params = jax.tree.map(jnp.add, params, updates)
      result[name] = (params, state)
    return result

  random = np.random.default_rng(0)
  shapes = plan().dimensions
  gradients = [{name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()} for _ in range(3)]
  stored = plan().shardings(layout(*mesh))
  wanted = {name: (shardings_of(state.params), shardings_of(state.opt_state)) for name, state in states.items()}
  return jax.jit(train, in_shardings=([stored] * 3,), out_shardings=wanted)(gradients)


def check_sharded_updates_equal_the_reference(mesh_updates) -> None:
  assert_close(mesh_updates, updated_by_every_optimizer((1, 1, 1)), tolerance=1e-4)


def test_every_optimizer_gives_the_same_sharded():
  updates = updated_by_every_optimizer((2, 2, 2))
  check_sharded_updates_equal_the_reference(updates)
  # The broken twin: Adam's moments of one parameter are lost on the way.
  params, state = updates["adamw"]
  lost = state._replace(nu=jax.tree.map(jnp.zeros_like, state.nu))
  assert_law_catches(check_sharded_updates_equal_the_reference, updates | {"adamw": (params, lost)})


def test_every_optimizer_gets_the_loss_down():
  for name in OPTIMIZERS:
    chosen = program(name)
    state = chosen.fresh()
    losses = []
    for _ in range(12):
      state, metrics = chosen.step(state, make_batch(0))
      losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.005, (name, losses)


def check_no_row_of_a_batch_moves(split) -> None:
  """The compiled split of a batch over 8 devices into micro-batches has no communication in it."""
  eight = layout(8)
  batch = {
    name: jax.ShapeDtypeStruct(rows.shape, rows.dtype, sharding=jax.sharding.NamedSharding(eight.mesh, _rows()))
    for name, rows in make_batch(0).items()
  }
  text = jax.jit(lambda rows: split(rows, 2, eight)).lower(batch).compile().as_text()
  found = re.findall(r"\b(all-to-all|all-gather|collective-permute|all-reduce)\b", text)
  assert not found, found


def _rows():
  return jax.sharding.PartitionSpec(("data", "fsdp"))


def split_in_runs(batch, parts, eight):
  """The broken twin: micro-batch k is the k-th run of rows, which is on a few devices only."""
  sharding = jax.sharding.NamedSharding(eight.mesh, jax.sharding.PartitionSpec(None, ("data", "fsdp")))
  return {
    name: jax.lax.with_sharding_constraint(rows.reshape(parts, rows.shape[0] // parts, *rows.shape[1:]), sharding)
    for name, rows in batch.items()
  }


def test_splitting_a_batch_into_micro_batches_moves_no_row():
  check_no_row_of_a_batch_moves(split_rows)
  assert_law_catches(check_no_row_of_a_batch_moves, split_in_runs)


def test_the_batch_is_not_communicated_anywhere_in_the_step():
  chosen = program(mesh=(8, 1, 1), options=StepOptions(micro_batches=2))
  text = chosen.step.lower(chosen.abstract, make_batch(0)).compile().as_text()
  moved = [line for line in text.splitlines() if re.search(r"= s32\[.*(all-to-all|all-gather|permute)\(", line)]
  assert not moved, moved


def test_dropout_is_a_function_of_seed_step_and_micro_batch():
  chosen = program(options=StepOptions(micro_batches=2), objective=loss_with_dropout)
  losses = []
  for step in (0, 0, 5):
    state = dataclasses.replace(chosen.fresh(), step=jnp.asarray(step))
    model, key = plan().join(host(state.params)), jax.random.fold_in(jax.random.key(0), step)
    parts = [{name: rows[part::2] for name, rows in make_batch(0).items()} for part in range(2)]
    scores = [loss_with_dropout(model, rows, jax.random.fold_in(key, part)) for part, rows in enumerate(parts)]
    _, metrics = chosen.step(state, make_batch(0))
    losses.append(float(metrics["loss"]))
    assert losses[-1] == pytest.approx(float(sum(s.sum for s in scores) / sum(s.weight for s in scores)), rel=1e-5)
  assert losses[0] == losses[1] != losses[2]


def test_the_same_seed_gives_the_same_parameters_on_every_mesh():
  assert_close(program(mesh=(2, 2, 2)).fresh().params, program(options=PLAIN).fresh().params, tolerance=1e-7)
