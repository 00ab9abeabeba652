# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Give a number to a text or to a pair of texts: how similar, how good, how old."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.data.cache.encoding import Encoded
from lmx.data.document import RequiredColumns
from lmx.objectives.base import Batch, Loss, Objective, ObjectiveContext, ObjectiveSpec, run_model
from lmx.objectives.classification import texts_of
from lmx.objectives.columns import number_of
from lmx.objectives.examples import Frame, prepare_row
from lmx.objectives.parts import task_scores, with_auxiliary
from lmx.objectives.scores import regression_scores


class NumberedTexts:
  """Rows with a text, maybe a second one, and a number in the column `label`."""

  columns: tuple[str, ...] = ("text", "label")
  optional: tuple[str, ...] = ("text_b",)

  def __init__(self, context: ObjectiveContext):
    self._tokenizer, self._frame = context.tokenizer, Frame.of(context)
    self.fingerprint = {
      "objective": "regression",
      "framing": self._frame.framing.described(),
      "length": context.length,
      "token_types": context.token_types,
    }

  def __call__(self, row: Mapping[str, Any]) -> Encoded:
    framed = self._frame(*self._tokenizer.encode_batch(texts_of(row)))
    return Encoded({**framed.fields, "labels": np.array(number_of(row, "label"), np.float32)}, framed.truncated)


def regression(context: ObjectiveContext) -> Objective:
  """Squared error in the label's own units.

  Args:
    context: the run's.

  Metrics of a split: `pearson`, `spearman`, `mse`.
  """

  def loss(model: Any, batch: Batch, dropout_key: jax.Array | None, reference: Any = None) -> Loss:
    del reference
    outputs = run_model(model, batch, dropout_key)
    scores = task_scores(outputs)
    labels, weights = batch["labels"], batch["loss_weights"]
    errors = jnp.square(scores.astype(jnp.float32) - labels)
    total, weight = jnp.sum(errors * weights), jnp.sum(weights)
    predictions = {"scores": scores, "labels": labels, "weights": weights}
    return with_auxiliary(Loss(total, weight, {"mse": (total, weight)}, predictions), outputs)

  return Objective(
    "regression",
    prepare=prepare_row,
    loss=loss,
    encoder=NumberedTexts(context),
    per_row=("labels", "loss_weights"),
    score=regression_scores,
  )


ROW = ObjectiveSpec(
  regression,
  head="regression",
  families=("encoder", "transformer"),
  packings=("padded",),
  texts=RequiredColumns(("text",), ("text_b",)),
)
