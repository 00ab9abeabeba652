# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Trims batches to the length of their longest row, rounded up: only padding is dropped."""

from collections.abc import Collection, Mapping

import numpy as np

from lmx.data.batches.assemble import group_of, groups_of


def trimmed(batch: Mapping[str, np.ndarray], multiple: int, per_row: Collection[str]) -> dict[str, np.ndarray]:
  """A batch without the padding that all of its rows share, each group trimmed separately.

  Args:
    batch: arrays (B, L, ...), or (B, M, ...) of another group, with the `segment_ids` of each group.
    multiple: lengths are rounded up to a multiple of it, since every new length compiles the step again.
    per_row: names of arrays with one value per row, (B, ...); they are returned as they are.
  """
  groups = groups_of([name for name in batch if name not in per_row])
  ends = {group: _end(batch[group + "segment_ids"], multiple) for group in groups}
  return {name: array if name in per_row else array[:, : ends[group_of(name, groups)]] for name, array in batch.items()}


def _end(segments_BL: np.ndarray, multiple: int) -> int:
  filled = np.flatnonzero(segments_BL.any(axis=0))
  longest = int(filled[-1]) + 1 if len(filled) else 1
  return min(segments_BL.shape[1], -(-longest // multiple) * multiple)
