# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A model that every axis of a mesh splits, and all meshes of eight devices, for laws in one process and in several."""

import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from specimens import DECODERS, build

from lmx.nn.losses import cross_entropy
from lmx.objectives.base import Loss
from lmx.optim.optimizers import make_optimizer
from lmx.optim.schedules import make_schedule
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout
from lmx.shapes import AXES
from lmx.training.state import Parts, TrainState, abstract_model, abstract_state, init_state
from lmx.training.step import ModelLoss, StepOptions, make_train_step
from lmx.trees import map_variables

DEVICES, ROWS, LENGTH = 8, 16, 16
Sizes = tuple[int, ...]  # Devices along each of AXES.

# Three axes of two devices each: between them, these seven have every pair of axes once (the Fano plane).
PAIRS = [tuple(2 if axis in triple else 1 for axis in range(7))
         for triple in ({0, 1, 2}, {0, 3, 4}, {0, 5, 6}, {1, 3, 5}, {1, 4, 6}, {2, 3, 6}, {2, 4, 5})]  # fmt: skip
ONE = (1,) * 7


def storage_shardings(tree: Any, layout: Layout) -> Any:
  """The tree of the leaves' NamedShardings; `tree`: a module of arrays or ShapeDtypeStructs."""
  return map_variables(lambda name, leaf, axes: layout.param_sharding(name, leaf.shape, axes), tree)


def name_of(sizes: Sizes) -> str:
  return ",".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True) if size > 1)


EVERY = {name_of(sizes): sizes for sizes in itertools.product((1, 2, 4, 8), repeat=7) if math.prod(sizes) == DEVICES}


def layout_of(sizes: Sizes, *, scattered: bool = False) -> Layout:
  """A layout on the first devices; scattered: those of a process are not neighbors, as on a torus."""
  devices = jax.devices()[: math.prod(sizes)]
  return Layout(make_mesh(dict(zip(AXES, sizes, strict=True)), devices[::2] + devices[1::2] if scattered else devices))


def spec_for(sizes: Sizes = ONE, **changes):
  """Everything that is split, in sizes that this mesh divides: experts, fewer key-value heads than heads, layers."""
  tensor = sizes[AXES.index("tensor")]
  wanted = {
    "heads": 8,
    "kv_heads": max(2, tensor),
    "experts": 8,
    "layers": max(2, sizes[AXES.index("stage")]),
  } | changes
  return dataclasses.replace(DECODERS["mixtral"], **wanted)


@functools.cache
def batch_for(encoder: bool) -> dict[str, np.ndarray]:
  """Packed rows."""
  random = np.random.default_rng(0)
  names = ("", "encoder_") if encoder else ("",)
  batch = {}
  for prefix in names:
    batch[f"{prefix}tokens"] = random.integers(0, 35, (ROWS, LENGTH)).astype(np.int32)
    batch[f"{prefix}segment_ids"] = np.sort(random.integers(1, 4, (ROWS, LENGTH)), axis=1).astype(np.int32)
  return batch


def loss(model, batch):
  """A loss through every output of a model, weighted unevenly."""
  outputs = model(**batch)
  tokens = batch["tokens"]
  if outputs.unembedding is None:
    total = sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(outputs.scores))
  else:
    weights = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.float32)[None], tokens.shape)
    found = cross_entropy(outputs.hidden, outputs.unembedding, (tokens + 1) % 35, weights, outputs.head, outputs.bias)
    total = found.total / found.weight
  return total + sum(value / count for value, count in outputs.auxiliary.values())


def make_model(key):
  return build(spec_for((1, 8, 1, 1, 1, 1, 8)), nnx.Rngs(key))


@functools.cache
def parts():
  """A blueprint and an optimizer whose state is as large as the parameters."""
  plan = abstract_model(make_model)
  rules = ((".*", 0.0),)
  schedule = make_schedule("cosine", peak_lr=1e-2, total_steps=20, warmup_steps=2)
  moments = {"b1": 0.9, "b2": 0.95, "eps": 1e-8}
  return plan, make_optimizer("adamw", schedule=schedule, hyperparameters=moments, weight_decay=0.0, decay_rules=rules,
                               axes=plan.axes, shapes=plan.dimensions)  # fmt: skip


def summed_loss(model: Any, batch: Any, key: Any, reference: Any) -> Loss:
  """`loss` as a training step wants it."""
  del key, reference
  return Loss(loss(model, batch) * ROWS, jnp.asarray(float(ROWS)), {})


def abstract_on(layout: Layout) -> TrainState:
  plan, optimizer = parts()
  return abstract_state(plan, optimizer, layout, Parts())


def fresh_on(layout: Layout) -> TrainState:
  plan, optimizer = parts()
  return init_state(make_model, jax.random.key(0), plan, optimizer, abstract_on(layout))


def step_on(layout: Layout) -> Any:
  plan, optimizer = parts()
  return make_train_step(ModelLoss(summed_loss, plan, layout), optimizer, StepOptions(), abstract_on(layout))
