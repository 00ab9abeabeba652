# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The lines of metrics.jsonl: exact means over windows that resumes may cut, and honest speeds."""

import json
import time

import jax
import pytest
from laws import assert_law_catches

from lmx.training.meter import Meter, Peak, peak_memory, peak_of
from lmx.units import StepFlops

CPU = Peak(None, "a test")
FLOPS = StepFlops(causal=3.0, full=5.0)


def metrics(loss: float, weight: float, *, skipped: float = 0.0, lr: float = 0.1) -> dict[str, float]:
  """A step's metrics."""
  return {"loss": loss, "accuracy": loss / 10, "grad_norm": 1.0, "loss_weight": weight, "learning_rate": lr,
          "param_norm": 2.0, "skipped": skipped, "skipped_total": skipped, "skipped_in_a_row": skipped}  # fmt: skip


def meter(peak: Peak = CPU) -> Meter:
  return Meter(100, FLOPS, peak)


@pytest.fixture
def clock(monkeypatch):
  """A clock that moves only in its `wait`."""
  now = [1000.0]
  monkeypatch.setattr(time, "monotonic", lambda: now[0])

  def wait(seconds: float) -> None:
    now[0] += seconds

  return wait


def device() -> jax.Device:
  return jax.local_devices()[0]


def test_means_are_weighted_by_the_targets_and_rates_are_of_the_last_step():
  window = meter()
  window.add(metrics(4.0, 1.0, lr=0.1))
  window.add(metrics(2.0, 3.0, lr=0.2))
  values = window.report(device())
  assert values["loss"] == pytest.approx((4 * 1 + 2 * 3) / 4)
  assert values["accuracy"] == pytest.approx(values["loss"] / 10)
  assert (values["learning_rate"], values["param_norm"]) == (0.2, 2.0)
  window.add(metrics(7.0, 1.0))
  assert window.report(device())["loss"] == 7.0


def test_a_skipped_step_is_left_out_of_the_means_and_counted():
  window = meter()
  window.add(metrics(1.0, 1.0))
  window.add(metrics(float("nan"), 5.0, skipped=1.0))
  values = window.report(device())
  assert (values["loss"], values["skipped_total"]) == (1.0, 1.0)
  window.add(metrics(float("inf"), 5.0, skipped=1.0))
  assert "loss" not in window.report(device())  # Nothing was learnt, so there is no mean.


def check_a_cut_window_reports_the_same_numbers(cut) -> None:
  """`cut` takes a meter in the middle of a window and returns the one that continues after a restart."""
  steps = [metrics(loss, weight) for loss, weight in ((0.1, 3.0), (0.7, 1 / 3), (5.5, 2.0), (1e-3, 7.0))]
  one, parts = meter(), meter()
  for index, step in enumerate(steps):
    one.add(step)
    parts.add(step)
    if index in (0, 2):
      parts = cut(parts)
  ours, theirs = parts.report(device()), one.report(device())
  for name in ("loss", "accuracy", "grad_norm", "learning_rate", "param_norm", "skipped_total"):
    assert ours[name] == theirs[name]  # Bit for bit.


def restarted(window: Meter) -> Meter:
  saved = json.loads(json.dumps(window.saved()))
  fresh = meter()
  fresh.restore(saved)
  return fresh


def test_a_window_that_a_restart_cuts_reports_the_same_numbers_bit_for_bit():
  check_a_cut_window_reports_the_same_numbers(restarted)
  assert_law_catches(check_a_cut_window_reports_the_same_numbers, lambda window: meter())


def test_the_first_step_which_compiles_and_pauses_are_not_timed(clock):
  window = meter()
  clock(60)  # Compiling.
  window.add(metrics(1.0, 1.0))
  window.start()
  for _ in range(4):
    clock(2)
    window.add(metrics(1.0, 1.0))
  window.pause()
  clock(300)  # Evaluating.
  window.start()
  clock(2)
  window.add(metrics(1.0, 1.0))
  values = window.report(device())
  assert values["step_seconds"] == pytest.approx(2.0)
  assert values["tokens_per_second"] == pytest.approx(50.0)
  assert values["seconds"] == pytest.approx(10.0)


def test_the_speed_counts_the_positions_of_each_batch(clock):
  window = meter()
  window.start()
  for tokens in (40, None):
    clock(2)
    window.add(metrics(1.0, 1.0), tokens)
  assert window.report(device())["tokens_per_second"] == pytest.approx((40 + 100) / 4)


def test_the_first_speed_after_a_restart_is_of_the_steps_since_then(clock):
  window = meter()
  window.start()
  for _ in range(1000):
    clock(3)
    window.add(metrics(1.0, 1.0))
  window = restarted(window)
  window.add(metrics(1.0, 1.0))
  window.start()
  clock(2)
  window.add(metrics(1.0, 1.0))
  values = window.report(device())
  assert values["step_seconds"] == pytest.approx(2.0)
  assert values["seconds"] == pytest.approx(3002.0)  # Of training in all.


def test_a_window_without_a_timed_step_has_no_speed(clock):
  window = meter()
  clock(9)
  window.add(metrics(1.0, 1.0))
  values = window.report(device())
  assert "tokens_per_second" not in values
  assert "step_seconds" not in values


def test_the_share_of_waiting_and_mfu_follow_from_the_times(clock):
  window = meter(Peak(1000.0, "a test"))
  window.waited(50.0)  # Before the first step: the pipeline starts.
  window.start()
  clock(4)
  window.waited(1.0)
  window.add(metrics(1.0, 1.0))
  values = window.report(device())
  assert values["data_wait_share"] == pytest.approx(0.25)
  assert values["mfu_causal"] == pytest.approx(25 * 3 / 1000)
  assert values["mfu_full"] == pytest.approx(25 * 5 / 1000)
  window.add(metrics(1.0, 1.0))
  clock(4)
  assert window.report(device())["data_wait_share"] == 0.0


def test_there_is_no_mfu_without_a_published_peak_and_the_reason_is_reported():
  peak = peak_of(jax.devices())
  assert peak.flops is None
  assert "no published peak for 'cpu'" in peak.why


def test_peak_memory_is_in_bytes():
  before = peak_memory(device())
  assert 50e6 < before < 1e12
  block = bytearray(300_000_000)
  block[::4096] = b"x" * len(block[::4096])
  assert peak_memory(device()) >= before
