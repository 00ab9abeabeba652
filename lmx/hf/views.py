# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The mapping between a tensor of a file and a parameter of ours, as a pattern of named dimensions in einops' notation.

"(h k) d -> d h k": theirs is a matrix with heads times head width rows, ours has three dimensions in another order. One
pattern gives the shape that theirs must have, reads any rectangle of ours from the smallest part of theirs, and writes
ours back. einops itself isn't used: it rearranges complete arrays, and a shard needs the slice of theirs to read.
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
    pattern: "theirs -> ours", each a list of letters; letters in brackets share a dimension, in row-major order; "1" is
      a dimension of size one.
    along: the dimension of theirs along which several of our parameters are concatenated, in the order of the table.
      None: the tensor holds only this parameter.
    before: number of rows at the start of their first dimension that ours lacks; exports fill them with zeros.
  """

  pattern: str
  along: int | None = None
  before: int = 0

  @functools.cached_property
  def groups(self) -> tuple[tuple[str, ...], ...]:
    """The letters of each of their dimensions."""
    groups: list[tuple[str, ...]] = []
    words = iter(self.pattern.partition("->")[0].replace("(", " ( ").replace(")", " ) ").split())
    for word in words:
      groups.append(tuple(iter(lambda: next(words), ")")) if word == "(" else () if word == "1" else (word,))
    return tuple(groups)

  @functools.cached_property
  def letters(self) -> tuple[str, ...]:
    """All letters, in the order of theirs."""
    return tuple(letter for group in self.groups for letter in group)

  @functools.cached_property
  def ours(self) -> tuple[str, ...]:
    """All letters, one per dimension of ours."""
    return tuple(self.pattern.partition("->")[2].split())

  def sizes(self, shape: tuple[int, ...], real: Mapping[str, int]) -> dict[str, int]:
    """Letter -> size in their tensor.

    Args:
      shape: of ours, without the stacked dimensions.
      real: letter -> size, for letters that are smaller in theirs since ours has rows of padding ("v", the vocabulary).

    Raises:
      ValueError: the rank of `shape` isn't the pattern's.
    """
    sizes = dict(zip(self.ours, shape, strict=True))
    return sizes | {letter: size for letter, size in real.items() if letter in sizes}

  def part_shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Shape of the part of their tensor that is this parameter."""
    return tuple(math.prod(sizes[letter] for letter in group) for group in self.groups)

  def read(
    self, read_slice: ReadSlice, ranges: Mapping[str, Range], sizes: Mapping[str, int], start: int = 0
  ) -> np.ndarray:
    """A rectangle of ours, read from the smallest rectangle of theirs that contains it.

    Args:
      read_slice: returns their tensor at a tuple of slices, one per dimension.
      ranges: letter -> (start, stop) of the rectangle, within `sizes`.
      sizes: letter -> size, see `sizes()`.
      start: offset of our part in theirs along `along` (or the first dimension).

    Returns:
      The rectangle, with one dimension per letter of `ours`.
    """
    index: list[slice] = []
    covered: dict[str, Range] = {}  # Letter -> its range in the slice, which may be larger than the rectangle.
    for number, group in enumerate(self.groups):
      (low, high), in_group = _contiguous(group, ranges, sizes)
      first = start if number == (self.along or 0) else 0
      index.append(slice(low + first, high + first))
      covered |= in_group
    array = read_slice(tuple(index)).reshape([covered[letter][1] - covered[letter][0] for letter in self.letters])
    # Cut off what the slice has beyond the rectangle, then put the dimensions into our order.
    cuts = [slice(*(bound - covered[letter][0] for bound in ranges[letter])) for letter in self.letters]
    return array[tuple(cuts)].transpose([self.letters.index(letter) for letter in self.ours])

  def write(self, array: np.ndarray, into: np.ndarray, sizes: Mapping[str, int], start: int = 0) -> None:
    """Writes ours into its part of their tensor.

    Args:
      array: ours, without the stacked dimensions; its padding rows are dropped.
      into: their complete tensor, C-contiguous.
      sizes, start: as in `read`.
    """
    real = array[tuple(slice(sizes[letter]) for letter in self.ours)]
    part = [slice(None)] * len(self.groups)
    part[self.along or 0] = slice(start, start + self.part_shape(sizes)[self.along or 0])
    # A view of the part, one dimension per letter; copy=False raises where NumPy would have to copy.
    target = into[tuple(part)].reshape([sizes[letter] for letter in self.letters], copy=False)
    target[...] = real.transpose([self.ours.index(letter) for letter in self.letters])


def _contiguous(
  group: tuple[str, ...], ranges: Mapping[str, Range], sizes: Mapping[str, int]
) -> tuple[Range, dict[str, Range]]:
  """The smallest range of a shared dimension that contains a rectangle of its letters.

  Leading letters with a single index only move the start; the first longer letter is cut to its range; letters inside
  of it are read completely.

  Args:
    group: the letters, the slowest first.
    ranges: letter -> (start, stop) of the rectangle.
    sizes: letter -> size.

  Returns:
    (the range, letter -> (start, stop) of the letter within that range).
  """
  start, stop = 0, 1
  covered: dict[str, Range] = {}
  single = True  # Whether all letters so far have a single index.
  for letter in group:
    size = sizes[letter]
    low, high = ranges[letter] if single else (0, size)
    start, stop = (start * size + low, start * size + high) if single else (start * size, stop * size)
    covered[letter] = (low, high)
    single = single and high - low == 1
  return (start, stop), covered
