# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table of optimizers: settings, decay, and which parameters Muon takes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from laws import assert_law_catches
from tiny_training import RULES, optimizer, plan

from lmx.errors import LmxError
from lmx.optim.optimizers import OPTIMIZERS, make_optimizer, muon_dimensions
from lmx.optim.schedules import make_schedule

LR = 0.01
APPLY = np.array(True)


def make(name: str, weight_decay: float = 0.0, **axes):
  return make_optimizer(
    name,
    schedule=make_schedule("constant", peak_lr=LR, total_steps=10),
    hyperparameters={"b1": 0.9, "b2": 0.99, "eps": 1e-8},
    weight_decay=weight_decay,
    decay_rules=((".*bias", 0.0), (".*", 1.0)),
    axes=axes,
    shapes={key: (4, 6)[: len(value)] for key, value in axes.items()},
  )


def first_update(name: str, gradients, params, **settings):
  chosen = make(name, **settings, **{key: ("embed", "mlp")[: value.ndim] for key, value in params.items()})
  return chosen.update(gradients, chosen.init(params), params, jnp.asarray(LR), APPLY)[0]


@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if row.decay])
def test_decay_is_decoupled_and_follows_the_rules(name):
  params = {"kernel": jnp.full((4, 4), 2.0), "a.bias": jnp.full((4,), 2.0)}
  gradients = jax.tree.map(lambda x: 0.1 * jnp.ones_like(x), params)
  plain, decayed = (first_update(name, gradients, params, weight_decay=decay) for decay in (0.0, 0.5))
  np.testing.assert_array_equal(plain["a.bias"], decayed["a.bias"])
  lost = plain["kernel"] - decayed["kernel"]
  if name == "schedule_free":  # Decay moves the iterates; the parameters are in between them and their average.
    assert np.all(lost > 0)
  else:
    np.testing.assert_allclose(lost, np.full((4, 4), LR * 0.5 * 2.0), rtol=1e-3)


@pytest.mark.parametrize("name", ["adamw", "lion", "sgd", "muon", "adafactor"])
def test_first_moments_may_be_kept_in_bfloat16(name):
  params = {"layers.kernel": jnp.ones((4, 6))}
  axes = {"layers.kernel": ("embed", "mlp")}
  given = {"hyperparameters": {"b1": 0.9, "b2": 0.99, "eps": 1e-8}, "weight_decay": 0.0, "decay_rules": ((".*", 1.0),)}
  given |= {"schedule": make_schedule("constant", peak_lr=LR, total_steps=10), "axes": axes}
  settings = given | {"shapes": {"layers.kernel": (4, 6)}}
  small, full = (make_optimizer(name, **settings, momentum_dtype=dtype) for dtype in ("bfloat16", "float32"))
  state = small.init(params)
  halves = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.bfloat16]
  assert [leaf.shape for leaf in halves] == [(4, 6)]
  random = np.random.default_rng(0)
  other = full.init(params)
  for _ in range(3):
    gradients = {"layers.kernel": random.standard_normal((4, 6)).astype(np.float32)}
    got, state = small.update(gradients, state, params, jnp.asarray(LR), APPLY)
    expected, other = full.update(gradients, other, params, jnp.asarray(LR), APPLY)
  assert {leaf.dtype for leaf in jax.tree.leaves(state)} >= {jnp.dtype("bfloat16")}
  if name != "lion":  # Its updates are signs, which a rounding may turn round.
    np.testing.assert_allclose(got["layers.kernel"], expected["layers.kernel"], rtol=0.05, atol=2e-4)


def test_adamw_takes_a_step_of_the_learning_rate_against_the_gradient():
  params = {"kernel": jnp.zeros((2, 2)), "a.bias": jnp.zeros((2,))}
  gradients = {"kernel": jnp.full((2, 2), 7.0), "a.bias": jnp.full((2,), -7.0)}
  update = first_update("adamw", gradients, params)
  np.testing.assert_allclose(update["kernel"], np.full((2, 2), -LR), rtol=1e-5)
  np.testing.assert_allclose(update["a.bias"], np.full((2,), LR), rtol=1e-5)


def kernel_and_bias(seed: int):
  keys = jax.random.split(jax.random.key(seed))
  return {"kernel": jax.random.normal(keys[0], (4, 6)), "a.bias": jax.random.normal(keys[1], (4,))}


def test_adamw_is_the_adamw_of_optax():
  chosen = make("adamw", weight_decay=0.5, kernel=("embed", "mlp"), **{"a.bias": ("embed",)})
  theirs = optax.adamw(LR, b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.5, mask={"kernel": True, "a.bias": False})
  ours_params = theirs_params = kernel_and_bias(0)
  ours_state, theirs_state = chosen.init(ours_params), theirs.init(theirs_params)
  for seed in range(1, 5):
    gradients = kernel_and_bias(seed)
    updates, ours_state = chosen.update(gradients, ours_state, ours_params, jnp.asarray(LR), APPLY)
    ours_params = optax.apply_updates(ours_params, updates)
    updates, theirs_state = theirs.update(gradients, theirs_state, theirs_params)
    theirs_params = optax.apply_updates(theirs_params, updates)
  for name, value in theirs_params.items():
    np.testing.assert_allclose(ours_params[name], value, rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_that_is_not_applied_leaves_the_state_as_it_was(name):
  chosen = make(name, kernel=("embed", "mlp"), **{"a.bias": ("embed",)})
  params = kernel_and_bias(0)
  _, state = chosen.update(kernel_and_bias(1), chosen.init(params), params, jnp.asarray(LR), APPLY)

  def check(apply) -> None:
    _, after = chosen.update(jax.tree.map(lambda x: x * jnp.nan, params), state, params, jnp.asarray(LR), apply)
    jax.tree.map(np.testing.assert_array_equal, after, state)

  check(np.array(False))
  if jax.tree.leaves(state):
    assert_law_catches(check, APPLY)


def test_muon_makes_the_update_of_a_matrix_orthogonal():
  params = {"kernel": jnp.zeros((4, 6)), "a.bias": jnp.zeros((4,))}
  gradients = {"kernel": jax.random.normal(jax.random.key(0), (4, 6)), "a.bias": jnp.ones((4,))}
  update = first_update("muon", gradients, params)
  singular = np.linalg.svd(np.asarray(update["kernel"]) / (LR * 0.2 * np.sqrt(6)), compute_uv=False)
  assert np.all((singular > 0.6) & (singular < 1.3))
  np.testing.assert_allclose(update["a.bias"], np.full(4, -LR), rtol=1e-5)


@pytest.mark.parametrize(
  ("axes", "sides"),
  [
    (("layers", "embed", "heads", "head_width"), ([1], [2, 3])),
    (("layers", "heads", "head_width", "embed"), ([1, 2], [3])),
    (("embed", "mlp"), ([0], [1])),
    (("vocab", "embed"), None),
    (("position", "embed"), None),
    (("layers", "embed"), None),
    (("layers", "heads", "head_width"), None),
    (None, None),
  ],
)
def test_muon_takes_the_matrices_of_blocks_and_leaves_the_rest_to_adam(axes, sides):
  dimensions = muon_dimensions(axes)
  assert (dimensions and tuple(dimensions)) == sides


def test_schedule_free_evaluates_the_average_of_its_iterates():
  chosen = make("schedule_free", kernel=("embed", "mlp"), bias=("mlp",))
  params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones((2,))}
  state = chosen.init(params)
  for _ in range(3):
    updates, state = chosen.update(jax.tree.map(jnp.ones_like, params), state, params, jnp.asarray(LR), APPLY)
    params = jax.tree.map(jnp.add, params, updates)
  # With a constant gradient of one, Adam steps by the learning rate: iterates 0.99, 0.98, 0.97, of mean 0.98.
  np.testing.assert_allclose(chosen.average(state, params)["kernel"], np.full((2, 2), 0.98), rtol=1e-5)


def test_decay_where_the_optimizer_has_none_is_an_error():
  with pytest.raises(LmxError, match=r"config\.optimizer\.weight_decay: got 0\.1\. Allowed: 0 with adam\. Fix"):
    make("adam", weight_decay=0.1, kernel=("embed", "mlp"), bias=("mlp",))


def test_an_unknown_optimizer_names_the_nearest():
  with pytest.raises(LmxError, match="Did you mean 'adam'"):
    make("adamm", kernel=("embed", "mlp"), bias=("mlp",))


def test_muon_without_a_matrix_reports_it():
  with pytest.raises(LmxError, match="no matrix"):
    make("muon", embedding=("vocab", "embed"), bias=("mlp",))


def test_every_row_builds_on_a_real_tree_and_names_what_it_reads():
  for name, row in OPTIMIZERS.items():
    assert set(row.hyperparameters) <= {"b1", "b2", "eps"}
    assert set(optimizer(name).multipliers) == set(plan().shapes)
  assert RULES[0][1] == 0.0
