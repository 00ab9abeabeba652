# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A step that trains some parameters only, compares with a frozen second model, and hands on a recurrent state."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_law_catches
from tiny_training import (
  BATCH,
  PLAIN,
  RULES,
  TinyLoss,
  assert_close,
  assert_same,
  host,
  layout,
  loss,
  make_batch,
  make_model,
  plan,
  score,
)

from lmx.errors import LmxError
from lmx.optim.optimizers import make_optimizer
from lmx.optim.rules import rate_multipliers
from lmx.optim.schedules import make_schedule
from lmx.training.checkpoint import Checkpointer
from lmx.training.initialize import copy_of_start, initialize
from lmx.training.plateau import after_evaluation, new_plateau
from lmx.training.state import Parts, abstract_state, init_state
from lmx.training.step import ModelLoss, StepOptions, make_train_step

ONLY_PARAMETERS = Parts()
FROZEN = (("embedding", 0.0), (r".*\.up", 0.5), (".*", 1.0))


def sgd(rules=((".*", 1.0),), name: str = "sgd"):
  return make_optimizer(
    name, schedule=make_schedule("constant", peak_lr=0.1, total_steps=20),
    hyperparameters={"b1": 0.0 if name == "sgd" else 0.9, "b2": 0.95, "eps": 1e-8},
    weight_decay=0.0, decay_rules=RULES, axes=plan().axes, shapes=plan().dimensions,
    rates=rate_multipliers(rules, plan().axes),
  )  # fmt: skip


def trained(optimizer, objective=loss, parts=ONLY_PARAMETERS, options=PLAIN, steps=2, mesh=(1, 1, 1)):
  """(the first state, the last state, metrics of the last step)."""
  abstract = abstract_state(plan(), optimizer, layout(*mesh), parts)
  step = make_train_step(ModelLoss(objective, plan(), layout(*mesh), parts.reference), optimizer, options, abstract)
  state = init_state(make_model, jax.random.key(0), plan(), optimizer, abstract)
  if parts.reference is not None:
    state = dataclasses.replace(state, reference=copy_of_start(abstract.reference, state.params))
  first = host(state)
  for number in range(steps):
    state, metrics = step(state, make_batch(number))
  return first, host(state), metrics


def check_frozen(run) -> None:
  """Frozen parameters stay, half rates make half the step, the optimizer keeps nothing for the frozen ones."""
  first, state, _ = run(sgd(FROZEN))
  _, free, _ = run(sgd())
  np.testing.assert_array_equal(state.params["embedding"], first.params["embedding"])
  moved = {name: state.params[name] - first.params[name] for name in first.params}
  whole = {name: free.params[name] - first.params[name] for name in first.params}
  assert_close(moved["layers.0.up"], 0.5 * whole["layers.0.up"])
  assert_close(moved["layers.0.down"], whole["layers.0.down"])


def test_a_rule_of_zero_freezes_and_other_rules_scale_the_step():
  check_frozen(lambda optimizer: trained(optimizer, steps=1))
  assert_law_catches(check_frozen, lambda optimizer: trained(sgd(), steps=1))


def test_an_optimizer_keeps_no_state_for_frozen_parameters():
  optimizer = sgd(FROZEN, "adamw")
  state = abstract_state(plan(), optimizer, layout()).opt_state
  assert set(state.mu) == {name for name in plan().shapes if name != "embedding"}


def test_all_parameters_frozen_is_an_error():
  with pytest.raises(LmxError, match=r"config\.optimizer\.lr_rules: got 'all parameters frozen'"):
    rate_multipliers(((".*", 0.0),), plan().axes)


def distance(model: Any, batch: Any, key: Any, reference: Any = None) -> TinyLoss:
  """Cross-entropy and the squared distance of the logits from the reference's."""
  plain = score(model(batch["tokens"]), batch)
  gap = jnp.sum(jnp.square(model(batch["tokens"]) - reference(batch["tokens"])))
  return TinyLoss(plain.sum + gap, plain.weight, {"gap": (gap, plain.weight)})


def test_a_reference_stays_as_the_model_started_and_is_compared_with():
  first, state, metrics = trained(sgd(), distance, Parts(reference=plan()), mesh=(2, 2, 1))
  assert_same(state.reference, first.params)
  assert float(metrics["gap"]) > 0
  assert not np.allclose(state.params["embedding"], first.params["embedding"])


def test_a_reference_is_restored_and_not_made_again(tmp_path):
  optimizer, parts = sgd(), Parts(reference=plan())
  abstract = abstract_state(plan(), optimizer, layout(), parts)

  def start():
    with Checkpointer(tmp_path, background=False) as checkpoints:
      found = initialize(
        checkpoints, abstract, plan(), optimizer, make_model, jax.random.key(0), reference=copy_of_start
      )
      later = {name: value + 1 for name, value in found.state.params.items()}
      checkpoints.save(1, dataclasses.replace(found.state, params=later), {})
      return found.state

  first, again = start(), start()
  assert_same(again.reference, first.reference)
  assert_close(again.params["embedding"], first.params["embedding"] + 1)


def counting(model: Any, batch: Any, key: Any, reference: Any = None) -> TinyLoss:
  """A loss that reads the previous batch's carry, and carries a count and each row's last token."""
  del key, reference
  plain = score(model(batch["tokens"]), batch)
  carry = {"count": batch["carry"]["count"] + 1, "last": batch["tokens"][:, -1].astype(jnp.float32)}
  seen = jnp.sum(batch["carry"]["count"]) + 100 * jnp.sum(batch["carry"]["last"])
  return TinyLoss(plain.sum, plain.weight, {"seen": (seen, jnp.ones(()))}, carry=carry)


@pytest.mark.parametrize("options", [PLAIN, StepOptions(micro_batches=4)])
def test_each_row_hands_its_state_to_the_same_row_of_the_next_batch(options):
  rows = jax.ShapeDtypeStruct((BATCH,), jnp.float32)
  _, state, metrics = trained(sgd(), counting, Parts(carry={"count": rows, "last": rows}), options, mesh=(2, 2, 1))
  np.testing.assert_array_equal(state.carry["count"], np.full(BATCH, 2.0))
  np.testing.assert_array_equal(state.carry["last"], make_batch(1)["tokens"][:, -1])
  seen = BATCH * 1 + 100 * make_batch(0)["tokens"][:, -1].sum()
  assert float(metrics["seen"]) * options.micro_batches == pytest.approx(seen)


def test_the_rate_falls_after_an_evaluation_without_progress_only():
  plateau = after_evaluation(new_plateau(), 3.0, 0.25)
  assert (float(plateau.scale), float(plateau.best)) == (1.0, 3.0)
  plateau = after_evaluation(plateau, 3.0, 0.25)
  assert (float(plateau.scale), float(plateau.best)) == (0.25, 3.0)
  assert float(after_evaluation(plateau, 2.0, 0.25).scale) == 0.25


def test_the_step_uses_the_fallen_rate():
  abstract = abstract_state(plan(), sgd(), layout(), Parts(plateau=True))
  step = make_train_step(ModelLoss(loss, plan(), layout()), sgd(), StepOptions(), abstract)
  state = init_state(make_model, jax.random.key(0), plan(), sgd(), abstract)
  state = dataclasses.replace(state, plateau=after_evaluation(after_evaluation(state.plateau, 1.0, 0.5), 1.0, 0.5))
  _, metrics = step(state, make_batch(0))
  assert float(metrics["learning_rate"]) == pytest.approx(0.05)
