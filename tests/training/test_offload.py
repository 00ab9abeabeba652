# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""An optimizer whose moments wait in the host's memory: the same training, checkpoints that don't tell, less memory."""

import dataclasses

import jax
import numpy as np
import pytest
from laws import assert_law_catches, slow_but
from tiny_training import Program, assert_same, layout, optimizer, plan, program

from lmx.errors import LmxError
from lmx.training import state as states
from lmx.training.checkpoint import Checkpointer
from lmx.training.state import HOST, abstract_state, local_bytes
from lmx.training.step import StepOptions

EMA = StepOptions(ema=0.9)
MIX = (2, 2, 2)


def kinds(tree) -> set[str | None]:
  return {leaf.sharding.memory_kind for leaf in jax.tree.leaves(tree)}


def check_training_is_the_same(there: Program, here: Program) -> None:
  """Four steps, bit for bit, and the moments are in the host's memory before and after each."""
  wanted, wanted_history = here.run(here.fresh(), range(4))
  got = there.fresh()
  assert kinds(got) == kinds(there.abstract)
  got, history = there.run(got, range(4))
  assert kinds(got) == kinds(there.abstract)
  assert history == wanted_history
  assert_same(got, wanted)


CASES = [
  ("adamw", MIX, False),
  ("adamw", (8, 1, 1), True),
  ("adafactor", (1, 1, 1), False),
  ("schedule_free", MIX, False),
]


@pytest.mark.parametrize(("name", "mesh", "zero1"), slow_but(CASES[:3], CASES))
def test_training_with_moments_in_the_hosts_memory_is_the_same_bit_for_bit(name, mesh, zero1):
  options = EMA if name == "adamw" else StepOptions()
  there, here = (program(name, mesh, options, zero1=zero1, offload=flag) for flag in (True, False))
  check_training_is_the_same(there, here)


def test_the_law_of_offloading_notices_moments_that_come_back_old():
  there, here = program(mesh=MIX, options=EMA, offload=True), program(mesh=MIX, options=EMA)

  def step(state, batch):
    old = jax.tree.map(lambda leaf: jax.device_put(np.array(leaf), leaf.sharding), state.opt_state)
    new, metrics = there.step(state, batch)
    return dataclasses.replace(new, opt_state=old), metrics

  assert_law_catches(lambda one: check_training_is_the_same(one, here), dataclasses.replace(there, step=step))


def test_only_moments_leave_the_device_and_they_keep_their_sharding():
  there, here = program(mesh=MIX, offload=True).abstract, program(mesh=MIX).abstract
  assert kinds((there.opt_state.mu, there.opt_state.nu)) == {HOST}
  assert HOST not in kinds((there.params, there.opt_state.count, there.guard, there.step, here))
  assert {n: x.sharding.spec for n, x in there.opt_state.mu.items()} == {
    n: x.sharding.spec for n, x in here.opt_state.mu.items()
  }
  moments = local_bytes((here.opt_state.mu, here.opt_state.nu))
  assert local_bytes(here) - local_bytes(there) == local_bytes(there, host=True) == moments > 0
  assert local_bytes(here, host=True) == 0


def check_a_run_moves(from_: Program, to: Program, folder) -> None:
  """Laws 6 and 7: two steps with and two without offloading, with a checkpoint in between, are four steps."""
  whole, wanted = from_.run(from_.fresh(), range(4))
  state, _ = from_.run(from_.fresh(), range(2))
  with Checkpointer(folder) as checkpoints:
    checkpoints.save(2, state, {})
    state, _ = checkpoints.restore(to.abstract)
  assert kinds(state) == kinds(to.abstract)
  state, history = to.run(state, range(2, 4))
  assert history == wanted[2:]
  assert_same(state, whole)


@pytest.mark.parametrize("first", [True, False], ids=["from the host", "to the host"])
def test_a_checkpoint_does_not_depend_on_where_the_moments_were(first, tmp_path):
  check_a_run_moves(*(program(mesh=MIX, options=EMA, offload=flag) for flag in (first, not first)), tmp_path)


def test_the_law_of_moving_notices_moments_that_start_over(tmp_path):
  from_, to = program(mesh=MIX, options=EMA, offload=True), program(mesh=MIX, options=EMA)

  def step(state, batch):
    return to.step(dataclasses.replace(state, opt_state=to.fresh().opt_state), batch)

  assert_law_catches(lambda one: check_a_run_moves(from_, one, tmp_path), dataclasses.replace(to, step=step))


def test_moments_restore_from_the_hosts_memory_onto_another_mesh(tmp_path):
  there, here = program(mesh=MIX, offload=True), program(mesh=(1, 8, 1))
  state, _ = there.run(there.fresh(), range(2))
  with Checkpointer(tmp_path) as checkpoints:
    checkpoints.save(2, state, {})
    restored, _ = checkpoints.restore(here.abstract)
  assert jax.tree.map(lambda x: x.sharding, restored) == jax.tree.map(lambda x: x.sharding, here.abstract)
  assert_same(restored, state)


def test_devices_that_cannot_reach_their_hosts_memory_are_refused_before_anything_is_compiled(monkeypatch):
  monkeypatch.setattr(states, "HOST", "core")
  with pytest.raises(
    LmxError, match=r"compute\.offload_optimizer: got 'True on cpu, whose memories are device, .*=False"
  ):
    abstract_state(plan(), optimizer(), layout(offload=True))
  abstract_state(plan(), optimizer(), layout())
