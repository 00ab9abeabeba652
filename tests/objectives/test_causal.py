# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Next-token prediction: both halves, and what it reports."""

import jax.numpy as jnp
import numpy as np
from specimens import SPECIMENS, model_of, quick_jit

from lmx.models import MODELS
from lmx.objectives import OBJECTIVES


def test_a_window_becomes_pairs_of_a_token_and_the_next():
  objective = OBJECTIVES["causal"]()
  row = objective.prepare(np.array([5, 6, 7, 8]), np.random.default_rng(0))
  assert objective.lookahead == 1
  assert set(row) == set(objective.requires)
  np.testing.assert_array_equal(row["tokens"], [5, 6, 7])
  np.testing.assert_array_equal(row["targets"], [6, 7, 8])
  np.testing.assert_array_equal(row["loss_weights"], [1, 1, 1])


def test_every_model_names_objectives_that_exist():
  for family in MODELS.values():
    assert set(family.objectives) <= set(OBJECTIVES)


def test_the_loss_is_a_sum_a_weight_and_metrics_of_the_same_form():
  tokens = np.random.default_rng(0).integers(0, SPECIMENS["llama"].vocab_size, (2, 16)).astype(np.int32)
  batch = {"tokens": tokens, "targets": tokens, "loss_weights": np.ones((2, 16), np.float32)}
  batch["loss_weights"][0, :8] = 0
  plain, regular = OBJECTIVES["causal"](), OBJECTIVES["causal"](z_loss=0.01)

  @quick_jit
  def losses(model, batch):
    outputs = model(batch["tokens"])
    return outputs.logits(), plain.loss(outputs, batch), regular.loss(outputs, batch)

  logits, loss, with_z = losses(model_of("llama"), batch)
  log_probs = logits - jnp.log(jnp.sum(jnp.exp(logits), axis=-1, keepdims=True))
  nll = -np.take_along_axis(np.asarray(log_probs), tokens[..., None], axis=-1)[..., 0]
  np.testing.assert_allclose(loss.sum, np.sum(nll * batch["loss_weights"]), rtol=1e-5)
  assert loss.weight == 24
  assert set(loss.metrics) == {"nll", "accuracy"}
  np.testing.assert_allclose(loss.metrics["nll"][0], loss.sum)
  np.testing.assert_allclose(with_z.sum, with_z.metrics["nll"][0] + 0.01 * with_z.metrics["z"][0], rtol=1e-6)
