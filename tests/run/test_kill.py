# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx train` ended by SIGKILL at random moments, and asked to stop by SIGTERM and SIGINT, as a person's run would be.

By default it is killed for about SECONDS. A soak: LMX_KILLS=200 pytest -s tests/run/test_kill.py.
LMX_KILL_SEED repeats the moments of an earlier test.
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tiny_runs import assert_same_run, end, experiment, lines, start

from lmx.exits import INTERRUPTED, SAVED, SIGNALLED
from lmx.training.checkpoint_choice import committed_steps
from lmx.training.status import FINISHED, STOPPED, read_status

KILLS = int(os.environ.get("LMX_KILLS", "0"))
SECONDS, AT_LEAST = 10, 2
# Long enough to be killed in, with checkpoints so often that most kills find one being written.
RUN = {
  "train__duration": "60 steps",
  "log__every": "1 steps",
  "evaluation__every": "16 steps",
  "checkpoint__every": "2 steps",
  "evaluation__prompts": "()",
  "optimizer__ema": "0.9",
}


@pytest.fixture(scope="module")
def whole(tiny_text, tmp_path_factory) -> Path:
  """The uninterrupted run; it also fills the cache of compiled programs and of tokens."""
  run = tmp_path_factory.mktemp("kill") / "whole"
  end(start(tiny_text, run, **RUN))
  return run


def wait_for(process: subprocess.Popen, done, what: str) -> None:
  """Waits until `done()`; a process that ended before has failed."""
  deadline = time.monotonic() + 120
  while not done():
    if process.poll() is not None:
      raise AssertionError(f"ended before {what}: {process.stdout.read() if process.stdout else ''}")
    assert time.monotonic() < deadline, f"waited in vain for {what}"
    time.sleep(0.002)


def grown(run: Path, by: int):
  """Whether the metrics have grown by N bytes, once the lines of repeated steps were removed."""
  file = run / "metrics.jsonl"
  lowest = [file.stat().st_size if file.exists() else 0]

  def check() -> bool:
    size = file.stat().st_size if file.exists() else 0
    lowest[0] = min(lowest[0], size)
    return size >= lowest[0] + by or len(lines(run)) == 60 + 4  # Or the run has come to its end.

  return check


def kill_at_random(text: Path, run: Path, moment: random.Random) -> str:
  """Starts the run, kills it, and returns when: mostly some milliseconds after a step, during a save."""
  process = start(text, run, **RUN)
  if moment.random() < 0.2:  # Anywhere: while importing, compiling, restoring.
    delay = moment.uniform(0.0, 6.0)
    when = f"{delay:.3f} s after the start"
  else:
    wanted = moment.randint(1, 8000)
    wait_for(process, grown(run, wanted), f"{wanted} more bytes of metrics")
    delay = moment.uniform(0.0, 0.05)
    when = f"{delay * 1e3:.1f} ms after {wanted} bytes of metrics"
  time.sleep(delay)
  process.kill()
  process.communicate()
  return when


def half_written(run: Path) -> str:
  """The remains of a checkpoint after a kill, for the log."""
  folder = run / "checkpoints"
  names = [path.name for path in folder.iterdir() if not path.name.isdigit()] if folder.exists() else []
  return f", and {' '.join(names)}" if names else ""


@pytest.mark.parametrize("fixed", [1, pytest.param(None, marks=pytest.mark.slow)], ids=["fixed moments", "any moments"])
def test_a_run_killed_at_random_moments_equals_an_uninterrupted_one_bit_for_bit(tiny_text, whole, tmp_path, fixed):
  seed = int(os.environ.get("LMX_KILL_SEED", fixed or time.time_ns() % 10**6))
  x = experiment(tiny_text, tmp_path / "unused", **RUN)
  print(f"the moments of the kills: LMX_KILL_SEED={seed}")  # pytest shows it when the test fails.
  moment, begun, kills, runs = random.Random(seed), time.monotonic(), 0, 0
  while kills < (KILLS or AT_LEAST) or (not KILLS and time.monotonic() - begun < SECONDS):
    run = tmp_path / str(runs)
    when = kill_at_random(tiny_text, run, moment)
    kills += 1
    written, steps = lines(run), committed_steps(run / "checkpoints")
    print(f"kill {kills}: {when}; {len(written)} lines, checkpoints {steps}{half_written(run)}")
    assert written == lines(whole)[: len(written)]
    if steps[-1:] == [60]:  # Killed after its last checkpoint: this run is done with, and the next kills get another.
      end(start(tiny_text, run, **RUN))
      assert_same_run(x, run, whole)
      runs += 1
  end(start(tiny_text, tmp_path / str(runs), **RUN))
  assert_same_run(x, tmp_path / str(runs), whole)


def stopped_by(process: subprocess.Popen, run: Path, number: signal.Signals) -> str:
  """Lets a run make some steps, asks it to stop, and returns its output up to its answer."""
  wait_for(process, grown(run, 1000), "some steps")
  process.send_signal(number)
  assert process.stdout is not None
  printed = ""
  while "saving, then stopping" not in printed:
    line = process.stdout.readline()
    assert line, printed
    printed += line
  return printed


def check_stopped_cleanly(process: subprocess.Popen, run: Path, whole: Path, name: str) -> None:
  output = end(process, SAVED)
  step = committed_steps(run / "checkpoints")[-1]
  assert f"stopped at step {step:,}" in output
  assert 0 < step < 60
  assert lines(run) == lines(whole)[: len(lines(run))]
  status = read_status(run)
  assert status is not None
  assert (status.state, status.step, status.total_steps, status.why, status.exit_code, status.process) == (
    STOPPED, step, 60, name, SAVED, process.pid,
  )  # fmt: skip


def test_sigterm_saves_and_stops_with_exit_code_85_and_the_run_resumes_from_there(tiny_text, whole, tmp_path):
  run = tmp_path / "run"
  process = start(tiny_text, run, **RUN)
  assert "SIGTERM: saving, then stopping; a second one stops at once" in stopped_by(process, run, signal.SIGTERM)
  check_stopped_cleanly(process, run, whole, "SIGTERM")
  output = end(start(tiny_text, run, **RUN))
  assert "resumed at step" in output
  assert "start 2 of this run; " in output
  status = read_status(run)
  assert status is not None
  assert (status.state, status.step, status.why, status.exit_code, status.starts) == (FINISHED, 60, "", 0, 2)
  assert 0 < status.goodput < 1
  assert_same_run(experiment(tiny_text, run, **RUN), run, whole)


def test_ctrl_c_saves_and_stops_with_exit_code_85_and_a_second_one_stops_at_once(tiny_text, whole, tmp_path):
  run = tmp_path / "run"
  process = start(tiny_text, run, **RUN)
  stopped_by(process, run, signal.SIGINT)
  check_stopped_cleanly(process, run, whole, "SIGINT")
  process = start(tiny_text, run, **RUN)
  stopped_by(process, run, signal.SIGINT)
  process.send_signal(signal.SIGINT)
  process.communicate(timeout=60)
  assert process.returncode == INTERRUPTED


@pytest.mark.parametrize(("number", "moment"), [(signal.SIGTERM, "imports"), (signal.SIGINT, "compiles")])
def test_a_signal_before_the_first_step_stops_at_once(tiny_text, tmp_path, number, moment):
  process = start(tiny_text, tmp_path / "run", **RUN, compute__compilation_cache="")
  printed = ""
  while {"imports": "new run", "compiles": "folder"}[moment] not in printed:
    line = process.stdout.readline()
    assert line, printed
    printed += line
  sent = time.monotonic()
  process.send_signal(number)
  output, _ = process.communicate(timeout=20)
  assert process.returncode == SIGNALLED + number, output
  assert time.monotonic() - sent < 3  # It is heard within milliseconds; the machine may be busy.
  assert f"{number.name}: stopped at once. " in output
  assert "Traceback" not in output
