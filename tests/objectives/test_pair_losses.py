# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Losses that compare: preferences with a reference, a student with a teacher, texts with texts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives.cases import SHORT_CHATS, TOKENIZER, batch_of, model_of, objective_of
from objectives.making import make_objective
from objectives.tiny_models import table_model

from lmx.data.cache.encoding import BadExampleError
from lmx.errors import LmxError
from lmx.objectives.base import Objective, ObjectiveContext

SETTING = ObjectiveContext(TOKENIZER, 64, 64, "transformer")


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> str:
  path = tmp_path_factory.mktemp("templates") / "short.jinja"
  path.write_text(SHORT_CHATS)
  return str(path)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(objective: Objective, model, reference, batch):
  return objective.loss(model, batch, None, reference)


def log_probs(model, batch, group="") -> np.ndarray:
  """(B, L, V) in float64."""
  arrays = {name: batch[group + name] for name in ("tokens", "segment_ids")}
  logits = np.asarray(model(arrays.pop("tokens"), **arrays).logits(), np.float64)
  return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def picked(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
  return np.take_along_axis(values, targets[..., None], axis=-1)[..., 0]


# ---------------------------------------------------------------- preferences


def test_the_preference_loss_equals_its_formula(template):
  objective = objective_of("dpo", template)
  batch, policy, reference = batch_of("dpo", objective), model_of("dpo"), model_of("dpo", seed=1)
  rewards = []
  for group in ("", "rejected_"):
    per_token = [picked(log_probs(model, batch, group), batch[group + "targets"]) for model in (policy, reference)]
    rewards.append(0.5 * ((per_token[0] - per_token[1]) * batch[group + "loss_weights"]).sum(axis=1))
  margin = rewards[0] - rewards[1]
  loss = loss_of(objective, policy, reference, batch)
  assert loss.weight == 6
  np.testing.assert_allclose(loss.sum, np.sum(np.log1p(np.exp(-margin))), rtol=1e-4)
  means = {name: float(total) / float(weight) for name, (total, weight) in loss.metrics.items()}
  assert means == pytest.approx(
    {
      "reward_accuracy": np.mean(margin > 0),
      "reward_margin": margin.mean(),
      "chosen_reward": rewards[0].mean(),
      "rejected_reward": rewards[1].mean(),
    },
    rel=1e-3,
    abs=1e-4,
  )


def test_a_policy_that_is_its_reference_has_the_loss_of_a_coin_toss(template):
  objective = objective_of("dpo", template)
  loss = loss_of(objective, model_of("dpo"), model_of("dpo"), batch_of("dpo", objective))
  np.testing.assert_allclose(loss.sum / loss.weight, np.log(2), rtol=1e-5)


def test_the_reference_gets_no_gradient(template):
  objective = objective_of("dpo", template)
  batch, model = batch_of("dpo", objective), model_of("dpo")
  gradient = jax.jit(jax.grad(lambda reference: objective.loss(model, batch, None, reference).sum))(model)
  assert not any(np.any(value) for value in gradient.params.values())


def test_only_the_last_answer_of_a_preference_is_scored(template):
  encoder = make_objective("dpo", SETTING, dpo_beta=0.1, chat_template=None).encoder
  before = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
  short = make_objective("dpo", SETTING, dpo_beta=0.1, chat_template=template).encoder
  row = {"prompt": before, "chosen": "yes", "rejected": [*before, {"role": "assistant", "content": "no"}]}
  fields = short(row).fields
  for group, text in (("", "yes"), ("rejected_", "no")):
    scored = fields[group + "targets"][fields[group + "loss_weights"] > 0]
    assert TOKENIZER.decode(scored).endswith(text)
    assert (scored == TOKENIZER.eos_id).sum() == 1
  with pytest.raises(BadExampleError, match=r"column 'rejected' does not end with an assistant turn"):
    short({**row, "rejected": before})
  with pytest.raises(BadExampleError, match="no answer within a row"):
    encoder({"prompt": "x" * 70, "chosen": "yes", "rejected": "no"})


def test_a_beta_of_zero_is_refused():
  with pytest.raises(LmxError, match=r"config.objective.dpo_beta: got 0"):
    make_objective("dpo", SETTING, dpo_beta=0.0, chat_template=None)


# ---------------------------------------------------------------- distillation


def test_the_distillation_loss_equals_its_formula():
  objective = objective_of("distillation")
  batch, student, teacher = (
    batch_of("distillation", objective),
    model_of("distillation"),
    table_model("language", 290, 5),
  )
  wanted, given = (log_probs_at(model, batch, 2.0) for model in (teacher, student))
  weights = batch["loss_weights"]
  kl = np.sum((np.exp(wanted) * (wanted - given)).sum(axis=-1) * weights)
  nll = -np.sum(picked(log_probs(student, batch), batch["targets"]) * weights)
  loss = loss_of(objective, student, teacher, batch)
  np.testing.assert_allclose(loss.sum, 0.4 * 4 * kl + 0.6 * nll, rtol=1e-4)
  np.testing.assert_allclose(loss.metrics["kl"][0], kl, rtol=1e-4)
  np.testing.assert_allclose(loss.metrics["nll"][0], nll, rtol=1e-4)


def log_probs_at(model, batch, temperature: float) -> np.ndarray:
  logits = np.asarray(model(batch["tokens"], segment_ids=batch["segment_ids"]).logits(), np.float64) / temperature
  return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_a_student_that_is_its_teacher_learns_nothing_from_it():
  objective = make_objective("distillation", SETTING, teacher_temperature=3.0, distilled=1.0)
  batch, model = batch_of("distillation", objective_of("distillation")), model_of("distillation")
  grad = jax.jit(jax.grad(lambda student: objective.loss(student, batch, None, model).sum))
  for value in grad(model).params.values():
    np.testing.assert_allclose(value, 0, atol=1e-4)


def test_a_teacher_of_another_vocabulary_is_refused():
  objective = objective_of("distillation")
  batch, teacher = batch_of("distillation", objective), table_model("language", 300)
  with pytest.raises(LmxError, match=r"config.objective.teacher: .*it has 300 ids, this run has 290"):
    objective.loss(model_of("distillation"), batch, None, teacher)


def test_a_temperature_below_one_is_refused_for_a_teacher():
  with pytest.raises(LmxError, match=r"config.objective.teacher_temperature: got 0.5"):
    make_objective("distillation", SETTING, teacher_temperature=0.5, distilled=0.5)


# ---------------------------------------------------------------- contrastive pairs


def test_the_contrastive_loss_equals_its_formula():
  objective = objective_of("contrastive")
  batch, model = batch_of("contrastive", objective), model_of("contrastive")
  vectors = []
  for group in ("", "pair_"):
    scores = model(batch[group + "tokens"], segment_ids=batch[group + "segment_ids"]).scores
    vectors.append(np.asarray(scores, np.float64))
    vectors[-1] /= np.linalg.norm(vectors[-1], axis=1, keepdims=True)
  similarity = vectors[0] @ vectors[1].T / 0.5
  losses = [np.log(np.exp(table).sum(axis=1)) - np.diag(table) for table in (similarity, similarity.T)]
  loss = loss_of(objective, model, None, batch)
  np.testing.assert_allclose(loss.sum, (losses[0] + losses[1]).sum() / 2, rtol=1e-4)
  hits = similarity.argmax(axis=1) == np.arange(6)
  assert loss.metrics["batch_accuracy"] == (hits.sum(), 6)


def test_the_scores_of_pairs_do_not_depend_on_the_batch_size():
  objective = objective_of("contrastive")
  batch, model = batch_of("contrastive", objective), model_of("contrastive")
  halves = [loss_of(objective, model, None, {k: v[start : start + 3] for k, v in batch.items()}) for start in (0, 3)]
  whole = loss_of(objective, model, None, batch).predictions
  joined = {name: jnp.concatenate([half.predictions[name] for half in halves]) for name in whole}
  assert objective.score(jax.device_get(whole)) == pytest.approx(objective.score(jax.device_get(joined)))


def test_a_vector_of_zeros_has_a_finite_gradient():
  objective = objective_of("contrastive")
  batch = {name: values[:2] for name, values in batch_of("contrastive", objective).items()}
  silent = table_model("embedding", TOKENIZER.vocab_size)
  silent.params = {name: np.zeros_like(value) for name, value in silent.params.items()}
  gradient = jax.jit(jax.grad(lambda model: objective.loss(model, batch, None, None).sum))(silent)
  assert all(np.isfinite(value).all() for value in gradient.params.values())
