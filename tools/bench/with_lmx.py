# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The lmx contestants: its loop as `lmx train` runs it, and its compiled step alone."""

from pathlib import Path
from typing import Any

import jax

from lmx.parallel.mesh import global_batch
from lmx.run import loop
from lmx.training.metrics import read_metrics
from lmx.training.state import init_state
from lmx.training.step import make_train_step
from tools.bench.setting import experiment
from tools.bench.shapes import Batches, Shape, Turns, curve


class TimedRun(loop.Run):
  """The run that `lmx train` makes, which at a turn's end waits for the next one before it draws a batch."""

  turns: Turns
  left = 0

  def draw(self) -> dict[str, jax.Array]:
    if self.left == 0:
      jax.block_until_ready(self._state)  # The clock stops when the work is done; the loop itself never waits here.
      self.left = self.turns.next()
    self.left -= 1
    return super().draw()


class Loop:
  """`lmx train` itself: all that it does for a step is in the time, to drawing data, reading metrics and logging."""

  def __init__(self, shape: Shape, folder: Path):
    self._experiment = experiment(shape, folder, "run")

  def play(self, turns: Turns) -> None:
    TimedRun.turns = turns
    loop.Run = TimedRun
    loop.train(self._experiment)

  def curve(self) -> dict[str, Any]:
    """The mean losses of metrics.jsonl: the loop keeps no others."""
    return {"first": None, "windows": [row["loss"] for row in read_metrics(self._experiment.run_dir)]}


class Step:
  """The compiled step of lmx over batches in memory, driven as the hand-written contestants are."""

  def __init__(self, shape: Shape, folder: Path, batches: Batches):
    x = experiment(shape, folder, "step").network
    self._mesh = x.layout.mesh
    self._step = make_train_step(x.task, x.optimizer, x.options, x.abstract)
    self._state = init_state(x.make, jax.random.key(0), x.plan, x.optimizer, x.abstract)
    self._batches = batches
    self._losses: list[jax.Array] = []

  def play(self, turns: Turns) -> None:
    while True:
      self.run(turns.next())

  def run(self, steps: int) -> None:
    for _ in range(steps):
      batch = {name: values[len(self._losses)] for name, values in self._batches.items()}
      self._state, metrics = self._step(self._state, global_batch(batch, self._mesh))
      self._losses.append(metrics["loss"])
    jax.block_until_ready(self._state)

  def curve(self) -> dict[str, Any]:
    return curve([float(loss) for loss in self._losses])
