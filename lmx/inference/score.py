# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""How likely a model finds given text: log-probabilities of tokens."""

from collections.abc import Sequence

import jax
import numpy as np

from lmx.inference.prompts import bucket, check_ids, pad_rows
from lmx.nn.losses import token_log_probs


@jax.jit
def _log_probs(model, tokens_BL, targets_BL):
  outputs = model(tokens_BL)
  return token_log_probs(outputs.hidden, outputs.unembedding, targets_BL, outputs.head, outputs.bias)


def score(model, rows: Sequence[np.ndarray], *, batch_size: int = 8) -> list[np.ndarray]:
  """log p(row[i + 1] | row[0..i]) in nats, float32, for i = 0 .. n - 2 of each row of n tokens.

  Rows are padded at the end, which a causal model never sees. One program is compiled for each bucket of lengths.

  Args:
    model: a causal model.
    rows: ids, (n,) each; the first is only read, so it is the tokenizer's bos_id where a document starts.
    batch_size: rows at once; the logits of that many are in memory.

  Raises:
    LmxError: an empty row, one of more than context + 1 tokens, or an id outside the vocabulary.
  """
  rows = [np.asarray(row, np.int32) for row in rows]
  for number, row in enumerate(rows):
    check_ids(model.spec, row, f"row {number}", longest=model.spec.context + 1)
  scores: list[np.ndarray] = []
  for start in range(0, len(rows), batch_size):
    some = rows[start : start + batch_size]
    width = min(bucket(max(len(row) for row in some)), model.spec.context)
    filled = [*some, *[some[0]] * (batch_size - len(some))] if start else some  # Later batches have the first's shape.
    tokens, _ = pad_rows([row[:-1] for row in filled], width)
    targets, _ = pad_rows([row[1:] for row in filled], width)
    result = np.asarray(_log_probs(model, tokens, targets))
    scores += [result[i, : len(row) - 1] for i, row in enumerate(some)]
  return scores
