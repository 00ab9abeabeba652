# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A model, a batch and compiled steps so small that every law can run over every optimizer and mesh."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lmx.optim.optimizers import OPTIMIZERS, Optimizer, make_optimizer
from lmx.optim.schedules import make_schedule
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout, constrain
from lmx.training.state import AbstractModel, Parts, TrainState, abstract_model, abstract_state, init_state
from lmx.training.step import ModelLoss, StepOptions, make_train_step

VOCABULARY, WIDTH, MLP, LAYERS, BATCH, LENGTH = 32, 16, 32, 1, 16, 8
PLAIN = StepOptions()
RULES = ((r".*\.(bias|scale)", 0.0), (".*", 1.0))


class Layer(nnx.Module):
  """A residual MLP, with a bias and a scale for the decay rules to find."""

  def __init__(self, rngs: nnx.Rngs):
    self.scale = nnx.Param(jnp.ones(WIDTH), axes=("embed",))
    self.up = nnx.Param(0.3 * jax.random.normal(rngs.params(), (WIDTH, MLP)), axes=("embed", "mlp"))
    self.bias = nnx.Param(jnp.zeros(MLP), axes=("mlp",))
    self.down = nnx.Param(0.3 * jax.random.normal(rngs.params(), (MLP, WIDTH)), axes=("mlp", "embed"))

  def __call__(self, x: jax.Array) -> jax.Array:
    hidden = jax.nn.gelu((x * self.scale[...][None, None]) @ self.up[...] + self.bias[...][None, None])
    return x + hidden @ self.down[...]


class Tiny(nnx.Module):
  """Predicts a token from the one before it."""

  def __init__(self, rngs: nnx.Rngs):
    self.embedding = nnx.Param(0.3 * jax.random.normal(rngs.params(), (VOCABULARY, WIDTH)), axes=("vocab", "embed"))
    self.layers = nnx.List([Layer(rngs) for _ in range(LAYERS)])

  def __call__(self, tokens: jax.Array, dropout_key: jax.Array | None = None) -> jax.Array:
    table = constrain(self.embedding[...], "vocab", "embed")
    x = constrain(table[tokens], "batch", "length", "embed")
    if dropout_key is not None:
      x = x * (0.5 + jax.random.uniform(dropout_key))  # A random factor: as good as dropout here, sooner compiled.
    for layer in self.layers:
      x = constrain(layer(x), "batch", "length", "embed")
    return constrain(x @ table.T, "batch", "length", "vocab")


def make_model(key: jax.Array) -> Tiny:
  return Tiny(nnx.Rngs(params=key))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TinyLoss:
  sum: jax.Array
  weight: jax.Array
  metrics: dict[str, tuple[jax.Array, jax.Array]]
  predictions: dict[str, jax.Array] = dataclasses.field(default_factory=dict)
  carry: Any = None


def loss(model: Tiny, batch: Any, key: jax.Array | None, reference: Any = None) -> TinyLoss:
  """Cross-entropy without dropout."""
  del key, reference
  return score(model(batch["tokens"]), batch)


def loss_with_dropout(model: Tiny, batch: Any, key: jax.Array | None, reference: Any = None) -> TinyLoss:
  return score(model(batch["tokens"], key), batch)


def score(logits: jax.Array, batch: Any) -> TinyLoss:
  log_probs = jax.nn.log_softmax(logits)
  hit = jax.nn.one_hot(batch["targets"], VOCABULARY)
  weights = batch["loss_weights"]
  total, weight = -jnp.sum(jnp.sum(log_probs * hit, -1) * weights), jnp.sum(weights)
  right = jnp.sum((jnp.argmax(logits, -1) == batch["targets"]) * weights)
  return TinyLoss(total, weight, {"accuracy": (right, weight)})


def make_batch(seed: int) -> dict[str, np.ndarray]:
  """Rows of very unequal weight, so that a mean of means is far from the mean."""
  random = np.random.default_rng(seed)
  weights = random.random((BATCH, LENGTH)) * np.linspace(0.0, 4.0, BATCH)[:, None]
  return {
    "tokens": random.integers(0, VOCABULARY, (BATCH, LENGTH)).astype(np.int32),
    "targets": random.integers(0, VOCABULARY, (BATCH, LENGTH)).astype(np.int32),
    "loss_weights": weights.astype(np.float32),
  }


@functools.cache
def plan() -> AbstractModel:
  return abstract_model(make_model)


@functools.cache
def layout(data: int = 1, fsdp: int = 1, tensor: int = 1, zero1: bool = False, offload: bool = False) -> Layout:
  count = data * fsdp * tensor
  mesh = make_mesh({"data": data, "fsdp": fsdp, "tensor": tensor}, devices=jax.devices()[:count])
  return Layout(mesh, zero1, offload_optimizer=offload)


@functools.cache
def optimizer(name: str = "adamw") -> Optimizer:
  return make_optimizer(
    name,
    schedule=make_schedule("cosine", peak_lr=1e-2, total_steps=20, warmup_steps=2),
    hyperparameters={"b1": 0.9, "b2": 0.95, "eps": 1e-8},
    weight_decay=0.1 if OPTIMIZERS[name].decay else 0.0,
    decay_rules=RULES,
    axes=plan().axes,
    shapes=plan().dimensions,
  )


@dataclasses.dataclass(frozen=True)
class Program:
  """A compiled step and what it works on."""

  step: Any
  abstract: TrainState
  optimizer: Optimizer
  layout: Layout

  def fresh(self, seed: int = 0) -> TrainState:
    return init_state(make_model, jax.random.key(seed), plan(), self.optimizer, self.abstract)

  def run(self, state: TrainState, steps: range) -> tuple[TrainState, list[dict[str, float]]]:
    """Trains on batches numbered by `steps`; metrics as Python floats."""
    history = []
    for number in steps:
      state, metrics = self.step(state, make_batch(number))
      history.append({name: float(value) for name, value in metrics.items()})
    return state, history


@functools.cache
def program(
  name: str = "adamw",
  mesh: tuple[int, int, int] = (1, 1, 1),
  options: StepOptions = PLAIN,
  objective: Any = loss,
  zero1: bool = False,
  offload: bool = False,
) -> Program:
  """One compiled step per combination, for the whole test session."""
  here = layout(*mesh, zero1, offload)
  abstract = abstract_state(plan(), optimizer(name), here, Parts(ema=options.ema is not None))
  step = make_train_step(ModelLoss(objective, plan(), here), optimizer(name), options, abstract)
  return Program(step, abstract, optimizer(name), here)


def host(tree: Any) -> Any:
  """A copy in host memory that later, donating steps can't change."""
  return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def assert_same(left: Any, right: Any) -> None:
  """Bit for bit."""
  jax.tree.map(np.testing.assert_array_equal, host(left), host(right))


def assert_close(left: Any, right: Any, tolerance: float = 2e-5) -> None:
  """To rounding: sums in another order."""
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), host(left), host(right))
