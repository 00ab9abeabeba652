# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The benchmarks run, and refuse to compare contestants that don't compute the same thing."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from laws import assert_law_catches
from tiny_runs import COMPILED

from lmx.config import loading as configs
from lmx.experiment.build import abstract_setup

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
  printed = bench(
    "tools.bench.input", "--documents", "300", "--seconds", "0.1", "--threads", "0", "1", "--text-documents", "10"
  )
  for what in ("text, SentencePiece", "text, bytes", "packed rows of tokens | 0", "concatenated rows of tokens | 1"):
    assert what in printed


def test_what_eight_gpus_take_is_their_flops_over_those_of_a_token(monkeypatch):
  monkeypatch.syspath_prepend(ROOT)
  benchmark = importlib.import_module("tools.bench.input")
  by_hand = 8 * 0.5 * 989e12 / (6e9 + 6 * 16 * 2048 * 1024)
  tokens, text = benchmark.target()
  assert tokens == pytest.approx(by_hand, rel=1e-12)
  assert f"{by_hand / 1e6:.2f}M tokens/s" in text


def test_the_growth_of_a_step_is_measured():
  printed = bench("tools.bench.scaling", "--tiny", "--parts", "width", "--rounds", "1", "--steps", "1")
  assert "| 16 width, scanned |" in printed
  assert "| exponent k, scanned |" in printed


def test_an_exponent_is_that_of_the_larger_sizes(monkeypatch):
  monkeypatch.syspath_prepend(ROOT)
  scaling = importlib.import_module("tools.bench.scaling")
  sizes = [2, 4, 8, 16, 32, 64]

  def check(power: float) -> None:
    values = [max(100.0, size**power) for size in sizes]  # What is constant hides the growth of the smaller ones.
    assert scaling.exponent(sizes, values) == pytest.approx(2.0, abs=0.3)

  check(2.0)
  assert_law_catches(check, 1.0)
  assert_law_catches(check, 3.0)


def test_the_sizes_of_every_sweep_make_a_model(monkeypatch):
  monkeypatch.syspath_prepend(ROOT)
  scaling = importlib.import_module("tools.bench.scaling")
  for sweep in scaling.SWEEPS.values():
    for variant in sweep.variants:
      config = configs.load("configs/base.py", sweep.overrides(sweep.sizes[-1], variant))
      network, _ = abstract_setup(config, sweep.sizes[-1] if sweep.key is None else 1)
      assert network.spec.width in (sweep.sizes[-1], sweep.fixed["model.width"])


@pytest.mark.parametrize(("name", "draw"), [("scaling", "draw_steps"), ("scaling-tpu", "draw_tpus")])
def test_what_was_recorded_can_be_drawn(name, draw, monkeypatch, tmp_path):
  monkeypatch.syspath_prepend(ROOT)
  scaling = importlib.import_module("tools.bench.scaling")
  last = json.loads((ROOT / f"tools/bench/results/{name}.jsonl").read_text().splitlines()[-1])["points"]
  points = {sweep: scaling.summarize(each) for sweep, each in last.items()} if name == "scaling" else last
  getattr(scaling, draw)(points, tmp_path / "drawn.png")
  assert (tmp_path / "drawn.png").stat().st_size > 10_000
