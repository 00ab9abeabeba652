# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Log-probabilities of the tokens of given text."""

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

  Rows are padded at the end, which doesn't affect a causal model. One program is compiled per bucket of lengths.

  Args:
    model: a causal model.
    rows: token ids, (n,) each; the first isn't scored, so pass the tokenizer's bos_id at the start of a document.
    batch_size: rows per batch; their logits are in memory at the same time.

  Raises:
    LmxError: an empty row, one of more than context + 1 tokens, or an id outside the vocabulary.

  Examples:
    >>> from lmx.inference.score import score
    >>> run = lmx.load("runs/cpu")
    >>> ids = run.tokenizer.encode("The")
    >>> [log_probs] = score(run.model, [ids])
    >>> len(ids), log_probs.shape
    (3, (2,))
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
