# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Mixture of sources: maps a row's index to its source by random access, exactly in proportion to the weights.

Grain's own `MapDataset.mix` isn't used because it rounds the weights to integers of which the smallest is 100 (0.7 and
0.3 become 233 and 100).
"""

import math
import sys
from collections.abc import Sequence
from fractions import Fraction

import grain


def integer_weights(weights: Sequence[float]) -> list[int]:
  """The smallest integers in the same proportion as the weights, taken as the decimal numbers that they print as."""
  exact = [Fraction(repr(float(weight))) for weight in weights]
  scale = math.lcm(*(weight.denominator for weight in exact))
  scaled = [int(weight * scale) for weight in exact]
  shared = math.gcd(*scaled)
  return [weight // shared for weight in scaled]


def source_of(index: int, weights: Sequence[int]) -> tuple[int, int]:
  """The source of a row of the mixture, and how many earlier rows came from the same source.

  Of the first n rows, source i contributes n * weights[i] / sum(weights), to within 2 rows; exactly that many if n is a
  multiple of the sum.

  Args:
    index: of the row, from 0.
    weights: integers above 0.
  """
  # Sources take their rows in turn. `before` and `after` count the rows up to and including this one that the earlier
  # sources left over. Of n such rows, this source takes n * weight / left, rounded up, and leaves the rest: if the two
  # counts of the rest are equal, this row is the source's.
  left = sum(weights)
  before, after = index, index + 1
  for source, weight in enumerate(weights[:-1]):
    rest_before, rest_after = before * (left - weight) // left, after * (left - weight) // left
    if after - rest_after != before - rest_before:
      return source, before - rest_before
    left, before, after = left - weight, rest_before, rest_after
  return len(weights) - 1, before


class Mixture(grain.transforms.DatasetSelectionMap):
  """The map from a row of an infinite mixture to (source, row of it), for `grain.MapDataset.select_from_datasets`.

  `weights` are numbers above 0: the proportions in which rows are drawn from the sources.
  """

  def __init__(self, weights: Sequence[float]):
    self._weights = integer_weights(weights)

  def __len__(self) -> int:
    return sys.maxsize

  def __getitem__(self, index: int) -> tuple[int, int]:
    return source_of(index, self._weights)
