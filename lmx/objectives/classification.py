# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Classification of a text or a pair of texts, with one label or several."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.data.cache.encoding import Encoded
from lmx.data.document import RequiredColumns
from lmx.errors import LmxError, message
from lmx.objectives.base import Batch, Loss, Objective, ObjectiveContext, ObjectiveSpec, run_model
from lmx.objectives.columns import label_of, label_set_of, optional_text, text_of
from lmx.objectives.examples import Frame, prepare_row
from lmx.objectives.parts import task_scores, with_auxiliary
from lmx.objectives.scores import classification_scores, multi_label_scores


class LabelledTexts:
  """Rows with a text, maybe a second one, and a label or several; see `Frame` for what the model reads."""

  columns: tuple[str, ...] = ("text", "label")
  optional: tuple[str, ...] = ("text_b",)

  def __init__(self, context: ObjectiveContext, multi_label: bool):
    self._tokenizer, self._frame = context.tokenizer, Frame.of(context)
    self._labels, self._multi_label = context.labels, multi_label
    self.fingerprint = {
      "objective": "classification",
      "framing": self._frame.framing.described(),
      "length": context.length,
      "token_types": context.token_types,
      "labels": list(context.labels),
      "multi_label": multi_label,
    }

  def __call__(self, row: Mapping[str, Any]) -> Encoded:
    framed = self._frame(*self._tokenizer.encode_batch(texts_of(row)))
    if self._multi_label:
      labels = label_set_of(row, "label", self._labels)
    else:
      labels = np.array(label_of(row, "label", self._labels), np.int32)
    return Encoded({**framed.fields, "labels": labels}, framed.truncated)


def texts_of(row: Mapping[str, Any]) -> list[str]:
  """The text of a row, and its second one if it has one."""
  second = optional_text(row, "text_b")
  return [text_of(row, "text"), second] if second.strip() else [text_of(row, "text")]


def single_label_loss(scores_BC: jax.Array, labels_B: jax.Array) -> jax.Array:
  """(B,) float32: -log softmax(scores)[label], in nats."""
  log_probs = jax.nn.log_softmax(scores_BC.astype(jnp.float32))
  return -jnp.take_along_axis(log_probs, labels_B[:, None], axis=1)[:, 0]


def multi_label_loss(scores_BC: jax.Array, labels_BC: jax.Array) -> jax.Array:
  """(B,) float32: the binary cross-entropy of each label, in nats, averaged over the labels."""
  scores = scores_BC.astype(jnp.float32)
  return jnp.mean(jax.nn.softplus(scores) - labels_BC * scores, axis=1)


def classification(context: ObjectiveContext, *, multi_label: bool) -> Objective:
  """Classification by scores, one for each label.

  Args:
    context: the run's, with the labels.
    multi_label: each label is there or not, by itself; else a text has exactly one.

  Metrics of a split: `accuracy`, `macro_f1`, `matthews`, and with two labels `f1` of the second; multi-label:
  `accuracy` (all labels right), `micro_f1` and `macro_f1`, a label being given where its score is over 0.

  Raises:
    LmxError: fewer than two labels (one for multi-label).
  """
  check_labels(context, 1 if multi_label else 2)
  row_loss = multi_label_loss if multi_label else single_label_loss

  def loss(model: Any, batch: Batch, dropout_key: jax.Array | None, reference: Any = None) -> Loss:
    del reference
    outputs = run_model(model, batch, dropout_key)
    scores = task_scores(outputs)
    labels, weights = batch["labels"], batch["loss_weights"]
    total, weight = jnp.sum(row_loss(scores, labels) * weights), jnp.sum(weights)
    right = right_answers(scores, labels).astype(jnp.float32)
    predictions = {"scores": scores, "labels": labels, "weights": weights}
    metrics = {"accuracy": (jnp.sum(right * weights), weight)}
    return with_auxiliary(Loss(total, weight, metrics, predictions), outputs)

  return Objective(
    "classification",
    prepare=prepare_row,
    loss=loss,
    encoder=LabelledTexts(context, multi_label),
    per_row=("labels", "loss_weights"),
    score=multi_label_scores if multi_label else classification_scores,
  )


def right_answers(scores_BC: jax.Array, labels: jax.Array) -> jax.Array:
  """(B,) bool: whether the label, or every one of the labels, is right."""
  if labels.ndim == 1:
    return jnp.argmax(scores_BC, axis=1) == labels
  return jnp.all((scores_BC > 0) == (labels > 0), axis=1)


def check_labels(context: ObjectiveContext, least: int) -> None:
  """Checks that there are at least `least` labels, all different.

  Raises:
    LmxError: there are fewer, or two are the same.
  """
  if len(context.labels) < least or len(set(context.labels)) < len(context.labels):
    allowed = f"at least {least} different labels, of the config or in the data"
    raise LmxError(message("config.objective.labels", got=context.labels, allowed=allowed))


ROW = ObjectiveSpec(
  classification,
  head="classification",
  families=("encoder", "transformer"),
  packings=("padded",),
  labelled=True,
  texts=RequiredColumns(("text",), ("text_b",)),
)
