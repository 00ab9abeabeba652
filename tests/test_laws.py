# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The helper that shows that a law can fail must itself be able to fail."""

import jax
import jax.numpy as jnp
import pytest
from laws import assert_law_catches, slow_but


def is_even(number: int) -> None:
  assert number % 2 == 0


def test_a_law_that_notices_its_broken_twin_passes():
  assert_law_catches(is_even, 3)


def test_a_law_that_notices_nothing_is_reported():
  with pytest.raises(AssertionError, match="did not notice"):
    assert_law_catches(is_even, 4)


def test_a_broken_twin_that_crashes_is_not_taken_for_caught():
  with pytest.raises(TypeError):
    assert_law_catches(is_even, None)


def test_tests_run_on_eight_devices_and_refuse_silent_broadcasting():
  assert jax.device_count() == 8
  with pytest.raises(ValueError, match="rank"):
    jnp.ones((2, 3)) + jnp.ones(3)


def test_every_case_is_run_by_default_or_marked_slow():
  cases = slow_but(["a"], ["a", "b"])
  assert cases[0] == "a"
  assert (cases[1].values, [mark.name for mark in cases[1].marks]) == (("b",), ["slow"])
  with pytest.raises(AssertionError, match=r"no such cases: \['c'\]"):
    slow_but(["a", "c"], ["a", "b"])
