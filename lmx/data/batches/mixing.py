# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Which source each row of a mixture comes from: by random access, and exactly in proportion to the weights.

Grain's own mixture rounds the weights to whole numbers of which the least is 100 (0.7 and 0.3 become 233 and 100).
"""

import math
import sys
from collections.abc import Sequence
from fractions import Fraction

import grain


def whole_weights(weights: Sequence[float]) -> list[int]:
  """The least whole numbers in the same proportion as the decimal numbers that the weights are written as."""
  exact = [Fraction(repr(float(weight))) for weight in weights]
  scale = math.lcm(*(weight.denominator for weight in exact))
  whole = [int(weight * scale) for weight in exact]
  shared = math.gcd(*whole)
  return [weight // shared for weight in whole]


def source_of(place: int, weights: Sequence[int]) -> tuple[int, int]:
  """The source of a row of the mixture, and how many rows before it came from the same source.

  Of the first n rows, source i has weights[i] / sum(weights) of n, give or take less than 2 rows; where n is a multiple
  of the sum, exactly.

  Args:
    place: of the row, counted from 0.
    weights: whole numbers above 0.
  """
  # Source by source: of what those before it left, the first n rows have n * weight / left of it, rounded up.
  left = sum(weights)
  before, after = place, place + 1
  for source, weight in enumerate(weights[:-1]):
    rest_before, rest_after = before * (left - weight) // left, after * (left - weight) // left
    if after - rest_after != before - rest_before:
      return source, before - rest_before
    left, before, after = left - weight, rest_before, rest_after
  return len(weights) - 1, before


class Mixture(grain.transforms.DatasetSelectionMap):
  """The map from a row of an endless mixture to a source and a row of it, for `grain.MapDataset.select_from_datasets`.

  `weights` are numbers above 0: rows drawn from each source, in proportion.
  """

  def __init__(self, weights: Sequence[float]):
    self._weights = whole_weights(weights)

  def __len__(self) -> int:
    return sys.maxsize

  def __getitem__(self, place: int) -> tuple[int, int]:
    return source_of(place, self._weights)
