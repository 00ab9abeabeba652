# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Next-token prediction: both halves, and its metrics."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objectives.making import make_objective
from objectives.tiny_models import table_model

from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.errors import LmxError
from lmx.models import MODELS
from lmx.objectives import OBJECTIVES
from lmx.objectives.base import ObjectiveContext
from lmx.objectives.parts import with_auxiliary

SETTING = ObjectiveContext(ByteTokenizer(), length=16, encoder_length=16, architecture="transformer")


def batch_of(vocab_size: int) -> dict[str, np.ndarray]:
  tokens = np.random.default_rng(0).integers(0, vocab_size, (2, 16)).astype(np.int32)
  weights = np.ones((2, 16), np.float32)
  weights[0, :8] = 0
  segments = np.ones((2, 16), np.int32)
  return {"tokens": tokens, "targets": tokens[:, ::-1], "loss_weights": weights, "segment_ids": segments}


def test_a_window_becomes_pairs_of_a_token_and_the_next():
  objective = make_objective("causal", SETTING, z_loss=0.0)
  row = objective.prepare(np.array([5, 6, 7, 8]), np.random.default_rng(0))
  assert objective.lookahead == 1
  np.testing.assert_array_equal(row["tokens"], [5, 6, 7])
  np.testing.assert_array_equal(row["targets"], [6, 7, 8])
  np.testing.assert_array_equal(row["loss_weights"], [1, 1, 1])


def test_every_objective_names_families_that_exist_and_every_family_has_one():
  named = {family for row in OBJECTIVES.values() for family in row.families}
  assert set(MODELS) <= named <= {"transformer", "encoder", "encoder_decoder", "lstm"}


def test_the_loss_is_a_sum_a_weight_and_metrics_of_the_same_form():
  batch = batch_of(19)
  plain, regular = (make_objective("causal", SETTING, z_loss=z) for z in (0.0, 0.01))
  model = table_model("language", 19)

  @jax.jit
  def losses(model, batch):
    logits = model(batch["tokens"], segment_ids=batch["segment_ids"]).logits()
    return logits, plain.loss(model, batch, None, None), regular.loss(model, batch, None, None)

  logits, loss, with_z = losses(model, batch)
  log_probs = logits - jnp.log(jnp.sum(jnp.exp(logits), axis=-1, keepdims=True))
  nll = -np.take_along_axis(np.asarray(log_probs), batch["targets"][..., None], axis=-1)[..., 0]
  np.testing.assert_allclose(loss.sum, np.sum(nll * batch["loss_weights"]), rtol=1e-5)
  assert loss.weight == 24
  assert set(loss.metrics) == {"nll", "accuracy"}
  np.testing.assert_allclose(loss.metrics["nll"][0], loss.sum)
  np.testing.assert_allclose(with_z.sum, with_z.metrics["nll"][0] + 0.01 * with_z.metrics["z"][0], rtol=1e-6)


def test_the_losses_of_the_models_parts_are_added_as_means_over_tokens_and_reported():
  batch = batch_of(19)
  model = table_model("language", 19)
  outputs = model(batch["tokens"], segment_ids=batch["segment_ids"])
  loss = make_objective("causal", SETTING, z_loss=0.0).loss(model, batch, None, None)
  balanced = with_auxiliary(
    loss, dataclasses.replace(outputs, auxiliary={"balance": (jnp.float32(8), jnp.float32(32))})
  )
  np.testing.assert_allclose(balanced.sum / balanced.weight, loss.sum / loss.weight + 8 / 32, rtol=1e-6)
  assert balanced.metrics["balance"] == (8, 32)


def test_a_negative_z_loss_is_refused():
  with pytest.raises(LmxError, match=r"config.objective.z_loss: got -1"):
    make_objective("causal", SETTING, z_loss=-1.0)
