# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Laws that hold for every objective, each with a twin broken on purpose."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import assert_law_catches
from objectives.cases import CASES, ROWS, SHORT_CHATS, batch_of, model_of, objective_of

from lmx.evaluation.heldout import gathered
from lmx.nn.heads import HEADS
from lmx.objectives import OBJECTIVES
from lmx.objectives.base import Loss, LossFunction, Objective

BY_TOKENS = [name for name in CASES if OBJECTIVES[name].head in ("language", "masked", "tagging")]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> str:
  path = tmp_path_factory.mktemp("templates") / "short.jinja"
  path.write_text(SHORT_CHATS)
  return str(path)


@functools.cache
def compiled(loss_function: LossFunction):
  """(model, reference, batch) -> the loss, and its gradient with respect to the model's parameters."""

  def both(model, reference, batch):
    def total(model):
      loss = loss_function(model, batch, None, reference)
      return loss.sum, loss

    (_, loss), gradient = jax.value_and_grad(total, has_aux=True)(model)
    return loss, gradient.params

  # Tiny programs spend their time in the compiler.
  return jax.jit(both, compiler_options={"xla_backend_optimization_level": 0})


def run(objective: Objective, name: str, batch: dict) -> tuple[Loss, dict]:
  return jax.device_get(compiled(objective.loss)(model_of(name), model_of(name, seed=1), batch))


def sums_of(loss: Loss) -> dict:
  return {"loss": (loss.sum, loss.weight), **loss.metrics}


def assert_close(left: dict, right: dict, scale: float = 1.0) -> None:
  assert set(left) == set(right)
  for name in left:
    for one, other in zip(left[name], right[name], strict=True):
      assert np.isfinite(one), name
      np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5 * scale, err_msg=name)


def only(batch: dict, chosen: np.ndarray) -> dict:
  """The batch with its other rows turned into padding."""
  return {name: np.where(chosen.reshape(-1, *[1] * (values.ndim - 1)), values, 0) for name, values in batch.items()}


def with_padding(batch: dict) -> dict:
  return {name: np.concatenate([values, np.zeros_like(values[:2])]) for name, values in batch.items()}


# ---------------------------------------------------------------- the table


def test_every_objective_is_in_the_table_of_laws_and_names_a_head_that_exists():
  assert set(CASES) == set(OBJECTIVES)
  for name, row in OBJECTIVES.items():
    assert row.head in HEADS, name
    assert CASES[name].family in row.families
    assert set(row.packings) <= {"packed", "concatenated", "padded", "streams"}
    assert set(CASES[name].options) == set(row.options) - {"chat_template", "chat_answers", "chat_date"}
    assert row.labelled == bool(CASES[name].labels)


# ---------------------------------------------------------------- the same generator gives the same row


def check_preparing_is_deterministic(objective: Objective, name: str) -> None:
  first, second = (batch_of(name, objective, seed=3) for _ in range(2))
  for key in first:
    np.testing.assert_array_equal(first[key], second[key])


@pytest.mark.parametrize("name", CASES)
def test_preparing_draws_all_its_randomness_from_the_generator(name, template):
  check_preparing_is_deterministic(objective_of(name, template), name)


def test_a_generator_of_its_own_is_noticed(template):
  hidden = np.random.default_rng()
  objective = objective_of("masked", template)
  mutant = dataclasses.replace(objective, prepare=lambda window, rng: objective.prepare(window, hidden))
  assert_law_catches(check_preparing_is_deterministic, mutant, "masked")


@pytest.mark.parametrize("name", ["masked", "span_corruption", "denoising", "prefix", "fill_in_middle"])
def test_another_draw_gives_another_row(name, template):
  objective = objective_of(name, template)
  first, second = (batch_of(name, objective, seed=seed) for seed in (0, 1))
  assert any(not np.array_equal(first[key], second[key]) for key in first)


# ---------------------------------------------------------------- the loss is a sum over rows


def check_parts_add_up(objective: Objective, name: str) -> None:
  batch = batch_of(name, objective)
  whole, gradient = run(objective, name, batch)
  parts = [run(objective, name, only(batch, np.arange(ROWS) % 3 == part)) for part in range(3)]
  added = jax.tree.map(lambda *values: np.sum(values, axis=0), *[sums_of(loss) for loss, _ in parts])
  assert_close(sums_of(whole), added, scale=10)
  assert whole.weight > 0
  for key in gradient:
    np.testing.assert_allclose(gradient[key], sum(part[key] for _, part in parts), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in CASES if OBJECTIVES[name].splits])
def test_the_parts_of_a_batch_add_up_to_the_batch(name, template):
  check_parts_add_up(objective_of(name, template), name)


def test_a_mean_instead_of_a_sum_is_noticed(template):
  objective = objective_of("regression", template)

  def mean(*arguments):
    loss = objective.loss(*arguments)
    return dataclasses.replace(loss, sum=loss.sum / loss.weight)

  assert_law_catches(check_parts_add_up, dataclasses.replace(objective, loss=mean), "regression")


def test_contrastive_pairs_need_their_whole_batch_and_report_it(template):
  assert [name for name, row in OBJECTIVES.items() if not row.splits] == ["contrastive"]
  assert_law_catches(check_parts_add_up, objective_of("contrastive", template), "contrastive")


# ---------------------------------------------------------------- padding counts for nothing


def check_padding_counts_for_nothing(objective: Objective, name: str) -> None:
  batch = batch_of(name, objective)
  plain, gradient = run(objective, name, batch)
  padded, padded_gradient = run(objective, name, with_padding(batch))
  assert_close(sums_of(plain), sums_of(padded), scale=10)
  for key in gradient:
    np.testing.assert_allclose(gradient[key], padded_gradient[key], rtol=1e-4, atol=1e-5)
  assert (objective.score is None) == (not plain.predictions)
  if objective.score is not None:
    assert len(padded.predictions["weights"]) == ROWS + 2
    scores = [objective.score(gathered([loss.predictions])) for loss in (plain, padded)]
    assert scores[0] == pytest.approx(scores[1])
    assert all(np.isfinite(value) for value in scores[0].values())


@pytest.mark.parametrize("name", CASES)
def test_rows_that_fill_a_batch_change_neither_loss_nor_gradient_nor_scores(name, template):
  check_padding_counts_for_nothing(objective_of(name, template), name)


def test_a_weight_for_padding_is_noticed(template):
  objective = objective_of("regression", template)

  def loss(model, batch, key, reference):
    return objective.loss(model, {**batch, "loss_weights": jnp.ones_like(batch["loss_weights"])}, key, reference)

  assert_law_catches(check_padding_counts_for_nothing, dataclasses.replace(objective, loss=loss), "regression")


# ---------------------------------------------------------------- only what is scored is learned


def check_targets_without_weight_do_not_matter(objective: Objective, name: str) -> None:
  batch = batch_of(name, objective)
  changed = dict(batch)
  for group in ("", "rejected_"):
    if group + "targets" in batch:
      other = (batch[group + "targets"] + 1) % 3
      changed[group + "targets"] = np.where(batch[group + "loss_weights"] > 0, batch[group + "targets"], other)
  (plain, gradient), (other, other_gradient) = (run(objective, name, one) for one in (batch, changed))
  assert plain.sum == other.sum
  assert np.abs(gradient["own"]).max() > 0
  for key in gradient:
    assert np.isfinite(gradient[key]).all()
    np.testing.assert_array_equal(gradient[key], other_gradient[key])


@pytest.mark.parametrize("name", BY_TOKENS)
def test_what_a_token_of_no_weight_should_have_been_does_not_matter(name, template):
  check_targets_without_weight_do_not_matter(objective_of(name, template), name)


def test_a_loss_on_the_users_turns_is_noticed(template):
  objective = objective_of("chat", template)

  def loss(model, batch, key, reference):
    everywhere = (batch["segment_ids"] > 0).astype(jnp.float32)
    return objective.loss(model, {**batch, "loss_weights": everywhere}, key, reference)

  assert_law_catches(check_targets_without_weight_do_not_matter, dataclasses.replace(objective, loss=loss), "chat")
