# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Shared parts of objectives: the loss over a vocabulary, auxiliary losses of the model, special ids."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.data.tokenizers.vocabulary import Tokenizer
from lmx.nn.losses import cross_entropy
from lmx.nn.outputs import Outputs
from lmx.objectives.base import Arrays, Batch, Loss, LossFunction, model_inputs


def vocabulary_loss(
  outputs: Outputs, targets: jax.Array, weights: jax.Array, *, z_loss: float = 0.0, label_smoothing: float = 0.0
) -> Loss:
  """Cross-entropy over the vocabulary, in nats per unit of weight, with the losses of the model's own parts.

  Args:
    outputs: of a model with a head over the vocabulary.
    targets: (B, L) int32.
    weights: (B, L) float32.
    z_loss: weight of log(Z)^2 per token (https://arxiv.org/abs/2204.02311, section 5).
    label_smoothing: share of the target's probability that is spread evenly over the vocabulary.

  Metrics: `nll` (without either), `accuracy`, and `z` (log(Z)^2) where z_loss is on.
  """
  head = dataclasses.replace(outputs.head, z_loss=z_loss, label_smoothing=label_smoothing)
  sums = cross_entropy(outputs.hidden, output_table(outputs), targets, weights, head, outputs.bias)
  metrics = {"nll": (sums.nll, sums.weight), "accuracy": (sums.correct, sums.weight)}
  if z_loss:
    metrics["z"] = (sums.z, sums.weight)
  return with_auxiliary(Loss(sums.total, sums.weight, metrics, carry=outputs.carry), outputs)


def token_loss(*, z_loss: float = 0.0, label_smoothing: float = 0.0) -> LossFunction:
  """The loss of objectives that predict `targets`, weighted by `loss_weights`; see `vocabulary_loss`."""

  def loss(model: Any, batch: Batch, dropout_key: jax.Array | None, reference: Any = None) -> Loss:
    del reference
    outputs = model(**model_inputs(model, batch), dropout_key=dropout_key)
    targets, weights = batch["targets"], batch["loss_weights"]
    return vocabulary_loss(outputs, targets, weights, z_loss=z_loss, label_smoothing=label_smoothing)

  return loss


def with_auxiliary(loss: Loss, *runs: Outputs) -> Loss:
  """Adds the losses of the model's own parts (the load balance of experts, ...), and reports each as a mean.

  Such a loss is a mean over tokens, of all `runs` of the model together. It is added as that mean times the objective's
  weight, so that it counts as much whatever share of the tokens the objective scores.
  """
  total, metrics = loss.sum, dict(loss.metrics)
  for name in runs[0].auxiliary:
    summed, tokens = (jnp.sum(jnp.stack([outputs.auxiliary[name][i] for outputs in runs])) for i in (0, 1))
    total = total + summed * (loss.weight / jnp.maximum(tokens, 1.0))
    metrics[name] = (summed, tokens)
  return dataclasses.replace(loss, sum=total, metrics=metrics)


def output_table(outputs: Outputs) -> jax.Array:
  """(V, D) the table that a hidden state is multiplied by.

  Raises:
    ValueError: the model has no head over the vocabulary.
  """
  if outputs.unembedding is None:
    raise ValueError("the model has no vocabulary to predict; build it with the head that the objective's row names")
  return outputs.unembedding


def task_scores(outputs: Outputs) -> jax.Array:
  """The scores of the model's task head.

  Raises:
    ValueError: the model has a head over the vocabulary.
  """
  if outputs.scores is None:
    raise ValueError("the model's head gives no scores; build it with the head that the objective's row names")
  return outputs.scores


def special_ids(tokenizer: Tokenizer) -> np.ndarray:
  """Ids that stand for no text, sorted: those around a document, the mask, the sentinels, the ids that were added."""
  own = {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id}
  own |= {tokenizer.sentinel(index) for index in range(tokenizer.sentinels)}
  own |= {*range(tokenizer.own_size, tokenizer.vocab_size)}
  if tokenizer.mask_id is not None:
    own.add(tokenizer.mask_id)
  return np.array(sorted(own), np.int32)


def text_part(window: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
  """A window without the start and the end of its document, where it has them."""
  window = np.asarray(window, np.int32)
  first = int(len(window) > 0 and window[0] == tokenizer.bos_id)
  last = int(len(window) > first and window[-1] == tokenizer.eos_id)
  return window[first : len(window) - last]


def decoder_pair(targets: np.ndarray, tokenizer: Tokenizer, *, whole: bool = True) -> Arrays:
  """Inputs and targets of a decoder: the targets and the end, and the same one position later.

  A decoder starts with the padding token, as T5's does.

  Args:
    targets: (n,) ids.
    tokenizer: for the start and the end.
    whole: whether there is anything to write; False: empty arrays.
  """
  if not whole:
    return {"tokens": targets, "targets": targets, "loss_weights": np.zeros(0, np.float32)}
  written = np.append(targets, tokenizer.eos_id).astype(np.int32)
  read = np.concatenate([[tokenizer.pad_id], written[:-1]]).astype(np.int32)
  return {"tokens": read, "targets": written, "loss_weights": np.ones(len(written), np.float32)}
