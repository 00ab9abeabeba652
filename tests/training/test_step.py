# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A step's work besides learning: clip, skip, count, average, report."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_law_catches
from tiny_training import assert_close, assert_same, host, layout, loss, make_batch, optimizer, plan, program

from lmx.errors import LmxError
from lmx.parallel.mesh import global_batch
from lmx.training.skipping import new_skip_state, should_skip
from lmx.training.state import TrainState, abstract_model_of
from lmx.training.step import ModelLoss, StepOptions, check_options, make_eval_step

EMA = StepOptions(ema=0.9)


def broken(batch):
  """A batch whose loss is not a number."""
  return batch | {"loss_weights": batch["loss_weights"] * np.float32(np.nan)}


def learned(state: TrainState):
  return host((state.params, state.opt_state, state.ema))


def check_a_bad_step_changes_nothing(step) -> None:
  """A step on a broken batch leaves everything learned as it was, and is counted."""
  state, _ = step(program(options=EMA).fresh(), make_batch(0))
  before = learned(state)
  state, metrics = step(state, broken(make_batch(1)))
  assert_same(learned(state), before)
  assert int(state.step) == 2
  assert (float(metrics["skipped"]), float(metrics["skipped_total"])) == (1.0, 1.0)


def test_a_step_that_is_not_finite_leaves_the_state_as_it_was_and_is_counted():
  step = program(options=EMA).step

  def careless(state, batch):
    """The broken twin: skips the parameters, but lets the moments decay."""
    new, metrics = step(state, batch)
    return dataclasses.replace(new, opt_state=jax.tree.map(lambda leaf: leaf * 0.9, new.opt_state)), metrics

  check_a_bad_step_changes_nothing(step)
  assert_law_catches(check_a_bad_step_changes_nothing, careless)


def test_a_batch_without_any_weight_is_skipped():
  state, metrics = program().step(program().fresh(), make_batch(0) | {"loss_weights": np.zeros((16, 8), np.float32)})
  assert float(metrics["skipped"]) == 1.0
  assert all(np.all(np.isfinite(leaf)) for leaf in host(state.params).values())


def test_skipped_steps_in_a_row_are_counted_and_a_good_one_ends_the_row():
  step, state = program().step, program().fresh()
  counts = []
  for bad in (True, True, False, True):
    state, metrics = step(state, broken(make_batch(0)) if bad else make_batch(0))
    counts.append((float(metrics["skipped_in_a_row"]), float(metrics["skipped_total"])))
  assert counts == [(1, 1), (2, 2), (0, 2), (1, 3)]


def test_a_skipped_step_does_not_shift_the_schedule():
  step = program().step
  _, metrics = step(step(program().fresh(), broken(make_batch(0)))[0], make_batch(1))
  assert float(metrics["learning_rate"]) == pytest.approx(float(optimizer().schedule(1)), rel=1e-6)


def test_a_spike_of_the_gradient_norm_is_skipped_and_training_continues():
  chosen = program(options=StepOptions(spike_factor=3.0, spike_history=4, clip_norm=0.0))
  state = chosen.fresh()
  state, calm = chosen.run(state, range(6))
  assert not any(metrics["skipped"] for metrics in calm)
  before = host(state.params)
  # The loss is divided by the weight once, so a negative weight makes the gradient of the others as large as we like.
  spike = make_batch(6)
  spike["loss_weights"][-1] = -(spike["loss_weights"][:-1].sum() - 0.5) / spike["loss_weights"].shape[1]
  state, metrics = chosen.step(state, spike)
  assert float(metrics["skipped"]) == 1.0
  assert np.isfinite(float(metrics["grad_norm"]))
  assert_same(state.params, before)
  _, metrics = chosen.step(state, make_batch(7))
  assert float(metrics["skipped"]) == 0.0


def run_guard(norms, **settings):
  guard, applied = new_skip_state(), []
  for norm in norms:
    apply, guard = should_skip(guard, jnp.ones(()), jnp.asarray(norm, jnp.float32), **settings)
    applied.append(bool(apply))
  return applied


def test_no_spike_is_called_before_the_history_is_there():
  assert run_guard([1, 1, 100, 1], spike_factor=2.0, history=4) == [True] * 4
  assert run_guard([1, 1, 1, 1, 100, 1], spike_factor=2.0, history=4) == [True] * 4 + [False, True]


def test_a_lasting_rise_of_the_norm_is_accepted_after_a_while():
  applied = run_guard([1.0] * 10 + [5.0] * 20, spike_factor=2.0, history=10)
  assert not applied[10]
  assert all(applied[-5:])


def test_without_a_spike_factor_only_what_is_not_finite_is_skipped():
  assert run_guard([1.0] * 5 + [1e9, np.inf, np.nan], spike_factor=None, history=2) == [True] * 6 + [False] * 2


@pytest.mark.parametrize("clip_norm", [0.0, 1e-3])
def test_clipping_bounds_the_step_and_zero_turns_it_off(clip_norm):
  chosen = program("sgd", options=StepOptions(clip_norm=clip_norm))
  start = chosen.fresh()
  before = host(start.params)
  state, metrics = chosen.step(start, make_batch(0))
  decay = {name: 0.1 * optimizer("sgd").multipliers[name] * value for name, value in before.items()}
  lr = float(metrics["learning_rate"])
  moved = [(before[name] - np.asarray(state.params[name])) / lr - decay[name] for name in before]
  norm = float(np.sqrt(sum(np.sum(np.square(m)) for m in moved)))
  expected = min(clip_norm or np.inf, float(metrics["grad_norm"]))
  assert norm == pytest.approx(expected, rel=1e-2)


def test_metrics_are_float32_scalars_on_the_device_with_the_objectives_own_among_them():
  _, metrics = program().step(program().fresh(), make_batch(0))
  assert {"loss", "accuracy", "loss_weight", "grad_norm", "param_norm", "learning_rate", "skipped"} <= set(metrics)
  for value in metrics.values():
    assert isinstance(value, jax.Array)
    assert (value.shape, value.dtype) == ((), jnp.float32)
  assert float(metrics["loss_weight"]) == pytest.approx(make_batch(0)["loss_weights"].sum(), rel=1e-6)


def test_the_old_state_gives_its_memory_to_the_new_one():
  state = program().fresh()
  new, _ = program().step(state, make_batch(0))
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(new))


def test_the_average_of_the_parameters_follows_its_closed_form():
  chosen = program(options=EMA)
  state = chosen.fresh()
  expected = host(state.params)
  for number in range(12):
    state, _ = chosen.step(state, make_batch(number))
    keep = min(0.9, (2.0 + number) / (11.0 + number))
    expected = {name: keep * expected[name] + (1 - keep) * np.asarray(state.params[name]) for name in expected}
  assert_close(state.ema, expected)
  assert state.evaluated is state.ema


def test_schedule_free_is_evaluated_by_its_average():
  chosen = program("schedule_free")
  state, _ = chosen.run(chosen.fresh(), range(3))
  assert_close(state.evaluated, optimizer("schedule_free").average(state.opt_state, state.params))


def test_evaluation_gives_sums_that_add_up_over_batches_and_meshes():
  sums = []
  for mesh in ((1, 1, 1), (2, 2, 2)):
    chosen = program(mesh=mesh)
    step = make_eval_step(ModelLoss(loss, plan(), chosen.layout))
    found, predictions, carry = step(chosen.fresh().evaluated, None, global_batch(make_batch(0), chosen.layout.mesh))
    assert (predictions, carry) == ({}, None)
    sums.append(found)
  assert_close(sums[0], sums[1])
  total, weight = sums[0]["loss"]
  _, metrics = program().step(program().fresh(), make_batch(0))
  assert float(total) / float(weight) == pytest.approx(float(metrics["loss"]), rel=1e-6)
  assert set(sums[0]) == {"loss", "accuracy"}


def test_a_batch_that_does_not_divide_names_the_key_before_anything_is_compiled():
  with pytest.raises(LmxError, match=re.escape("config.train.batch_size: got 12. Allowed: a multiple of")):
    check_options(StepOptions(micro_batches=2), optimizer(), 12, layout(2, 4, 1))
  check_options(StepOptions(micro_batches=2), optimizer(), 16, layout(2, 4, 1))


def test_a_second_average_next_to_schedule_free_is_an_error():
  with pytest.raises(LmxError, match=r"config\.optimizer\.ema: got 0\.9"):
    check_options(EMA, optimizer("schedule_free"), 16, layout())


def test_a_model_with_a_counter_in_it_is_refused():
  with pytest.raises(ValueError, match=r"calls is int32; a model holds floating-point parameters only"):
    abstract_model_of({"calls": jnp.zeros((), jnp.int32)})


def test_optimizer_arrays_have_the_shardings_of_their_parameters():
  abstract = program(mesh=(2, 2, 2)).abstract
  assert {name: leaf.sharding for name, leaf in abstract.params.items()} == plan().shardings(layout(2, 2, 2))
  for moments in (abstract.opt_state.mu, abstract.opt_state.nu):
    assert {n: x.sharding for n, x in moments.items()} == {n: x.sharding for n, x in abstract.params.items()}
  state = program(mesh=(2, 2, 2)).fresh()
  assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(lambda x: x.sharding, abstract)
