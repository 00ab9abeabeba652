# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Whole runs so small that the real loop can be started dozens of times: their text, config and results."""

import functools
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import lmx.experiment.train_setup
from lmx.config.loading import load
from lmx.experiment.build import Experiment, build
from lmx.parallel.mesh import make_mesh
from lmx.training.checkpoint import Checkpointer
from lmx.training.metrics import read_metrics
from lmx.training.run_directory import CHECKPOINT_DIR

ROOT = Path(__file__).resolve().parent.parent
# Compiled programs are kept between runs of the tests, those of other clones too: most of a first run is compiling.
COMPILED = Path(os.environ.get("LMX_TEST_CACHE", "~/.cache/lmx/tests")).expanduser()
WORDS = ("a", "batch", "of", "text", "is", "in", "the", "loss", "and", "step", "to", "run", "with", "data", "model")
# What differs between two runs that computed the same: when, how fast, and in how much memory.
TIMES = ("time", "seconds", "tokens_per_second", "step_seconds", "data_wait_share", "peak_memory_bytes")
# Cadences that share no divisor, so that stops fall before, between and on them, and inside a window of the log.
TINY = {
  "name": "tiny",
  "tokenizer.kind": "bytes",
  "model.layers": 1,
  "model.width": 16,
  "model.heads": 2,
  "model.context": 32,
  "model.dropout": 0.1,
  "compute.dtype": "float32",
  "compute.attention": "einsum",
  "compute.compilation_cache": "",
  "data.length": 32,
  "data.heldout_split": "tail",
  "data.heldout_fraction": 0.2,
  "train.duration": "10 steps",
  "train.batch_size": 8,
  "optimizer.peak_lr": 1e-2,
  "log.every": "4 steps",
  "evaluation.every": "3 steps",
  "evaluation.sample_tokens": 4,
  "checkpoint.every": "5 steps",
}


def write_text(folder: Path) -> Path:
  """A dozen documents of a few hundred letters in `folder`."""
  random = np.random.default_rng(0)
  folder.mkdir(parents=True, exist_ok=True)
  for number in range(12):
    (folder / f"{number:02d}.txt").write_text(" ".join(random.choice(WORDS, 60 + 5 * number)))
  return folder


def overrides(text: Path, **changes: Any) -> list[str]:
  """The tiny config as overrides of configs/base.py; `train__duration` stands for train.duration."""
  keys = {**TINY, "data.sources": f"{text}/*.txt", "data.cache_dir": str(text / "cache")}
  keys |= {name.replace("__", "."): value for name, value in changes.items()}
  return [f"{name}={value}" for name, value in keys.items()]


def experiment(text: Path, run_dir: Path, *, devices: int = 1, **changes: Any) -> Experiment:
  """The tiny experiment on the first few of the simulated devices; fewer compile faster."""
  config = load(str(ROOT / "configs" / "base.py"), overrides(text, **changes))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(lmx.experiment.train_setup, "make_mesh", lambda sizes: make_mesh(sizes, jax.devices()[:devices]))
    return build(config, run_dir)


def free_address() -> str:
  """host:port on this machine that nobody listens at."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{probe.getsockname()[1]}"


def start(text: Path, run_dir: Path, *flags: str, devices: int = 1, **changes: Any) -> subprocess.Popen:
  """`lmx train` of the tiny config in a separate process, which can be killed."""
  settings = overrides(text, **({"compute__compilation_cache": str(COMPILED / "processes")} | changes))
  command = [sys.executable, "-m", "lmx", "train", f"--config={ROOT / 'configs' / 'base.py'}", f"--workdir={run_dir}"]
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONUNBUFFERED": "1"}
  environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # jax sets it here, in the process of the tests, when it is imported.
  return subprocess.Popen(
    [*command, *(f"--config.{text}" for text in settings), *flags],
    cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
  )  # fmt: skip


def end(process: subprocess.Popen, code: int = 0) -> str:
  """The output of a process, which must end with an exit code."""
  output, _ = process.communicate(timeout=300)
  assert process.returncode == code, output
  return output


def lines(run_dir: Path) -> list[dict[str, Any]]:
  """The metrics without times."""
  return [{name: value for name, value in line.items() if name not in TIMES} for line in read_metrics(run_dir)]


def heldout_losses(run_dir: Path) -> dict[int, float]:
  return {line["step"]: line["heldout_loss"] for line in lines(run_dir) if "heldout_loss" in line}


def saved(x: Experiment, run_dir: Path | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """(every array of the newest checkpoint by name, its other contents without times)."""
  with Checkpointer((run_dir or x.run_dir) / CHECKPOINT_DIR) as checkpoints:
    state, extra = checkpoints.restore(x.network.abstract)
  arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(state)}
  extra = json.loads(json.dumps(extra))
  del extra["window"]["seconds"], extra["records_digest"]  # Of times.
  return arrays, extra


def assert_same_run(x: Experiment, run_dir: Path, reference: Path) -> None:
  """Two runs wrote the same numbers and ended in the same state, bit for bit."""
  ours, theirs = lines(run_dir), lines(reference)
  assert [line["step"] for line in ours] == [line["step"] for line in theirs]
  for mine, other in zip(ours, theirs, strict=True):
    assert mine == other
  (arrays, extra), (expected, expected_extra) = saved(x, run_dir), saved(x, reference)
  for name, value in expected.items():
    np.testing.assert_array_equal(arrays[name], value, err_msg=name)
  assert extra == expected_extra


def once(make: Any) -> Any:
  """`make`, cached by its arguments, so that many runs share one compiled step."""
  memo: dict[tuple[int, ...], tuple[Any, tuple]] = {}

  @functools.wraps(make)
  def made(*args: Any) -> Any:
    key = tuple(map(id, args))
    if key not in memo:
      memo[key] = (make(*args), args)  # The arguments are kept, so that their ids stay theirs.
    return memo[key][0]

  return made
