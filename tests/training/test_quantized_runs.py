# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Runs with 8-bit matmuls: they learn as float ones do, and their checkpoints have the same format."""

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from laws import assert_law_catches
from tiny_runs import experiment, lines, saved

import lmx
from lmx.models.spec import TransformerSpec
from lmx.run import loop

pytestmark = pytest.mark.skipif(importlib.util.find_spec("qwix") is None, reason="needs qwix: lmx[quantized]")
STEPS = 30
NEARER = 0.02  # Nats per token, of some three that are learnt.
SETTINGS = {"model__dropout": 0.0, "train__duration": f"{STEPS} steps", "evaluation__every": "30 steps"}


@pytest.fixture(scope="module")
def runs(tiny_text, tmp_path_factory):
  """Experiments by their quantisation, trained."""
  folder = tmp_path_factory.mktemp("quantized")
  made = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(TransformerSpec, "check_attention", lambda spec, backend: "not checked in this test")
    for kind in ("none", "int8", "fp8"):
      made[kind] = experiment(tiny_text, folder / kind, compute__quantization=kind, **SETTINGS)
      assert loop.train(made[kind]).finished
    yield made


def losses(run_dir: Path) -> list[float]:
  return [line["loss"] for line in lines(run_dir) if "loss" in line]


def check_learns(run_dir: Path, float_dir: Path) -> None:
  """The loss falls, at every report is near the float run's, and is not the float run's."""
  ours, theirs = np.array(losses(run_dir)), np.array(losses(float_dir))
  assert ours[0] - ours[-1] > 1
  assert 1e-7 < np.max(np.abs(ours - theirs)) < NEARER


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_a_quantized_run_learns_as_a_float_run_does(runs, kind):
  check_learns(runs[kind].run_dir, runs["none"].run_dir)


def test_the_law_of_learning_notices_that_nothing_was_quantized(runs):
  assert_law_catches(check_learns, runs["none"].run_dir, runs["none"].run_dir)


def test_checkpoints_hold_the_same_arrays_in_float32(runs):
  (arrays, _), (expected, _) = saved(runs["int8"]), saved(runs["none"])
  shape_of = lambda tree: {name: (leaf.shape, leaf.dtype) for name, leaf in tree.items()}  # noqa: E731
  assert shape_of(arrays) == shape_of(expected)
  assert {leaf.dtype for name, leaf in arrays.items() if "kernel" in name} == {np.dtype("float32")}


def test_a_quantized_run_is_loaded_and_exported_without_quantisation(runs, tmp_path):
  plain = tmp_path / "plain"
  shutil.copytree(runs["int8"].run_dir, plain)
  config = json.loads((plain / "config.json").read_text())
  assert config["compute"]["quantization"] == "int8"
  config["compute"]["quantization"] = "none"
  (plain / "config.json").write_text(json.dumps(config))
  ours, theirs = lmx.load(runs["int8"].run_dir), lmx.load(plain)
  assert ours.generate("the", max_new_tokens=4) == theirs.generate("the", max_new_tokens=4)
  assert ours.loss("the loss of the model") == theirs.loss("the loss of the model")
  for run, name in ((ours, "ours"), (theirs, "theirs")):
    lmx.to_hf(run, tmp_path / name)
  files = sorted(file.name for file in (tmp_path / "ours").iterdir())
  assert files == sorted(file.name for file in (tmp_path / "theirs").iterdir())
  for file in files:
    assert (tmp_path / "ours" / file).read_bytes() == (tmp_path / "theirs" / file).read_bytes(), file


@pytest.mark.parametrize(("first", "then"), [("none", "int8"), ("int8", "none")])
def test_a_run_resumes_with_or_without_quantization(runs, tmp_path, first, then):
  folder = tmp_path / "run"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop.Run, "asked_to_stop", lambda self: self.step == 10)
    loop.train(dataclasses.replace(runs[first], run_dir=folder))
  result = loop.train(dataclasses.replace(runs[then], run_dir=folder))
  assert (result.finished, result.step) == (True, STEPS)
  assert losses(folder)[0] == losses(runs[first].run_dir)[0]
  assert losses(folder)[-1] != losses(runs[first].run_dir)[-1]
