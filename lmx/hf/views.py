# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""How a tensor of another program becomes a parameter of ours, and back: a pattern of named dimensions.

"(h k) d -> d h k" says that theirs is a matrix whose rows are heads times head width, and that ours has the dimensions
apart and in another order. One pattern serves three uses: the shape that theirs must have, reading any rectangle of
ours by touching only the part of theirs that it needs, and writing ours back.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import numpy as np

Range = tuple[int, int]  # Start and stop.
ReadSlice = Callable[[tuple[slice, ...]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class View:
  """One pattern.

  Attributes:
    pattern: "theirs -> ours", each a list of letters; letters in brackets share a dimension, the first is the slowest;
      "1" is a dimension of one.
    along: for a tensor that holds several of our parameters, one after another in the order of the table: the dimension
      of theirs along which they lie. None: the tensor holds this parameter alone.
    before: rows of their first dimension that ours lacks, at its start; zeros are written there.
  """

  pattern: str
  along: int | None = None
  before: int = 0

  @functools.cached_property
  def groups(self) -> tuple[tuple[str, ...], ...]:
    """Letters of each of their dimensions."""
    groups: list[tuple[str, ...]] = []
    words = iter(self.pattern.partition("->")[0].replace("(", " ( ").replace(")", " ) ").split())
    for word in words:
      groups.append(tuple(iter(lambda: next(words), ")")) if word == "(" else () if word == "1" else (word,))
    return tuple(groups)

  @functools.cached_property
  def letters(self) -> tuple[str, ...]:
    """Letters in their order."""
    return tuple(letter for group in self.groups for letter in group)

  @functools.cached_property
  def ours(self) -> tuple[str, ...]:
    """Letters in our order, one for each dimension."""
    return tuple(self.pattern.partition("->")[2].split())

  def sizes(self, shape: tuple[int, ...], real: Mapping[str, int]) -> dict[str, int]:
    """Letter -> size in their tensor.

    Args:
      shape: ours, without the stacked dimensions.
      real: letters whose size in theirs is smaller than in ours, where rows are padding ("v", the vocabulary).

    Raises:
      ValueError: a shape of another rank than the pattern.
    """
    sizes = dict(zip(self.ours, shape, strict=True))
    return sizes | {letter: size for letter, size in real.items() if letter in sizes}

  def part_shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of the part of their tensor that is ours."""
    return tuple(math.prod(sizes[letter] for letter in group) for group in self.groups)

  def read(
    self, read_slice: ReadSlice, ranges: Mapping[str, Range], sizes: Mapping[str, int], start: int = 0
  ) -> np.ndarray:
    """A rectangle of ours, from the smallest one of theirs that is contiguous in each dimension.

    Args:
      read_slice: their tensor at a tuple of slices.
      ranges: letter -> (start, stop), within `sizes`.
      sizes: of `sizes()`.
      start: where our part begins, along `along` (or the first dimension).
    """
    index: list[slice] = []
    held: dict[str, Range] = {}
    for number, group in enumerate(self.groups):
      (low, high), group_held = _contiguous(group, ranges, sizes)
      first = start if number == (self.along or 0) else 0
      index.append(slice(low + first, high + first))
      held |= group_held
    array = read_slice(tuple(index)).reshape([held[letter][1] - held[letter][0] for letter in self.letters])
    cuts = [slice(ranges[letter][0] - held[letter][0], ranges[letter][1] - held[letter][0]) for letter in self.letters]
    return array[tuple(cuts)].transpose([self.letters.index(letter) for letter in self.ours])

  def write(self, array: np.ndarray, into: np.ndarray, sizes: Mapping[str, int], start: int = 0) -> None:
    """Puts ours (without the stacked dimensions) where it belongs in their tensor; padding rows are left out."""
    real = array[tuple(slice(sizes[letter]) for letter in self.ours)]
    place = [slice(None)] * len(self.groups)
    place[self.along or 0] = slice(start, start + self.part_shape(sizes)[self.along or 0])
    target = into[tuple(place)].reshape([sizes[letter] for letter in self.letters], copy=False)
    target[...] = real.transpose([self.ours.index(letter) for letter in self.letters])


def _contiguous(
  group: tuple[str, ...], ranges: Mapping[str, Range], sizes: Mapping[str, int]
) -> tuple[Range, dict[str, Range]]:
  """(range in the dimension that the letters share, letter -> range that it holds).

  Letters of one index only move the start; the first longer one is cut; what is inside of it is read whole.
  """
  start, stop = 0, 1
  held: dict[str, Range] = {}
  single = True
  for letter in group:
    size = sizes[letter]
    low, high = ranges[letter] if single else (0, size)
    start, stop = (start * size + low, start * size + high) if single else (start * size, stop * size)
    held[letter] = (low, high)
    single = single and high - low == 1
  return (start, stop), held
