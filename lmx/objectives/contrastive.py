# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Give texts that belong together nearby vectors, with the rest of the batch as counter-examples.

Sources: https://arxiv.org/abs/1908.10084 and, for the loss in both directions, https://arxiv.org/abs/2103.00020.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lmx.data.cache.encoding import Encoded
from lmx.data.document import RequiredColumns
from lmx.objectives.base import Batch, Loss, Objective, ObjectiveContext, ObjectiveSpec, run_model
from lmx.objectives.columns import text_of
from lmx.objectives.examples import Frame, prepare_row
from lmx.objectives.parts import task_scores, with_auxiliary
from lmx.objectives.scores import retrieval_scores

_FAR = -1e30  # The similarity of a row that only fills a batch.


class Pairs:
  """Rows with two texts that belong together; each is framed by itself."""

  columns: tuple[str, ...] = ("text", "text_b")
  optional: tuple[str, ...] = ()

  def __init__(self, context: ObjectiveContext):
    self._tokenizer, self._frame = context.tokenizer, Frame.of(context)
    self.fingerprint = {
      "objective": "contrastive",
      "framing": self._frame.framing.described(),
      "length": context.length,
      "token_types": context.token_types,
    }

  def __call__(self, row: Mapping[str, Any]) -> Encoded:
    first, second = self._tokenizer.encode_batch([text_of(row, "text"), text_of(row, "text_b")])
    one, other = self._frame(first), self._frame(second)
    fields = {**one.fields, **{f"pair_{name}": values for name, values in other.fields.items()}}
    return Encoded(fields, one.truncated + other.truncated)


def directions(vectors_BD: jax.Array) -> jax.Array:
  """Vectors of length 1, float32."""
  vectors = vectors_BD.astype(jnp.float32)
  return vectors * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(vectors), axis=1, keepdims=True), 1e-24))


def contrastive(context: ObjectiveContext, *, temperature: float) -> Objective:
  """Cross-entropy of each text's partner among those of the complete batch, averaged over both directions.

  The loss depends on what else is in the batch, so a batch isn't split into micro-batches, and the loss of a validation
  split depends on the batch size; how its texts are ranked does not.

  Args:
    context: the run's.
    temperature: cosine similarities are divided by it.

  Metrics of a split: `retrieval_accuracy` (texts whose nearest among all the split's `text_b` is their own), `mrr` (the
  mean of 1 / rank). `batch_accuracy` is the same within each batch, for the log of a training.

  Raises:
    LmxError: an option out of range.
  """

  def loss(model: Any, batch: Batch, dropout_key: jax.Array | None, reference: Any = None) -> Loss:
    del reference
    weights = batch["loss_weights"]
    keys = (None, None) if dropout_key is None else jax.random.split(dropout_key)
    runs = [run_model(model, batch, key, group) for key, group in zip(keys, ("", "pair_"), strict=True)]
    first_BD, second_BD = (directions(task_scores(outputs)) for outputs in runs)
    similarity_BB = jnp.dot(first_BD, second_BD.T, precision="highest") / temperature
    own_B = jnp.diagonal(similarity_BB)
    real_B = weights > 0
    losses = []
    for table_BB in (similarity_BB, similarity_BB.T):
      table_BB = jnp.where(real_B[None], table_BB, _FAR)
      losses.append(jax.nn.logsumexp(table_BB, axis=1) - own_B)
    weight = jnp.sum(weights)
    total = jnp.sum((losses[0] + losses[1]) / 2 * weights)
    hits = own_B >= jnp.max(jnp.where(real_B[None], similarity_BB, _FAR), axis=1)
    predictions = {"first": first_BD, "second": second_BD, "weights": weights}
    metrics = {"batch_accuracy": (jnp.sum(hits * weights), weight)}
    return with_auxiliary(Loss(total, weight, metrics, predictions), *runs)

  return Objective(
    "contrastive",
    prepare=prepare_row,
    loss=loss,
    encoder=Pairs(context),
    per_row=("loss_weights",),
    score=retrieval_scores,
  )


ROW = ObjectiveSpec(
  contrastive,
  head="embedding",
  families=("encoder", "transformer"),
  packings=("padded",),
  splits=False,
  texts=RequiredColumns(("text", "text_b")),
)
