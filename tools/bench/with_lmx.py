# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The lmx contestants: its loop as `lmx train` runs it, and its compiled step alone, of a shape or of any config."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lmx.config import loading as configs
from lmx.experiment.build import abstract_setup
from lmx.experiment.train_setup import TrainSetup
from lmx.objectives.parts import token_loss
from lmx.parallel.mesh import global_batch
from lmx.run import loop
from lmx.training.meter import peak_memory, peak_of
from lmx.training.metrics import read_metrics
from lmx.training.state import init_state
from lmx.training.step import make_train_step
from tools.bench.batches import make_batch
from tools.bench.setting import experiment
from tools.bench.shapes import SHAPES, Shape, Turns, curve, read

Batch = Mapping[str, Any]


def make(setting: Mapping[str, Any]) -> "Loop | Step | Config":
  """A contestant of a setting: `config`, `overrides` and `documents`, or `contestant`, `shape` and `folder`."""
  if "config" in setting:
    return Config(setting["config"], setting["overrides"], setting["documents"])
  shape, folder = SHAPES[setting["shape"]], Path(setting["folder"])
  if setting["contestant"] == "lmx":
    return Loop(shape, folder)
  _, batches = read(folder)
  network = experiment(shape, folder, "step").network
  batch = lambda step: {name: values[step] for name, values in batches.items()}  # noqa: E731
  return Step(network, lambda step: global_batch(batch(step), network.layout.mesh))


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

  def results(self) -> dict[str, Any]:
    """The mean losses of metrics.jsonl: the loop keeps no others."""
    return {"first": None, "windows": [row["loss"] for row in read_metrics(self._experiment.run_dir)]}


class Step:
  """The compiled step of lmx over batches in memory, driven as the hand-written contestants are.

  Args:
    network: on the mesh of this process's devices.
    batch_of: a step's batch, on the devices.
  """

  def __init__(self, network: TrainSetup, batch_of: Callable[[int], Batch]):
    self._network, self._batch_of = network, batch_of
    self._step = make_train_step(network.task, network.optimizer, network.options, network.abstract)
    self._state = init_state(network.make, jax.random.key(0), network.plan, network.optimizer, network.abstract)
    self._losses: list[jax.Array] = []

  def play(self, turns: Turns) -> None:
    while True:
      self.run(turns.next())

  def run(self, steps: int) -> None:
    for _ in range(steps):
      self._state, metrics = self._step(self._state, self._batch_of(len(self._losses)))
      self._losses.append(metrics["loss"])
    jax.block_until_ready(self._state)

  def results(self) -> dict[str, Any]:
    return curve([float(loss) for loss in self._losses])


class Config(Step):
  """The step that `lmx train` compiles for a config, over one batch of random tokens that stays on the devices.

  Args:
    config: its file.
    overrides: of it.
    documents: whether rows hold several documents that don't see each other.
  """

  def __init__(self, config: str, overrides: list[str], documents: bool):
    loaded = configs.load(config, overrides)
    network, sizes = abstract_setup(loaded, None, token_loss())
    self._rows, self._length = loaded.train.batch_size, sizes["length"]
    made = make_batch(self._rows, self._length, network.spec.vocab_size, documents)
    batch = global_batch(made, network.layout.mesh)
    super().__init__(network, lambda _: batch)

  def results(self) -> dict[str, Any]:
    """The losses, peak bytes of a device, parameters, tokens of a batch, FLOPs of a token and the peak FLOP/s."""
    device, network = jax.devices()[0], self._network
    flops = network.spec.flops_per_token(self._length, self._length)
    return super().results() | {
      "bytes": peak_memory(device),
      "parameters": sum(int(np.prod(leaf.shape)) for leaf in network.plan.shapes.values()),
      "tokens": self._rows * self._length,
      "flops": {"causal": flops.causal, "full": flops.full},
      "peak": peak_of(jax.devices()).flops,
      "device": device.device_kind,
    }
