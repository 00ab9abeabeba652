# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Sequence to sequence (translation, summarization), with an encoder-decoder or a decoder-only model."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lmx.data.cache.encoding import BadExampleError, Encoded
from lmx.data.document import RequiredColumns
from lmx.objectives.base import Objective, ObjectiveContext, ObjectiveSpec
from lmx.objectives.columns import text_of
from lmx.objectives.examples import as_encoded, find_framing, next_token_fields
from lmx.objectives.parts import decoder_pair, token_loss

_LEAST_SOURCE = 1  # Tokens of the source that must fit into the row of a decoder-only model.


class SourceAndTarget:
  """Rows with a source and a target to examples.

  An encoder-decoder reads the source and the end of a text, and writes the target and the end. A decoder reads
  "bos source sep target eos" (sep is the end of a text where the tokenizer has none) and is scored on the target and
  the end. A source that is too long loses its end; a target that is too long is an error.
  """

  columns: tuple[str, ...] = ("source", "target")
  optional: tuple[str, ...] = ()

  def __init__(self, context: ObjectiveContext):
    self._context = context
    found = find_framing(context.tokenizer, context.architecture, context.framing)
    self._template, self._room = found.single, context.encoder_length - found.single.added
    self.fingerprint = {
      "objective": "seq2seq",
      "framing": found.described() if context.architecture == "encoder_decoder" else [],
      "family": context.architecture,
      "length": context.length,
      "encoder_length": context.encoder_length,
    }

  def __call__(self, row: Mapping[str, Any]) -> Encoded:
    (source,) = self._context.tokenizer.encode_batch([text_of(row, "source")])
    (target,) = self._context.tokenizer.encode_targets([text_of(row, "target")])
    if self._context.architecture == "encoder_decoder":
      return self._two_rows(source, target)
    return self._one_row(source, target)

  def _two_rows(self, source: np.ndarray, target: np.ndarray) -> Encoded:
    self._check_target(len(target), self._context.length - 1)
    encoder, _ = self._template.fill(source[: self._room])
    fields = {"encoder_tokens": encoder, **decoder_pair(target, self._context.tokenizer)}
    return Encoded(fields, max(0, len(source) - self._room))

  def _one_row(self, source: np.ndarray, target: np.ndarray) -> Encoded:
    tokenizer, length = self._context.tokenizer, self._context.length
    self._check_target(len(target), length - 2 - _LEAST_SOURCE)
    room = length - 2 - len(target)
    ids = np.concatenate([[tokenizer.bos_id], source[:room], [tokenizer.sep_id], target, [tokenizer.eos_id]])
    scored = np.arange(len(ids)) >= len(ids) - len(target) - 1
    return Encoded(next_token_fields(ids, scored), max(0, len(source) - room))

  def _check_target(self, size: int, room: int) -> None:
    if size > room:
      fix = f"raise --config.data.length from {self._context.length}, or shorten it"
      raise BadExampleError("target too long", f"{size} tokens, there is room for {room}; {fix}")


def seq2seq(context: ObjectiveContext, *, z_loss: float, label_smoothing: float) -> Objective:
  """Cross-entropy of the target.

  Args:
    context: the run's.
    z_loss: weight of log(Z)^2 per token.
    label_smoothing: this share of the target's probability is spread evenly over the vocabulary, the target's own id
      included (https://arxiv.org/abs/1512.00567, section 7).

  Metrics: `nll` (not smoothed) and `accuracy` over the target's tokens.

  Raises:
    LmxError: an option out of range.
  """
  loss = token_loss(z_loss=z_loss, label_smoothing=label_smoothing)
  return Objective("seq2seq", prepare=as_encoded, loss=loss, encoder=SourceAndTarget(context))


ROW = ObjectiveSpec(
  seq2seq,
  head="language",
  families=("encoder_decoder", "transformer"),
  packings=("packed", "padded"),
  texts=RequiredColumns(("source", "target")),
)
