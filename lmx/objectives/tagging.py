# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Give a tag to each word: names of people and places, parts of speech."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.data.cache.encoding import BadExampleError, Encoded
from lmx.data.document import RequiredColumns
from lmx.objectives.base import Batch, Loss, Objective, ObjectiveContext, ObjectiveSpec, run_model
from lmx.objectives.classification import check_labels
from lmx.objectives.columns import place_of, words_of
from lmx.objectives.examples import Frame, as_encoded
from lmx.objectives.parts import task_scores, with_auxiliary
from lmx.objectives.scores import tagging_scores


class TaggedWords:
  """Rows with words and a tag for each, framed as one text is; the tag is on the first token of its word.

  The words are joined by spaces and tokenized together. A word that leaves no token has no tag to predict.
  """

  columns: tuple[str, ...] = ("tokens", "tags")
  optional: tuple[str, ...] = ()

  def __init__(self, context: ObjectiveContext):
    self._tokenizer, self._frame, self._labels = context.tokenizer, Frame.of(context), context.labels
    self.fingerprint = {
      "objective": "tagging",
      "framing": self._frame.framing.described(),
      "length": context.length,
      "labels": list(context.labels),
    }

  def __call__(self, row: Mapping[str, Any]) -> Encoded:
    words, tags = words_of(row, "tokens"), words_of(row, "tags")
    if len(words) != len(tags):
      raise BadExampleError("words and tags differ in number", f"{len(words)} words, {len(tags)} tags")
    places = np.array([place_of(tag, self._labels) for tag in tags], np.int32)
    ids, offsets = self._tokenizer.encode_with_offsets(" ".join(words))
    framed = self._frame(ids)
    first, found = first_tokens(offsets, np.array([len(word) for word in words]))
    targets = np.zeros(len(ids), np.int32)
    weights = np.zeros(len(ids), np.float32)
    targets[first], weights[first] = places[found], 1
    begin, end = framed.places[0]
    if not weights[: end - begin].any():
      raise BadExampleError("no word with a token")
    padding = (begin, len(framed.fields["tokens"]) - end)
    both = {"targets": targets, "loss_weights": weights}
    around = {name: np.pad(values[: end - begin], padding) for name, values in both.items()}
    return Encoded({**framed.fields, **around}, framed.truncated)


def first_tokens(offsets: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The first token of each word.

  Args:
    offsets: (n, 2) the characters that each token stands for, of the words with a space between them.
    sizes: (w,) characters of each word.

  Returns:
    Positions of tokens, and the words that they begin. A word that shares its first token with another is left out.
  """
  begin = np.cumsum(sizes + 1) - sizes - 1
  # The first token that ends after the word's first character; it may also stand for the space before the word.
  first = np.searchsorted(np.maximum.accumulate(offsets[:, 1]), begin, side="right")
  inside = first < len(offsets)
  inside[inside] = offsets[first[inside], 0] < (begin + sizes)[inside]
  found = np.flatnonzero(inside)
  places, unique = np.unique(first[found], return_index=True)
  return places, found[unique]


def tagging(context: ObjectiveContext) -> Objective:
  """Cross-entropy of each word's tag, at its first token.

  Args:
    context: the run's, with the labels.

  Metrics of a split: `accuracy` over words, and `entity_f1` where tags are B-type, I-type and O.

  Raises:
    LmxError: fewer than two labels.
  """
  check_labels(context, 2)

  def loss(model: Any, batch: Batch, dropout_key: jax.Array | None, reference: Any = None) -> Loss:
    del reference
    outputs = run_model(model, batch, dropout_key)
    scores = task_scores(outputs)
    weights = batch["loss_weights"]
    targets = jnp.where(weights > 0, batch["targets"], 0)  # Padding is filled with an id that may be no label.
    log_probs = jax.nn.log_softmax(scores.astype(jnp.float32))
    nll = -jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
    tags = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    total, weight = jnp.sum(nll * weights), jnp.sum(weights)
    predictions = {
      "tags": tags,
      "targets": targets,
      "counted": weights,
      "segment_ids": batch["segment_ids"],
      "weights": jnp.max(weights, axis=1),
    }
    metrics = {"accuracy": (jnp.sum((tags == targets) * weights), weight)}
    return with_auxiliary(Loss(total, weight, metrics, predictions), outputs)

  return Objective(
    "tagging",
    prepare=as_encoded,
    loss=loss,
    encoder=TaggedWords(context),
    score=functools.partial(tagging_scores, labels=context.labels),
  )


ROW = ObjectiveSpec(
  tagging,
  head="tagging",
  families=("encoder",),
  packings=("packed", "padded"),
  labelled=True,
  texts=RequiredColumns(("tokens",)),
)
