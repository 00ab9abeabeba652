# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""How an experiment is sharded over a mesh: every parameter and activation, its axes, and its bytes on each device.

Nothing is allocated or compiled, and the devices need not exist: the tables of lmx/parallel/sharding.py are applied to
the shapes of the parameters, and to those of the activations that the model constrains while it is traced.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.experiment.train_setup import TrainSetup
from lmx.nn.losses import cross_entropy
from lmx.objectives.base import run_model
from lmx.parallel.sharding import MeshAxes, names_of, noting_activations, use_layout
from lmx.shapes import in_use
from lmx.training.state import local_bytes
from lmx.trees import named_leaves

Table = Mapping[str, MeshAxes]


@dataclasses.dataclass(frozen=True)
class ShardedArray:
  """One sharded array, or several that are alike.

  Attributes:
    name: of a parameter, or "" for an activation.
    shape: of the complete array.
    dtype: its name.
    axes: the logical axis of each dimension, or None.
    why: "logical axis -> mesh axes = number of shards" for each dimension that is split.
    bytes: on each device.
    count: number of arrays that are alike.
  """

  name: str
  shape: tuple[int, ...]
  dtype: str
  axes: tuple[str | None, ...]
  why: str
  bytes: int
  count: int = 1


@dataclasses.dataclass(frozen=True)
class Explained:
  """All sharded arrays of a training step.

  Attributes:
    parameters: in the model's order.
    optimizer: bytes of its state on each device.
    host: bytes of its state in host memory, one device's share.
    activations: the largest first; of scanned layers, those of one layer.
  """

  parameters: list[ShardedArray]
  optimizer: int
  host: int
  activations: list[ShardedArray]

  @property
  def parameter_bytes(self) -> int:
    """Bytes of all parameters on each device; their gradients have the same size."""
    return sum(one.bytes for one in self.parameters)


def explain(network: TrainSetup, *, rows: int, length: int, encoder_length: int) -> Explained:
  """Applies the tables of the network's layout.

  Args:
    network: its mesh may be of devices that don't exist.
    rows: of one micro-batch, over all devices.
    length: L, tokens of a row.
    encoder_length: M, tokens of a row of the encoder, in encoder-decoder models.
  """
  layout, plan = network.layout, network.plan
  shard = functools.partial(_sharded, sizes=layout.mesh.shape)
  parameters = [
    shard(name, leaf.shape, leaf.dtype, tuple(plan.axes[name] or [None] * leaf.ndim), table=layout.storage)
    for name, leaf in plan.shapes.items()
  ]
  optimizer, host = (local_bytes(network.abstract.opt_state, host=flag) for flag in (False, True))
  seen: collections.Counter[tuple] = collections.Counter()

  def note(axes: tuple, x: Any, active: Any) -> None:
    seen[axes, x.shape, x.dtype, active] += 1  # In a pipeline the active layout is that of one stage.

  with use_layout(layout), noting_activations(note):
    batch = _batch(network, rows, length, encoder_length)
    jax.eval_shape(lambda arrays, batch: _forward(plan.join(arrays), batch), dict(plan.shapes), batch)
  activations = [
    dataclasses.replace(shard("", shape, dtype, axes, table=active.compute), count=count)
    for (axes, shape, dtype, active), count in seen.items()
  ]
  return Explained(parameters, optimizer, host, sorted(activations, key=lambda one: -one.bytes))


def _sharded(
  name: str, shape: Sequence[int], dtype: Any, axes: tuple, *, table: Table, sizes: Mapping[str, int]
) -> ShardedArray:
  split, why = 1, []
  for axis, size in zip(axes, shape, strict=True):
    names = in_use(sizes, names_of(None if axis is None else table.get(axis)))
    if not names:
      continue
    devices = math.prod(sizes[name] for name in names)
    why.append(f"{axis} -> {' * '.join(names)} = {devices}")
    split *= devices if size % devices == 0 else 1
  bytes_ = math.prod(shape) * np.dtype(dtype).itemsize // split
  return ShardedArray(name, tuple(shape), str(np.dtype(dtype)), axes, ", ".join(why) or "replicated", bytes_)


def _batch(network: TrainSetup, rows: int, length: int, encoder_length: int) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of the model's inputs."""
  inputs = network.plan.structure.unflatten([None] * len(network.plan.shapes)).inputs
  lengths = {name: encoder_length if name.startswith("encoder_") else length for name in inputs if name != "carry"}
  return {name: jax.ShapeDtypeStruct((rows, tokens), jnp.int32) for name, tokens in lengths.items()}


def _forward(model: Any, batch: dict[str, jax.Array]) -> Any:
  """The model, and the loss over its vocabulary where it has one."""
  outputs = run_model(model, batch, None)
  if outputs.unembedding is None:
    return named_leaves(outputs.scores)
  weights = jnp.ones(batch["tokens"].shape, jnp.float32)
  return cross_entropy(outputs.hidden, outputs.unembedding, batch["tokens"], weights, outputs.head, outputs.bias).total
