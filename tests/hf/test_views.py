# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Patterns of dimensions: any rectangle of a written parameter can be read again, from no more than its part."""

import numpy as np
import pytest
from laws import assert_law_catches

from lmx.hf.views import View

# pattern, shape of ours, sizes that are smaller in theirs, where our part begins
PATTERNS = [
  ("(h k) d -> d h k", (6, 4, 2), {}, 0),
  ("d (h k) -> h k d", (4, 2, 6), {}, 0),
  ("v d -> v d", (8, 3), {"v": 5}, 0),
  ("p d -> p d", (5, 3), {}, 2),
  ("(h p) 1 w -> w h p", (3, 4, 2), {}, 4),
  ("h -> h", (3,), {}, 1),
]


def check_read(view: View, written: View, shape, real, start) -> None:
  """Every rectangle of ours, read from what was written."""
  generator = np.random.default_rng(0)
  sizes = written.sizes(shape, real)
  array = generator.standard_normal(shape).astype(np.float32)
  shape_of_theirs = list(written.part_shape(sizes))
  shape_of_theirs[written.along or 0] += start
  theirs = np.full(shape_of_theirs, np.nan, np.float32)
  written.write(array, theirs, sizes, start)
  for _ in range(60):
    limits = [sizes[letter] for letter in written.ours]
    low = [int(generator.integers(0, n)) for n in limits]
    high = [int(generator.integers(a + 1, n + 1)) for a, n in zip(low, limits, strict=True)]
    ranges = dict(zip(written.ours, zip(low, high, strict=True), strict=True))
    got = view.read(lambda index: theirs[index], ranges, sizes, start)
    np.testing.assert_array_equal(got, array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])


@pytest.mark.parametrize(("pattern", "shape", "real", "start"), PATTERNS, ids=lambda value: str(value))
def test_any_rectangle_is_read_as_it_was_written(pattern, shape, real, start):
  view = View(pattern)
  check_read(view, view, shape, real, start)


def test_the_check_notices_a_pattern_that_swaps_two_dimensions():
  written = View("(h k) d -> d h k")
  assert_law_catches(check_read, View("(k h) d -> d h k"), written, (6, 4, 4), {}, 0)


def test_only_the_requested_heads_are_read():
  asked = []

  def read(index):
    asked.append(index)
    return np.zeros([part.stop - part.start for part in index], np.float32)

  view = View("(h k) d -> d h k")
  view.read(read, {"d": (8, 16), "h": (2, 3), "k": (0, 4)}, {"d": 32, "h": 4, "k": 4})
  assert asked == [(slice(8, 12), slice(8, 16))]


def test_parts_of_one_tensor_are_concatenated_in_order():
  view = View("d (h k) -> d h k", along=1)
  into = np.zeros((3, 12), np.float32)
  parts = [np.full((3, 2, 2), value, np.float32) for value in (1, 2, 3)]
  for number, part in enumerate(parts):
    view.write(part, into, {"d": 3, "h": 2, "k": 2}, 4 * number)
  np.testing.assert_array_equal(into[0], np.repeat([1, 2, 3], 4))
