# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Predict the next token: the objective of GPT and of every decoder-only model."""

import dataclasses

import numpy as np

from lmx.nn.losses import cross_entropy
from lmx.nn.outputs import Outputs
from lmx.objectives.base import Batch, Loss, Objective


def prepare(window: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
  """A window of L + 1 tokens as a row of L pairs (token, next token), each of weight 1."""
  del rng  # Nothing is random here.
  window = np.asarray(window, np.int32)
  return {"tokens": window[:-1], "targets": window[1:], "loss_weights": np.ones(len(window) - 1, np.float32)}


def causal(*, z_loss: float = 0.0) -> Objective:
  """Next-token prediction.

  Args:
    z_loss: weight of log(Z)^2 per token (https://arxiv.org/abs/2204.02311, section 5, uses 1e-4); 0: off.

  The loss is in nats per unit of weight. Metrics: `nll` (the loss without z-loss), `accuracy`, and `z` (log(Z)^2).
  """

  def loss(outputs: Outputs, batch: Batch) -> Loss:
    head = dataclasses.replace(outputs.head, z_loss=z_loss)
    sums = cross_entropy(outputs.hidden, outputs.unembedding, batch["targets"], batch["loss_weights"], head)
    metrics = {"nll": (sums.nll, sums.weight), "accuracy": (sums.correct, sums.weight)}
    if z_loss:
      metrics["z"] = (sums.z, sums.weight)
    return Loss(sums.total, sums.weight, metrics)

  return Objective("causal", lookahead=1, prepare=prepare, loss=loss)
