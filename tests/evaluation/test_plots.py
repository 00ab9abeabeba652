# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Loss curves: the drawing, and the errors when there is nothing to draw."""

import pytest

from lmx.errors import LmxError
from lmx.evaluation.plots import curve, draw, smooth

LINES = [
  {"step": 1, "tokens": 10, "seconds": 0.5, "loss": 4.0, "bits_per_byte": 5.0},
  {"step": 2, "tokens": 20, "seconds": 1.0, "heldout_loss": 3.5, "heldout_bits_per_byte": 4.5},
  {"step": 2, "tokens": 20, "seconds": 1.0, "loss": 3.0, "bits_per_byte": 4.0},
  {"step": 3, "tokens": 30, "skipped_total": 1},
]


def test_a_curve_has_the_points_that_have_both_values():
  assert curve(LINES, "tokens", "loss").x == [10, 20]
  assert curve(LINES, "step", "heldout_loss").y == [3.5]


def test_smoothing_keeps_straight_lines_and_the_ends_and_takes_out_noise():
  line = [100.0 - i for i in range(400)]
  assert smooth(line) == pytest.approx(line)  # A mean that looks back only would lag behind.
  noisy = [(-1.0) ** i for i in range(1000)]
  assert max(map(abs, smooth(noisy)[50:-50])) < 0.1
  assert (smooth(noisy)[0], smooth(noisy)[-1]) == (1.0, -1.0)
  assert smooth([3.0, 1.0]) == [3.0, 1.0]  # A short curve is shown as it is.


@pytest.mark.parametrize("x", ["steps", "tokens", "time"])
def test_a_picture_of_two_runs_is_written(tmp_path, x):
  file = draw({"one": LINES, "two": LINES}, tmp_path / "a.png", x=x, y="loss", baselines={"xz": 3.2})
  assert file.read_bytes().startswith(b"\x89PNG")


def test_a_classifier_shows_its_accuracy(tmp_path):
  lines = [{"step": 1, "accuracy": 0.5, "heldout_accuracy": 0.6}, {"step": 2, "accuracy": 0.7, "heldout_accuracy": 0.8}]
  assert draw({"classify": lines}, tmp_path / "a.png", y="accuracy").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_and_unknown_axes_are_clear_errors(tmp_path):
  with pytest.raises(LmxError, match="Nothing to plot"):
    draw({"one": LINES[3:]}, tmp_path / "a.png")
  with pytest.raises(LmxError, match="Did you mean 'tokens'"):
    draw({"one": LINES}, tmp_path / "a.png", x="token")
  with pytest.raises(LmxError, match="--y: got 'bits'"):
    draw({"one": LINES}, tmp_path / "a.png", y="bits")
  assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("hole", [None, float("nan"), float("inf"), "nan"])
def test_values_that_are_no_numbers_are_left_out_of_the_picture(tmp_path, hole):
  lines = [*LINES, {"step": 9, "tokens": 9, "seconds": 9, "loss": hole, "heldout_loss": hole}]
  assert curve(lines, "step", "loss") == curve(LINES, "step", "loss")
  assert draw({"one": lines}, tmp_path / "a.png", y="loss", baselines={"xz": hole}).read_bytes()
  with pytest.raises(LmxError, match="Nothing to plot"):
    draw({"one": lines[-1:]}, tmp_path / "b.png", y="loss")
