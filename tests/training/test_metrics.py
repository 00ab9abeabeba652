# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""metrics.jsonl survives kills and resumes; TensorBoard shows the same numbers."""

import json
import math
import sys

import pytest

from lmx.errors import LmxError
from lmx.training.metrics import FILE, MetricsWriter, json_line, read_metrics


def write(folder, steps, **options):
  with MetricsWriter(folder, **options) as writer:
    for step in steps:
      writer.write(step, {"loss": 1 / (step + 1)})


def steps_of(folder):
  return [record["step"] for record in read_metrics(folder)]


def test_what_is_written_is_read(tmp_path):
  write(tmp_path / "new" / "run", [1, 2])
  records = read_metrics(tmp_path / "new" / "run")
  assert [record["loss"] for record in records] == [0.5, 1 / 3]
  assert records[0]["time"] <= records[1]["time"]
  assert set(records[0]) == {"step", "time", "loss"}


def test_a_second_writer_appends(tmp_path):
  write(tmp_path, [1])
  write(tmp_path, [2])
  assert steps_of(tmp_path) == [1, 2]


def test_a_run_without_metrics_has_none(tmp_path):
  assert read_metrics(tmp_path) == []


def test_numbers_that_are_not_finite_are_null(tmp_path):
  with MetricsWriter(tmp_path) as writer:
    writer.write(1, {"loss": float("nan"), "norm": float("inf"), "count": 3})
  text = (tmp_path / FILE).read_text()
  assert json.loads(text, parse_constant=pytest.fail) | {"time": 0} == {
    "step": 1, "time": 0, "loss": None, "norm": None, "count": 3}  # fmt: skip


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_cut_off_by_a_kill_is_not_read_and_nothing_is_glued_to_it(tmp_path, cut):
  write(tmp_path, [1, 2])
  file = tmp_path / FILE
  file.write_bytes(file.read_bytes()[:-cut])
  assert steps_of(tmp_path) == [1]
  write(tmp_path, [2])
  assert steps_of(tmp_path) == [1, 2]


def test_a_resumed_run_drops_the_steps_that_it_does_again(tmp_path):
  write(tmp_path, [1, 2, 2, 3, 4])
  with (tmp_path / FILE).open("a") as file:
    file.write('{"step": 5, "ti')
  with MetricsWriter(tmp_path) as writer:
    assert writer.truncate_after(2) == 2
    writer.write(3, {"loss": 0.0})
  assert steps_of(tmp_path) == [1, 2, 2, 3]
  assert not list(tmp_path.glob("*.tmp"))


def test_damage_in_the_middle_is_an_error_with_the_line(tmp_path):
  write(tmp_path, [1, 2, 3])
  lines = (tmp_path / FILE).read_text().splitlines(keepends=True)
  (tmp_path / FILE).write_text(lines[0] + "what?\n" + lines[2])
  with pytest.raises(LmxError, match="line 2"):
    read_metrics(tmp_path)


def test_tensorboard_shows_the_same_numbers_and_forgets_dropped_steps(tmp_path):
  accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
  write(tmp_path, [1, 2, 3], tensorboard=True)
  with MetricsWriter(tmp_path, tensorboard=True) as writer:
    writer.truncate_after(2)
    writer.write(3, {"loss": 7.0})
  events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
  events.Reload()
  assert [(e.step, round(e.value, 4)) for e in events.Scalars("loss")] == [(1, 0.5), (2, 0.3333), (3, 7.0)]


@pytest.mark.parametrize("options", [{"wandb_project": "p"}, {"tensorboard": True}])
def test_a_missing_package_is_named_with_the_way_out(tmp_path, monkeypatch, options):
  for name in ("wandb", "tensorboard.compat.proto.event_pb2"):
    monkeypatch.setitem(sys.modules, name, None)
  with pytest.raises(LmxError, match=r"missing.*Fix: pip install (wandb|tensorboard)"):
    MetricsWriter(tmp_path, **options)


def test_wandb_continues_the_run_whose_id_it_kept(tmp_path, monkeypatch):
  calls, logged = [], []

  class Run:
    id = "abc"

    def log(self, values, step):
      logged.append((step, values))

    def finish(self):
      calls.append("finish")

  class Wandb:
    @staticmethod
    def init(**options):
      calls.append(options["id"])
      return Run()

  monkeypatch.setitem(sys.modules, "wandb", Wandb)
  write(tmp_path, [1], wandb_project="p")
  write(tmp_path, [2], wandb_project="p")
  assert calls == [None, "finish", "abc", "finish"]
  assert [step for step, _ in logged] == [1, 2]


def test_a_line_of_json_is_read_by_every_program():
  line = json_line({"é": [1, 2.5, math.nan, {"x": -math.inf, "y": (None, True, "NaN")}]})
  assert json.loads(line, parse_constant=pytest.fail) == {"é": [1, 2.5, None, {"x": None, "y": [None, True, "NaN"]}]}
  assert "é" in line
