# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Two processes of which one differs, is killed, is stopped or never comes: the other reports it and ends in time."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from tiny_runs import end, free_address, lines, start

from lmx.cli import main
from lmx.exits import DIFFERENT_PROCESSES, LOST_PROCESS, MISTAKE, SAVED, SIGNALLED
from lmx.parallel import agreement
from lmx.training.checkpoint_choice import committed_steps
from lmx.versions import source_digest

SECONDS = 8  # Without a heartbeat; and in which all must have come.
LONG = {"train__duration": "6000 steps", "log__every": "1 steps", "evaluation__every": "3000 steps",
        "checkpoint__every": "20 steps", "evaluation__prompts": "()", "mesh__fsdp": 2,
        "processes__start_seconds": SECONDS, "processes__lost_seconds": SECONDS}  # fmt: skip
Pair = list[subprocess.Popen]


@pytest.fixture
def pair(tiny_text, tmp_path):
  """Starts processes 0 and 1, or one of them, with changes for process 1; none of them outlives the test."""
  started: Pair = []
  address = free_address()

  def make(*indices: int, **changes) -> Pair:
    for index in indices:
      flags = (f"--coordinator={address}", "--process-count=2", f"--process-index={index}")
      started.append(start(tiny_text, tmp_path / "run", *flags, **LONG | (changes if index == 1 else {})))
    return started

  yield make
  for process in started:
    process.kill()
    process.communicate()


def over(begun: float, seconds: float) -> bool:
  """Whether more time has passed than `seconds` on an idle machine; on a busy one, that times the tasks on a core."""
  return time.monotonic() - begun > seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def wait_until(done, processes: Pair, seconds: float = 120) -> None:
  begun = time.monotonic()
  while not done():
    for process in processes:
      assert process.poll() is None, process.communicate()[0]
    assert not over(begun, seconds)
    time.sleep(0.01)


def output_of(process: subprocess.Popen, seconds: float) -> str:
  """The output of a process, which must end in time."""
  begun = time.monotonic()
  while True:
    try:
      return process.communicate(timeout=1)[0]  # What it printed so far is kept for the next call.
    except subprocess.TimeoutExpired:
      if over(begun, seconds):
        raise


def saved(run: Path):
  return lambda: (run / "checkpoints").exists() and bool(committed_steps(run / "checkpoints"))


def check_ended(process: subprocess.Popen, code: int, *parts: str, seconds: float) -> str:
  """It ends in time, with the code and one message of a line or a few, and nothing from C++ or Python around it."""
  output = output_of(process, seconds)
  assert process.returncode == code, output
  assert output.count("error: ") == 1, output
  for part in parts:
    assert part in output
  for noise in ("Traceback", "Check failure", "terminate called", "E1", "F1", "coordination_service"):
    assert noise not in output.partition("error: ")[0].replace("held", "")[-300:], output
  return output


@pytest.mark.parametrize(
  ("key", "value", "listed"),
  [
    ("optimizer__peak_lr", "0.5", "config.optimizer.peak_lr: 0.01 in process 0, 0.5 in process 1"),
    ("model__width", "32", "config.model.width: 16 in process 0, 32 in process 1"),
    ("train__duration", "7 steps", "config.train.duration: '6000 steps' in process 0, '7 steps' in process 1"),
  ],
)
def test_processes_with_different_configs_all_end_before_compiling_and_name_the_key(pair, tmp_path, key, value, listed):
  for process in pair(0, 1, **{key: value}):
    check_ended(process, DIFFERENT_PROCESSES, listed, seconds=60)
  assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_process_killed_before_the_first_step_ends_the_other(pair):
  first, second = pair(0, 1)
  output = ""
  while "data  " not in output:
    output += first.stdout.readline()
  first.kill()  # The one through which the others find each other.
  check_ended(second, LOST_PROCESS, "process 0 of 2", "no checkpoint yet", seconds=SECONDS + 10)


def test_a_second_process_with_the_same_index_ends_all(pair):
  for process in pair(0, 1, 1):
    output = output_of(process, 60)
    assert process.returncode == LOST_PROCESS, output
    assert "Traceback" not in output


def test_a_coordinator_whose_port_is_taken_is_one_clear_error(tmp_path, capsys):
  with socket.create_server(("127.0.0.1", 0)) as taken:
    flags = (f"--coordinator=127.0.0.1:{taken.getsockname()[1]}", "--process-count=2", "--process-index=0")
    assert main.main(["train", f"--workdir={tmp_path / 'run'}", *flags]) == MISTAKE
  assert "a port that is free here (Address already in use" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_killed_or_stopped_while_training_ends_the_other_which_reports_the_safe_step(
  pair, tmp_path, victim, number
):
  processes = pair(0, 1)
  wait_until(saved(tmp_path / "run"), processes)
  processes[victim].send_signal(number)
  step = committed_steps(tmp_path / "run" / "checkpoints")[-1]
  output = check_ended(processes[1 - victim], LOST_PROCESS, "The run is safe up to step", seconds=2 * SECONDS + 10)
  assert int(output.partition("safe up to step ")[2].partition(".")[0]) >= step
  if number == signal.SIGSTOP:  # It wakes up in a run that has ended.
    processes[victim].send_signal(signal.SIGCONT)
    check_ended(processes[victim], LOST_PROCESS, "The run is safe up to step", seconds=30)


@pytest.mark.slow
@pytest.mark.parametrize(("present", "expected"), [(0, "not all 2 processes"), (1, "process 0 could not be reached")])
def test_a_process_that_never_comes_ends_the_other_in_time(pair, present, expected):
  (process,) = pair(present)
  check_ended(process, LOST_PROCESS, expected, "config.processes.start_seconds", seconds=SECONDS + 30)


@pytest.mark.slow
def test_a_process_stopped_before_the_first_step_ends_the_other(pair):
  first, second = pair(0, 1)
  output = ""
  while "data  " not in output:
    output += first.stdout.readline()
  second.send_signal(signal.SIGSTOP)
  check_ended(first, LOST_PROCESS, "process 1 of 2", "no checkpoint yet", seconds=2 * SECONDS + 10)


def test_a_signal_before_the_first_step_ends_all_processes_with_the_code_of_the_one_that_got_it(pair):
  first, second = pair(0, 1, compute__compilation_cache="")
  output = ""
  while "data  " not in output:
    output += first.stdout.readline()
  second.send_signal(signal.SIGTERM)
  code = SIGNALLED + signal.SIGTERM
  assert "SIGTERM: stopped at once" in output_of(second, 10)
  assert second.returncode == code
  check_ended(first, code, "process 1 stopped: SIGTERM", seconds=10)


@pytest.mark.slow
def test_processes_stop_at_one_step_without_waiting_for_a_report(pair, tmp_path):
  processes = pair(0, 1)
  wait_until(lambda: (tmp_path / "run" / "metrics.jsonl").exists() and lines(tmp_path / "run"), processes)
  processes[1].send_signal(signal.SIGTERM)
  output, _ = (end(process, SAVED) for process in processes)
  assert f"stopped at step {committed_steps(tmp_path / 'run' / 'checkpoints')[-1]}" in output


# ---------------------------------------------------------------- without processes


def test_what_differs_is_listed_with_the_processes_that_have_it():
  others = [{}, {"config.seed": "1"}, {}, {"config.seed": "1"}, {"config.seed": None}]
  line = agreement._line("config.seed", "0", others)
  assert line == "config.seed: 0 in processes 0, 2, 1 in processes 1, 3, nothing in process 4"


def test_a_digest_of_sources_changes_with_any_file(tmp_path):
  (tmp_path / "room").mkdir()
  for name in ("a.py", "room/b.py"):
    (tmp_path / name).write_text("x = 1\n")
  before = source_digest(tmp_path)
  assert source_digest(tmp_path) == before
  (tmp_path / "room" / "b.py").write_text("x = 2\n")
  assert source_digest(tmp_path) != before


def test_keys_about_where_a_process_works_may_differ():
  values = agreement.config_values({"seed": 0, "data.threads": 1, "data.cache_dir": "a", "processes.lost_seconds": 3})
  assert values == {"config.seed": "0"}
