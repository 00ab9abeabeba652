# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Assembles the segments of a row into arrays: each prepared by the objective, concatenated, and padded."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from lmx.data.batches.rows import Segment
from lmx.data.cache.encoding import DataRequirements, check_ids
from lmx.errors import LmxError

Row = dict[str, np.ndarray]
_TOKENS = "tokens"


def groups_of(names: Sequence[str]) -> list[str]:
  """The prefixes P of the arrays P + "tokens", longest first, so that an array's group is the first match."""
  return sorted((name.removesuffix(_TOKENS) for name in names if name.endswith(_TOKENS)), key=len, reverse=True)


def group_of(name: str, groups: Sequence[str]) -> str:
  """The group of an array, one of those that `groups_of` returned."""
  return next(prefix for prefix in groups if name.startswith(prefix))


class Assemble:
  """Turns the segments of a row into arrays.

  An array belongs to the group whose prefix its name has: "encoder_tokens" defines the group "encoder_". All arrays of
    a group have the same length. `segment_ids` of a group numbers the segments of the row from 1, the same in every
    group; 0 is padding. `positions` counts from 0 within each segment, or from the segment's own position, unless the
    objective returns it. Padding has weight zero: arrays are padded with zeros, those of tokens and targets with
    `pad_id`. Arrays with one value per row are not padded.
  """

  def __init__(
    self, requirements: DataRequirements, lengths: Mapping[str, int], pad_id: int, vocab_size: int | None = None
  ):
    """See the class.

    Args:
      requirements: of the objective.
      lengths: group -> tokens per row; "" for the groups that are not named.
      pad_id: pads tokens and targets.
      vocab_size: tokens must be 0 to vocab_size - 1; None: not checked.
    """
    self._requirements, self._lengths, self._pad_id, self._vocab_size = requirements, lengths, pad_id, vocab_size

  def __call__(self, segments: Sequence[Segment], rng: np.random.Generator) -> Row:
    """The arrays of one row: (L, ...) or (M, ...) by group, and those with one value per row.

    Raises:
      LmxError: more tokens than the row has positions, or an id outside of the vocabulary.
    """
    parts = [self._requirements.prepare(segment.content, rng) for segment in segments]
    row = {name: np.asarray(parts[0][name]) for name in self._requirements.per_row}
    for group, names in _by_group(tuple(parts[0]), self._requirements.per_row):
      length = self._lengths[group] if group in self._lengths else self._lengths[""]
      sizes = np.array([len(part[group + _TOKENS]) for part in parts])
      used = int(sizes.sum())
      _check_length(group, used, length)
      for name in names:
        row[name] = self._join(name, [part[name] for part in parts], used, length)
      if self._vocab_size is not None:
        check_ids(row[group + _TOKENS], self._vocab_size, "a batch")
      row[group + "segment_ids"] = _segment_ids(sizes, used, length)
      if group + "positions" not in row:
        # Only the main group can start within a document; the other groups hold complete examples.
        starts = np.zeros(len(sizes), np.int64) if group else np.array([segment.position for segment in segments])
        row[group + "positions"] = _positions(starts, sizes, used, length)
    return row

  def _join(self, name: str, arrays: Sequence[np.ndarray], used: int, length: int) -> np.ndarray:
    first = arrays[0]
    joined = np.empty((length, *first.shape[1:]), first.dtype)
    np.concatenate(arrays, out=joined[:used])
    joined[used:] = self._pad_id if name.endswith((_TOKENS, "targets")) else 0
    return joined


@functools.cache
def _by_group(names: tuple[str, ...], per_row: tuple[str, ...]) -> list[tuple[str, list[str]]]:
  """(group, names of its arrays) for the arrays of an objective, without those that have one value per row."""
  tokens = [name for name in names if name not in per_row]
  groups = groups_of(tokens)
  owner = {name: next(group for group in groups if name.startswith(group)) for name in tokens}
  return [(group, [name for name in tokens if owner[name] == group]) for group in groups]


def _check_length(group: str, used: int, length: int) -> None:
  if used > length:
    key = "config.data.encoder_length" if group == "encoder_" else "config.data.length"
    raise LmxError(
      f"{key}: got {length}, but the objective made {used} {group}{_TOKENS} for a row. Fix: --{key}={used} or more."
    )


def _segment_ids(sizes: np.ndarray, used: int, length: int) -> np.ndarray:
  row = np.zeros(length, np.int32)
  row[:used] = np.repeat(np.arange(1, len(sizes) + 1, dtype=np.int32), sizes)
  return row


def _positions(starts: np.ndarray, sizes: np.ndarray, used: int, length: int) -> np.ndarray:
  row = np.zeros(length, np.int32)
  offsets = np.cumsum(sizes) - sizes  # Where each segment begins in the row.
  row[:used] = np.arange(used) + np.repeat(starts - offsets, sizes)
  return row
