# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Texts as vectors: the pooled hidden states of any model."""

import functools

import jax
import numpy as np

from lmx.errors import LmxError, choose, message
from lmx.inference.batches import Ragged, over_rows
from lmx.nn.heads import POOLINGS, pool


@functools.partial(jax.jit, static_argnames="pooling")
def _pooled(model, tokens_BL, segments_BL, *, pooling: str, **beside):
  if "encoder_tokens" in model.inputs:
    hidden_BLD = model.encode(tokens_BL, encoder_segment_ids=segments_BL)
  else:
    hidden_BLD = model(tokens_BL, segment_ids=segments_BL, **beside).hidden
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
  """One vector for each row, (n, D) float32.

  What is pooled are the final hidden states, of the encoder where a model has one.

  Args:
    model: any model, whatever its head.
    rows: ids, (n,) each, with the special tokens that the model was trained on.
    pooling: cls | mean | last; None: the model's own, config.model.pooling.
    normalize: vectors of length 1, so that a dot product is the cosine.
    token_types: which of two texts each token belongs to, for models that have a table of them.
    batch_size: rows at once; the result doesn't depend on it.

  Raises:
    LmxError: an unknown pooling, an empty row, one longer than the context, or an id outside the vocabulary.
  """
  name = model.spec.pooling if pooling is None else pooling
  choose("pooling", name, dict.fromkeys(POOLINGS))
  if name == "cls" and getattr(model.spec, "usual_pooling", "last") == "last":
    allowed = "mean or last: the first token of a causal model sees no other, so that all texts would be the same"
    raise LmxError(message("pooling", got=name, allowed=allowed, fix="pooling='last'"))
  if not rows:
    return np.zeros((0, model.spec.width), np.float32)
  beside = {} if token_types is None else {"token_types": token_types}
  run = functools.partial(_pooled, pooling=name)
  vectors = np.stack(over_rows(run, model, rows, batch_size=batch_size, beside=beside))
  if not normalize:
    return vectors
  return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
