# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A mixture draws from its sources exactly in proportion to the weights, at every length."""

import collections

import grain
import pytest
from laws import assert_law_catches

from lmx.data.batches.mixing import Mixture, integer_weights, source_of

WEIGHTS = [
  (0.7, 0.3),
  (0.5, 0.5049),
  (1.0, 1.0),
  (3.0, 1.0),
  (1.0, 999.0),
  (0.2, 0.3, 0.5),
  (1 / 3, 2 / 3),
  (5.0, 1e-3, 2.0, 0.25),
]


def check_shares(choose, weights) -> None:
  """Each source's share of the first n rows is its weight's, and its rows come in order without a gap."""
  drawn: collections.Counter[int] = collections.Counter()
  total = sum(weights)
  for place in range(20_000):
    source, number = choose(place)
    assert number == drawn[source]
    drawn[source] += 1
    assert abs(drawn[source] - (place + 1) * weights[source] / total) < 2


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_shares_are_the_weights_at_every_length(weights):
  check_shares(lambda place: source_of(place, integer_weights(weights)), weights)


@pytest.mark.parametrize("weights", [(0.7, 0.3), (0.5, 0.5049)])
def test_the_shares_law_catches_weights_rounded_as_grain_does(weights):
  rounded = [int(weight * 100 / min(weights)) for weight in weights]
  assert_law_catches(check_shares, lambda place: source_of(place, rounded), weights)


def test_over_a_period_of_the_weights_the_shares_are_exact():
  for weights, period in (((0.7, 0.3), 10), ((0.5, 0.505), 201), ((0.2, 0.3, 0.5), 10)):
    whole = integer_weights(weights)
    assert sum(whole) == period
    for start in (0, period * 12345):
      found = collections.Counter(source_of(place, whole)[0] for place in range(start, start + period))
      assert [found[i] for i in range(len(whole))] == whole


def test_whole_weights_are_the_smallest_in_proportion():
  assert integer_weights((0.7, 0.3)) == [7, 3]
  assert integer_weights((2, 4.0)) == [1, 2]
  assert integer_weights((0.1, 1e-05)) == [10_000, 1]


def test_a_row_far_away_is_found_at_once():
  place = 10**15
  source, number = source_of(place, [7, 3])
  assert number == pytest.approx(place * (0.7, 0.3)[source], abs=2)


def test_grain_draws_by_the_mixture():
  endless = [grain.MapDataset.source(range(first, first + 3)).repeat() for first in (0, 10)]
  rows = grain.MapDataset.select_from_datasets(endless, Mixture((2.0, 1.0)))
  assert [rows[i] for i in range(9)] == [0, 1, 10, 2, 0, 11, 1, 2, 12]
