# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Text embeddings: the pooled hidden states of any model."""

import functools

import jax
import numpy as np

from lmx.errors import LmxError, choose, message
from lmx.inference.batches import Ragged, over_rows
from lmx.nn.heads import POOLINGS, pool


@functools.partial(jax.jit, static_argnames="pooling")
def _pooled(model, tokens_BL, segments_BL, *, pooling: str, **aligned):
  if "encoder_tokens" in model.inputs:
    hidden_BLD = model.encode(tokens_BL, encoder_segment_ids=segments_BL)
  else:
    hidden_BLD = model(tokens_BL, segment_ids=segments_BL, **aligned).hidden
  return pool(pooling, hidden_BLD, segments_BL)


def embed(
  model,
  rows: Ragged,
  *,
  pooling: str | None = None,
  normalize: bool = False,
  token_types: Ragged | None = None,
  batch_size: int = 32,
) -> np.ndarray:
  """Embeds rows: pools the final hidden states, those of the encoder where a model has one.

  Args:
    model: any model, whatever its head.
    rows: token ids, (n,) each, with the special tokens that the model was trained on.
    pooling: cls | mean | last; None: the model's own, config.model.pooling.
    normalize: scale vectors to length 1, so that a dot product is the cosine.
    token_types: for models with token types: 0 or 1 per token, the text of a pair that it belongs to.
    batch_size: rows per batch; the result doesn't depend on it.

  Returns:
    (len(rows), D) float32.

  Raises:
    LmxError: an unknown pooling, an empty row, one longer than the context, or an id outside the vocabulary.

  Examples:
    >>> from lmx.inference.embed import embed
    >>> run = lmx.load("runs/cpu")
    >>> embed(run.model, [run.tokenizer.encode("a text")], pooling="mean").shape[0]
    1
  """
  name = model.spec.pooling if pooling is None else pooling
  choose("pooling", name, dict.fromkeys(POOLINGS))
  if name == "cls" and getattr(model.spec, "usual_pooling", "last") == "last":
    allowed = "mean or last: the first token of a causal model attends to no other, so all vectors would be the same"
    raise LmxError(message("pooling", got=name, allowed=allowed, fix="pooling='last'"))
  if not rows:
    return np.zeros((0, model.spec.width), np.float32)
  aligned = {} if token_types is None else {"token_types": token_types}
  run = functools.partial(_pooled, pooling=name)
  vectors = np.stack(over_rows(run, model, rows, batch_size=batch_size, aligned=aligned))
  if not normalize:
    return vectors
  return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
