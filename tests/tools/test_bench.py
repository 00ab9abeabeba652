# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The benchmarks run, and refuse to compare contestants that don't compute the same thing."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from laws import assert_law_catches
from tiny_runs import COMPILED

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: str) -> str:
  """Standard output of a benchmark."""
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(COMPILED),  # As conftest.py has it for the tests themselves.
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
  }
  return subprocess.run(
    [sys.executable, "-m", *arguments], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
  ).stdout


@pytest.mark.slow
def test_the_step_of_lmx_and_the_hand_written_one_are_timed_and_their_losses_agree():
  printed = bench(
    "tools.bench.step", "--shapes", "tiny", "--rounds", "3", "--contestants", "lmx step", "hand-written", "torch",
    "--torch-python", sys.executable,
  )  # fmt: skip
  assert "| lmx, the compiled step alone |" in printed
  assert "| hand-written JAX, the same formulation |" in printed


@pytest.mark.slow
def test_the_accelerator_benchmark_runs_plain_and_packed_rows():
  printed = bench(
    "tools.bench.accelerator", "--models", "tiny", "--contestants", "lmx", "lmx-documents", "--windows", "1", "--steps",
    "1",
  )  # fmt: skip
  assert "failed" not in printed
  assert printed.count("no peak known") == 2


def test_contestants_with_other_losses_are_noticed(monkeypatch):
  monkeypatch.syspath_prepend(ROOT)
  contest = importlib.import_module("tools.bench.contest")
  base = {"first": 4.0, "windows": [3.9]}

  def check(other: dict) -> None:
    assert not contest.disagreements({"hand-written": base, "lmx": other})

  check({"first": None, "windows": [3.9 + 1e-6]})
  check({"first": 4.0, "windows": []})
  assert_law_catches(check, {"first": 4.001, "windows": [3.9]})
  assert_law_catches(check, {"first": 4.0, "windows": [3.91]})
  assert_law_catches(check, {"first": float("nan"), "windows": []})


def test_the_input_pipeline_is_timed():
  printed = bench("tools.bench.input", "--documents", "300", "--seconds", "0.1", "--threads", "1")
  assert "million tokens per second" in printed
