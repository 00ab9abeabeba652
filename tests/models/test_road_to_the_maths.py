# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""How far it is from the train step to the softmax of attention: few files to open, few calls to follow."""

import sys
import traceback
from pathlib import Path

import jax
import pytest
from laws import assert_law_catches

import lmx
from lmx.config import loading as configs
from lmx.experiment.build import abstract_setup
from lmx.plan.compile_step import abstract_objective, batch_shapes
from lmx.training.step import make_train_step

MOST_FILES, MOST_CALLS = 6, 10
PACKAGE = str(Path(lmx.__file__).parent)
TINY = ("model.layers=2", "model.width=32", "model.heads=2", "mesh.data=-1", "train.batch_size=8",
        "compute.attention=einsum")  # fmt: skip


def road_of(loop, monkeypatch):
  """[(file, function)] of lmx on the stack where the plain kernel computes its softmax, the train step first."""
  roads = []

  def probe(scores, **options):
    frames = traceback.extract_stack(sys._getframe(1))
    roads.append([(frame.filename, frame.name) for frame in frames if frame.filename.startswith(PACKAGE)])
    return scores

  config = configs.load("configs/cpu.py", [*TINY, f"compute.layers={loop}"])
  network, _ = abstract_setup(config, None, abstract_objective(config).loss)
  step = make_train_step(network.task, network.optimizer, network.options, network.abstract)
  monkeypatch.setattr(jax.nn, "softmax", probe)
  step.trace(network.abstract, batch_shapes(config, network))
  return roads[0]


def is_short(road) -> None:
  assert len(road) - 1 <= MOST_CALLS, road
  assert len({file for file, _ in road}) <= MOST_FILES, road


@pytest.mark.parametrize("loop", ["unrolled", "scanned"])
def test_the_road_from_the_train_step_to_the_softmax_is_short(loop, monkeypatch):
  road = road_of(loop, monkeypatch)
  assert road[0][1] == "train_step"
  assert ("attention.py", "__call__") in [(Path(file).name, name) for file, name in road]
  is_short(road)
  assert_law_catches(is_short, [*road, road[-1]])
  assert_law_catches(is_short, [*road[1:], (__file__, "one more")])
