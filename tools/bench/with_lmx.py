# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The lmx contestants: its loop as `lmx train` runs it, and its compiled step alone."""

import contextlib
from pathlib import Path
from typing import Any

import jax

from lmx.console import console
from lmx.loop import open_run, write_run_files
from lmx.mesh import global_batch
from lmx.metrics import read_metrics
from lmx.training.state import init_state
from lmx.training.step import make_train_step
from tools.bench.setting import experiment
from tools.bench.shapes import Batches, Shape, curve


class Loop:
  """All that `lmx train` does for a step: draws from the Grain pipeline, steps, reads metrics, logs every ten."""

  def __init__(self, shape: Shape, folder: Path):
    x = experiment(shape, folder, "run")
    write_run_files(x)
    self._files = contextlib.ExitStack()
    self._run = self._files.enter_context(open_run(x, console()))
    self._folder = x.run_dir

  def run(self, steps: int) -> None:
    run = self._run
    for _ in range(steps):
      batch = run.draw()
      run.advance(batch)
      run.log()
      run.evaluate()
      run.save()
    jax.block_until_ready(run._state)  # The clock stops when the work is done; the loop itself never waits here.

  def curve(self) -> dict[str, Any]:
    """The mean losses of metrics.jsonl: the loop keeps no others."""
    return {"first": None, "windows": [row["loss"] for row in read_metrics(self._folder)]}


class Step:
  """The compiled step of lmx over batches in memory, driven as the hand-written contestants are."""

  def __init__(self, shape: Shape, folder: Path, batches: Batches):
    x = experiment(shape, folder, "step").network
    self._mesh = x.layout.mesh
    self._step = make_train_step(x.loss, x.plan, x.optimizer, x.layout, x.options, x.abstract)
    self._state = init_state(x.make, jax.random.key(0), x.plan, x.optimizer, x.abstract)
    self._batches = batches
    self._losses: list[jax.Array] = []

  def run(self, steps: int) -> None:
    for _ in range(steps):
      batch = {name: values[len(self._losses)] for name, values in self._batches.items()}
      self._state, metrics = self._step(self._state, global_batch(batch, self._mesh))
      self._losses.append(metrics["loss"])
    jax.block_until_ready(self._state)

  def curve(self) -> dict[str, Any]:
    return curve([float(loss) for loss in self._losses])
