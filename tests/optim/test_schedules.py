# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Learning rates against their closed forms."""

import math

import jax
import numpy as np
import pytest

from lmx.errors import LmxError
from lmx.optim.schedules import SCHEDULES, make_schedule

PEAK, TOTAL, WARMUP, DECAY, FINAL = 0.5, 100, 10, 20, 0.1


def rate(name: str, update: int) -> float:
  """The learning rate of the n-th update, counted from 1."""
  schedule = make_schedule(
    name, peak_lr=PEAK, total_steps=TOTAL, warmup_steps=WARMUP, decay_steps=DECAY, final_lr_ratio=FINAL
  )
  return float(schedule(update - 1))


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_warms_up_linearly_and_reaches_its_peak_at_the_end_of_the_warm_up(name):
  for n in (1, 4, 9, 10):
    assert rate(name, n) == pytest.approx(PEAK * n / WARMUP, rel=1e-6)


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd"])
def test_the_last_update_has_the_final_rate_and_later_ones_keep_it(name):
  assert rate(name, TOTAL) == pytest.approx(PEAK * FINAL, rel=1e-6)
  assert rate(name, 3 * TOTAL) == pytest.approx(PEAK * FINAL, rel=1e-6)


def test_cosine_is_half_a_cosine():
  for n in (20, 55, 90):
    expected = PEAK * (FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * (n - WARMUP) / (TOTAL - WARMUP))))
    assert rate("cosine", n) == pytest.approx(expected, rel=1e-5)


def test_linear_falls_evenly():
  assert rate("linear", 55) == pytest.approx(PEAK * (1 + FINAL) / 2, rel=1e-6)


def test_warmup_stable_decay_is_flat_until_the_decay():
  assert rate("wsd", 11) == rate("wsd", TOTAL - DECAY) == PEAK
  assert rate("wsd", TOTAL - DECAY // 2) == pytest.approx(PEAK * (1 + FINAL) / 2, rel=1e-6)


def test_inverse_square_root_halves_when_steps_quadruple_and_has_a_floor():
  assert rate("inverse_sqrt", 40) == pytest.approx(PEAK / 2, rel=1e-6)
  assert rate("inverse_sqrt", 10_000) == pytest.approx(PEAK * FINAL, rel=1e-6)


def test_constant_stays_at_the_peak():
  assert rate("constant", 11) == rate("constant", 10_000) == PEAK


def test_no_warm_up_starts_to_decay_at_once():
  schedule = make_schedule("linear", peak_lr=PEAK, total_steps=10)
  assert float(schedule(0)) == pytest.approx(0.9 * PEAK, rel=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_float32_and_the_same_when_compiled(name):
  schedule = make_schedule(
    name, peak_lr=PEAK, total_steps=TOTAL, warmup_steps=WARMUP, decay_steps=DECAY, final_lr_ratio=FINAL
  )
  compiled = jax.jit(schedule)(np.int32(41))
  assert compiled.dtype == np.float32
  assert float(compiled) == pytest.approx(float(schedule(41)), rel=1e-6)


def test_a_warm_up_longer_than_the_run_names_the_key():
  with pytest.raises(LmxError, match=r"config\.optimizer\.warmup: got '20 steps'.*at most the 10 steps"):
    make_schedule("cosine", peak_lr=1.0, total_steps=10, warmup_steps=20)


def test_an_unknown_schedule_names_the_nearest():
  with pytest.raises(LmxError, match="Did you mean 'cosine'"):
    make_schedule("cosin", peak_lr=1.0, total_steps=10)
