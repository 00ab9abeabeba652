# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""One run made by two processes over loopback, started by two and ended by one, and vice versa."""

import dataclasses
import json
import signal
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_runs import end, experiment, free_address, lines, start

from lmx.cli import main
from lmx.errors import LmxError, LostProcessError
from lmx.exits import LOST_PROCESS, SAVED, set_safe_step
from lmx.experiment.build import Experiment
from lmx.models.spec import TransformerSpec
from lmx.parallel import processes
from lmx.run import loop
from lmx.training.checkpoint_choice import committed_steps

LONG = {"train__duration": "60 steps", "log__every": "1 steps", "evaluation__every": "30 steps",
        "checkpoint__every": "30 steps", "evaluation__prompts": "()", "mesh__fsdp": 2}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def no_check():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(TransformerSpec, "check_attention", lambda spec, backend: "not checked in this test")
    yield


@pytest.fixture(scope="module")
def alone(tiny_text, tmp_path_factory) -> Experiment:
  """The run in one process with two devices, uninterrupted."""
  x = experiment(tiny_text, tmp_path_factory.mktemp("processes") / "alone", devices=2, **LONG)
  loop.train(x)
  return x


def start_two(text: Path, run: Path) -> list[subprocess.Popen]:
  """Two processes with one device each, which split the parameters, through the command line."""
  flags = (f"--coordinator={free_address()}", "--process-count=2")
  return [start(text, run, *flags, f"--process-index={index}", **LONG) for index in (0, 1)]


def check_same_losses(run: Path, reference: Path) -> None:
  """The same lines, each once, with the same numbers but for rounding."""
  ours, theirs = lines(run), lines(reference)
  assert [(line["step"], line.keys()) for line in ours] == [(line["step"], line.keys()) for line in theirs]
  for mine, other in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(list(mine.values()), list(other.values()), rtol=2e-3, err_msg=str(mine))


def test_two_processes_start_a_run_agree_on_a_signal_and_one_process_ends_it(alone, tiny_text, tmp_path, capsys):
  run = tmp_path / "run"
  first, second = start_two(tiny_text, run)
  deadline = time.monotonic() + 240
  while not (run / "metrics.jsonl").exists() or len(lines(run)) < 3:
    assert first.poll() is None, first.communicate()
    assert second.poll() is None, second.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.01)
  second.send_signal(signal.SIGTERM)  # Only one of them is asked, and not the one that writes.
  output, silent = end(first, SAVED), end(second, SAVED)
  (step,) = committed_steps(run / "checkpoints")
  assert 3 <= step < 60
  assert f"stopped at step {step}" in output
  assert "2 devices (fsdp 2), cpu, in 2 processes" in output
  for part in ("tiny", "bits/byte", "step", "lmx"):
    assert part not in silent
  assert loop.train(dataclasses.replace(alone, run_dir=run)).finished
  assert f"resumed at step {step}" in (out := capsys.readouterr().out)
  assert "the data continues where it stopped" in out
  check_same_losses(run, alone.run_dir)


@pytest.mark.slow
def test_a_process_that_is_lost_ends_the_run_with_a_message_and_a_code(tiny_text, tmp_path):
  run = tmp_path / "run"
  first, second = start_two(tiny_text, run)
  deadline = time.monotonic() + 240
  while not (run / "checkpoints").exists() or not committed_steps(run / "checkpoints"):
    assert first.poll() is None, first.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.01)
  second.kill()
  second.communicate()
  output = "".join(filter(None, first.communicate(timeout=120)))
  assert first.returncode == LOST_PROCESS, output
  assert "another of the 2 processes has ended" in output
  assert "safe up to step 30" in output


def test_who_is_late_at_a_barrier_is_named(monkeypatch):
  class Client:
    def wait_at_barrier(self, name, milliseconds):
      raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: Barrier timed out. Tasks that never came: worker/1")

  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(processes, "_store", Client)
  with pytest.raises(LostProcessError, match=r"'run files written' within 600 s.*worker/1"):
    processes.wait_for_all("run files written")


def test_other_errors_of_a_run_are_not_taken_for_a_lost_process(monkeypatch):
  def fail(text: str) -> None:
    with processes.noticing_lost_processes():
      raise jax.errors.JaxRuntimeError(text)

  set_safe_step(lambda: "Safe.")
  gloo = "UNKNOWN: Gloo all-reduce failed: Connection closed by peer"
  with pytest.raises(jax.errors.JaxRuntimeError, match="Gloo"):
    fail(gloo)  # There is no other process.
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  with pytest.raises(LostProcessError, match="Safe"):
    fail(gloo)
  with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE"):
    fail("RESOURCE_EXHAUSTED: Out of memory")


@pytest.mark.slow
def test_one_process_starts_a_run_and_two_processes_end_it(alone, tiny_text, tmp_path, monkeypatch):
  run = tmp_path / "run"
  monkeypatch.setattr(loop.Run, "asked_to_stop", lambda self: self.step == 55)
  assert loop.train(dataclasses.replace(alone, run_dir=run)).step == 55
  output, silent = map(end, start_two(tiny_text, run))
  assert "resumed at step 55" in output
  assert "the data continues where it stopped" in output
  assert "finished at step 60" in output
  assert "step" not in silent
  check_same_losses(run, alone.run_dir)
  assert json.loads((run / "config.json").read_text())["seed"] == 0


@pytest.mark.parametrize(
  ("flags", "expected"),
  [
    (["--coordinator=localhost:1234"], "missing: --process-count, --process-index. Fix: --coordinator=HOST:PORT"),
    (["--process-count=2", "--process-index=1"], "missing: --coordinator"),
    (["--coordinator=localhost", "--process-count=2", "--process-index=1"], "host:port of process 0, or auto"),
    (
      ["--coordinator=localhost:1", "--process-count=2", "--process-index=2"],
      "--process-index: got 2. Allowed: 0 to 1",
    ),
    (["--coordinator=localhost:1", "--process-count=0", "--process-index=0"], "--process-count: got 0"),
    (["--coordinator=auto", "--process-count=2"], "the cluster supplies"),
  ],
)
def test_flags_that_do_not_make_a_run_of_several_processes_are_one_clear_error(flags, expected, tmp_path, capsys):
  assert main.main(["train", f"--workdir={tmp_path / 'run'}", *flags]) == 2
  assert expected in capsys.readouterr().err
  assert not (tmp_path / "run").exists()


class Store:
  """The key-value store, with nobody else at it."""

  def __init__(self):
    self.values: dict[str, str] = {}

  def key_value_set(self, key, value):
    self.values[key] = value

  def blocking_key_value_get(self, key, milliseconds):
    return self.values[key]


def test_a_failure_in_process_0_ends_the_others_too(monkeypatch):
  """Seen from both sides."""

  def fail() -> None:
    raise LmxError("no such text")

  store = Store()
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(processes, "_store", lambda: store)

  def seen_from(index: int, call: int, work):
    monkeypatch.setattr(jax, "process_index", lambda: index)
    monkeypatch.setattr(processes, "_calls", iter([call]))
    return processes.first_process_first(work)

  with pytest.raises(LmxError, match="no such text"):
    seen_from(0, 1, fail)
  assert seen_from(0, 2, lambda: 5) == 5
  with pytest.raises(LmxError, match="Process 0 stopped; see its message"):
    seen_from(1, 1, lambda: 7)
  assert seen_from(1, 2, lambda: 6) == 6
