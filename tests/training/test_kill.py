# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""SIGKILL while checkpoints are being written, and the two signals that ask nicely."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from laws import assert_law_catches

from lmx.parallel.signals import StopSignals
from lmx.training.checkpoint_choice import committed_steps, find_checkpoint
from lmx.training.checkpoint_reading import read_extra, restore_model

# Saves one checkpoint after the other, each with all numbers equal to its step, and prints when it starts one.
SAVER = """
import sys
import jax, jax.numpy as jnp
from lmx.training.checkpoint import Checkpointer
from lmx.training.skipping import new_skip_state
from lmx.training.state import TrainState

def state(step):
  params = {f"layer{i}": jnp.full((512, 256), step, jnp.float32) for i in range(8)}
  return TrainState(jnp.asarray(step), params, {"mu": dict(params)}, None, new_skip_state())

checkpoints = Checkpointer(sys.argv[1], keep_last=2)
first = (checkpoints.latest() or 0) + 1
for step in range(first, first + 1000):
  print(step, flush=True)
  checkpoints.save(step, state(step), {"position": step})
"""

# The handler writes past Python's streams: the signal may arrive while "ready" is still being flushed.
HANDLER = """
import os, sys, time
from lmx.parallel.signals import StopSignals
with StopSignals(lambda name: os.write(1, f"{name}\\n".encode())) as stop:
  print("ready", flush=True)
  while True:
    time.sleep(0.01)
    if stop.requested and "polite" in sys.argv:
      break
print("saved", flush=True)
"""


def start(script: str, *arguments: str) -> subprocess.Popen:
  environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
  command = [sys.executable, "-c", script, *arguments]
  return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def kill_while_saving(folder: Path, delay: float) -> int:
  """Kills a saving process `delay` seconds after it started its third checkpoint; returns that one's step."""
  process = start(SAVER, str(folder))
  begun = [int(process.stdout.readline()) for _ in range(3)]
  time.sleep(delay)
  process.kill()
  process.wait()
  process.stdout.close()
  return begun[-1]


def check_what_is_left_is_whole(folder: Path) -> None:
  """Every checkpoint that is listed has all its arrays, all from the same step."""
  template = {f"layer{i}": jax.ShapeDtypeStruct((512, 256), np.float32) for i in range(8)}
  for step in committed_steps(folder):
    assert find_checkpoint(folder, step).exists()
    assert read_extra(folder, step) == {"position": step}
    values = restore_model(folder, template, step)
    assert all(np.all(np.asarray(value) == step) for value in values.values())


def run_kills(folder: Path, delays: list[float]) -> None:
  for delay in delays:
    begun = kill_while_saving(folder, delay)
    check_what_is_left_is_whole(folder)
    # A save waits for the one before it, so when the third begins, at most that one is missing.
    assert committed_steps(folder)[-1] >= begun - 2


def test_a_process_killed_while_saving_leaves_only_complete_checkpoints(tmp_path):
  run_kills(tmp_path, [0.02, 0.15])
  last = committed_steps(tmp_path)[-1]
  shutil.copytree(find_checkpoint(tmp_path, last), tmp_path / str(last + 1))
  assert_law_catches(check_what_is_left_is_whole, tmp_path)


@pytest.mark.slow
def test_a_process_killed_while_saving_twenty_times_leaves_only_complete_checkpoints(tmp_path):
  seed = int(os.environ.get("LMX_KILL_SEED", time.time_ns() % 10**6))
  print(f"the moments of the kills: LMX_KILL_SEED={seed}")  # pytest shows it when the test fails.
  moment = random.Random(seed)
  run_kills(tmp_path, [moment.uniform(0.0, 0.5) for _ in range(20)])


def test_the_first_signal_asks_and_the_second_stops_at_once():
  process = start(HANDLER)
  assert process.stdout.readline() == "ready\n"
  process.send_signal(signal.SIGTERM)
  assert process.stdout.readline() == "SIGTERM\n"
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=20) == -signal.SIGTERM
  assert process.stdout.read() == ""
  process.stdout.close()


def test_a_loop_that_listens_ends_in_its_own_way():
  process = start(HANDLER, "polite")
  assert process.stdout.readline() == "ready\n"
  process.send_signal(signal.SIGINT)
  assert process.stdout.read() == "SIGINT\nsaved\n"
  assert process.wait(timeout=20) == 0
  process.stdout.close()


# The main thread locks a mutex twice, in C and without the interpreter's lock: it is as deaf as while XLA compiles.
DEAF = """
import ctypes, os, sys
from lmx.parallel.signals import StopSignals
with StopSignals(lambda name: os.write(1, f"{name}\\n".encode()), lambda number, name: os._exit(128 + number)) as stop:
  stop.unsaved = "unsaved" in sys.argv
  print("ready", flush=True)
  lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
  lock(mutex), lock(mutex)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heard_within_a_second_while_the_main_thread_is_in_c(number):
  process = start(DEAF)
  assert process.stdout.readline() == "ready\n"
  time.sleep(0.3)  # Into the lock.
  process.send_signal(number)
  assert process.wait(timeout=3) == 128 + number
  process.stdout.close()


def test_with_something_to_save_only_the_second_signal_stops_at_once():
  process = start(DEAF, "unsaved")
  assert process.stdout.readline() == "ready\n"
  time.sleep(0.3)
  process.send_signal(signal.SIGTERM)
  assert process.stdout.readline() == "SIGTERM\n"
  assert process.poll() is None
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=3) == 128 + signal.SIGTERM
  process.stdout.close()


def test_handlers_are_given_back():
  before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
  with StopSignals() as stop:
    assert signal.getsignal(signal.SIGTERM) not in before
    signal.raise_signal(signal.SIGTERM)
    assert stop.requested == "SIGTERM"
  assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
