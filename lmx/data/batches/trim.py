# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Batches that end where their longest row does: what they lose is padding, which nothing depends on."""

from collections.abc import Collection, Mapping

import numpy as np

from lmx.data.batches.assemble import group_of, groups_of


def trimmed(batch: Mapping[str, np.ndarray], multiple: int, per_row: Collection[str]) -> dict[str, np.ndarray]:
  """A batch whose rows are as long as the longest one's tokens, rounded up to a multiple, each group by itself.

  Args:
    batch: arrays (B, L, ...), or (B, M, ...) of another group, with the `segment_ids` of each group.
    multiple: every length is a compilation, so they should be few.
    per_row: names of arrays that have no length.
  """
  groups = groups_of([name for name in batch if name not in per_row])
  ends = {group: _end(batch[group + "segment_ids"], multiple) for group in groups}
  return {name: array if name in per_row else array[:, : ends[group_of(name, groups)]] for name, array in batch.items()}


def _end(segments_BL: np.ndarray, multiple: int) -> int:
  filled = np.flatnonzero(segments_BL.any(axis=0))
  longest = int(filled[-1]) + 1 if len(filled) else 1
  return min(segments_BL.shape[1], -(-longest // multiple) * multiple)
