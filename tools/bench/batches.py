# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Random documents as long as those of web text, and batches of them."""

import numpy as np

MEDIAN, SPREAD = 400, 1.27  # Tokens, and the standard deviation of their logarithm; the mean is then 900.


def document_lengths(documents: int, random: np.random.Generator) -> np.ndarray:
  """Tokens of each document, log-normal, at least one."""
  return np.maximum(1, random.lognormal(np.log(MEDIAN), SPREAD, documents)).astype(int)


def document_segments(rows: int, length: int, random: np.random.Generator) -> np.ndarray:
  """Segment ids (rows, length) of rows full of documents."""
  segments = np.empty((rows, length), np.int32)
  for row in segments:
    ends = np.cumsum(document_lengths(length, random))
    row[:] = 1 + np.searchsorted(ends, np.arange(length), side="right")
  return segments


def make_batch(rows: int, length: int, vocabulary: int, documents: bool) -> dict[str, np.ndarray]:
  """Random tokens, each row one document or, with `documents`, several."""
  random = np.random.default_rng(0)
  tokens = random.integers(0, vocabulary, (rows, length + 1), dtype=np.int32)
  batch = {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], "loss_weights": np.ones((rows, length), np.float32)}
  if documents:
    batch["segment_ids"] = document_segments(rows, length, random)
  return batch
