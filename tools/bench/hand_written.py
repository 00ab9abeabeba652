# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""GPT-2 and its training step in plain JAX: functions and dictionaries, no framework, nothing of lmx.

Twice, differing in four operations only: `PLAIN` is the textbook (and leaves masking of documents out), `TUNED` is the
formulation that lmx has for CPUs, written again from scratch: what lmx's step takes beyond it is lmx's overhead.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tools.bench.shapes import NORM_EPS, SHAPES, UPDATE, Arrays, Batches, Shape, Turns, curve, no_decay, read

HIDDEN = -1e30

# ---------------------------------------------------------------- the textbook


def plain_attention(q, k, v, segments):
  """(B, L, H, K) each; softmax of the causal scores. One document in a row: `segments` is not looked at."""
  scores = jnp.einsum("blhk,bshk->bhls", q, k) / math.sqrt(q.shape[-1])
  length = q.shape[1]
  scores = jnp.where(jnp.tril(jnp.ones((length, length), bool))[None, None], scores, HIDDEN)
  return jnp.einsum("bhls,bshk->blhk", jax.nn.softmax(scores, axis=-1), v)


def plain_loss(x, table, targets, weights, vocabulary):
  """(weighted sum of the negative log-likelihood, weighted number of right guesses)."""
  logits = x @ table.T
  logits = jnp.where(jnp.arange(table.shape[0])[None] < vocabulary, logits, HIDDEN)
  chosen = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), targets[:, None], axis=-1)[:, 0]
  return -jnp.sum(weights * chosen), jnp.sum(weights * (jnp.argmax(logits, axis=-1) == targets))


# ---------------------------------------------------------------- the tuned operations


@jax.custom_vjp
def tuned_matmul(x, w):
  """x @ w with the weight gradient as x.T @ dy: XLA's CPU backend would copy dy transposed."""
  return x @ w


tuned_matmul.defvjp(lambda x, w: (x @ w, (x, w)), lambda saved, dy: (dy @ saved[1].T, saved[0].T @ dy))

_A, _C = math.sqrt(2 / math.pi), 0.044715


@jax.custom_vjp
def tuned_gelu(x):
  """The tanh approximation; the backward pass starts from the input alone."""
  return 0.5 * x * (1 + jnp.tanh(_A * (x + _C * x * x * x)))


def _gelu_backward(x, dy):
  t = jnp.tanh(_A * (x + _C * x * x * x))
  return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * _A * (1 + 3 * _C * x * x)),)


tuned_gelu.defvjp(lambda x: (tuned_gelu(x), x), _gelu_backward)


@jax.custom_vjp
def _core(q, k, v, seen):
  return _core_forward(q, k, v, seen)[0]


def _core_forward(q, k, v, seen):
  scores = jnp.einsum("bhlk,bhsk->bhls", q, k)
  p = jax.nn.softmax(jnp.where(seen, scores, HIDDEN), axis=-1)
  return jnp.einsum("bhls,bhsk->bhlk", p, v), (q, k, v, p)


def _core_backward(saved, dy):
  q, k, v, p = saved
  dv = jnp.einsum("bhls,bhlk->bhsk", p, dy)
  weighted = p * jnp.einsum("bhlk,bhsk->bhls", dy, v)
  ds = weighted - p * jnp.sum(weighted, axis=-1, keepdims=True)
  return jnp.einsum("bhls,bhsk->bhlk", ds, k), jnp.einsum("bhls,bhlk->bhsk", ds, q), dv, None


_core.defvjp(_core_forward, _core_backward)


def tuned_attention(q, k, v, segments):
  """Heads before length, probabilities kept for the backward pass, documents kept apart."""
  length = q.shape[1]
  seen = (segments[:, :, None] == segments[:, None, :]) & jnp.tril(jnp.ones((length, length), bool))[None]
  swap = functools.partial(jnp.transpose, axes=(0, 2, 1, 3))
  return swap(_core(swap(q) * (1 / math.sqrt(q.shape[-1])), swap(k), swap(v), seen[:, None]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def tuned_loss(x, table, targets, weights, vocabulary):
  """As `plain_loss`; its gradient is computed with the loss, so that no logits are kept."""
  return _loss_forward(x, table, targets, weights, vocabulary)[0]


def _loss_forward(x, table, targets, weights, vocabulary):
  logits = x @ table.T
  if vocabulary != table.shape[0]:
    logits = jnp.where(jnp.arange(table.shape[0])[None] < vocabulary, logits, HIDDEN)
  largest = jnp.max(logits, axis=-1, keepdims=True)
  exponentials = jnp.exp(logits - largest)
  total = jnp.sum(exponentials, axis=-1, keepdims=True)
  hit = jnp.arange(table.shape[0])[None] == targets[:, None]
  chosen = jnp.sum(jnp.where(hit, logits, 0.0), axis=-1)
  nll = jnp.sum(weights * (jnp.log(total[:, 0]) + largest[:, 0] - chosen))
  correct = jnp.sum(weights * (chosen >= largest[:, 0]))
  dlogits = exponentials * (weights[:, None] / total) - jnp.where(hit, weights[:, None], 0.0)
  return (nll, correct), (dlogits @ table, dlogits.T @ x)


def _loss_backward(vocabulary, saved, cotangents):
  dx, dtable = saved
  return dx * cotangents[0], dtable * cotangents[0], None, None


tuned_loss.defvjp(_loss_forward, _loss_backward)


@dataclasses.dataclass(frozen=True)
class Operations:
  """The four operations in which the two formulations differ."""

  matmul: Callable[..., Any]
  gelu: Callable[..., Any]
  attention: Callable[..., Any]
  loss: Callable[..., Any]


PLAIN = Operations(jnp.matmul, functools.partial(jax.nn.gelu, approximate=True), plain_attention, plain_loss)
TUNED = Operations(tuned_matmul, tuned_gelu, tuned_attention, tuned_loss)

# ---------------------------------------------------------------- model and step, shared by both


def norm(x, p):
  x = x - jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.mean(x * x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(variance + NORM_EPS) * p["scale"][None] + p["bias"][None]


def block(ops: Operations, shape: Shape, x, p, segments):
  """(T, D) to (T, D), T tokens of all rows one after another."""

  def linear(x, p):
    return ops.matmul(x, p["kernel"]) + p["bias"][None]

  def heads(x):
    return x.reshape(shape.batch, shape.context, shape.heads, shape.head_width)

  y = norm(x, p["attention_norm"])
  q, k, v = (heads(linear(y, p[name])) for name in ("query", "key", "value"))
  x = x + linear(ops.attention(q, k, v, segments).reshape(x.shape), p["out"])
  return x + linear(ops.gelu(linear(norm(x, p["mlp_norm"]), p["up"])), p["down"])


def loss_of(ops: Operations, shape: Shape, params, batch):
  """(sum of the negative log-likelihood, (sum of weights, right guesses))."""
  x = params["tokens"][batch["tokens"].reshape(-1)] + params["positions"][batch["positions"].reshape(-1)]
  for layer in params["layers"]:
    x = block(ops, shape, x, layer, batch["segment_ids"])
  weights = batch["loss_weights"].reshape(-1)
  targets = batch["targets"].reshape(-1)
  nll, correct = ops.loss(norm(x, params["final_norm"]), params["tokens"], targets, weights, shape.vocabulary)
  return nll, (jnp.sum(weights), correct)


def global_norm(tree):
  return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def adamw(path, p, g, m, v, step):
  """(parameter, first moment, second moment) after update number `step`, counted from 1."""
  m = UPDATE.b1 * m + (1 - UPDATE.b1) * g
  v = UPDATE.b2 * v + (1 - UPDATE.b2) * g * g
  direction = m / (1 - UPDATE.b1**step) / (jnp.sqrt(v / (1 - UPDATE.b2**step)) + UPDATE.eps)
  decay = 0.0 if no_decay(path[-1].key) else UPDATE.weight_decay
  return p - UPDATE.learning_rate * (direction + decay * p), m, v


def train_step(ops: Operations, shape: Shape, state, batch):
  """state: (parameters, first moments, second moments, updates done); returns the next one, and what lmx logs."""
  params, first, second, step = state
  gradient = jax.value_and_grad(functools.partial(loss_of, ops, shape), has_aux=True)
  (nll, (weight, correct)), gradients = gradient(params, batch)
  length = global_norm(gradients) / weight
  factor = jnp.minimum(1.0, UPDATE.clip_norm / length) / weight
  step = step + 1

  def update(path, p, g, m, v):
    return adamw(path, p, g * factor, m, v, step.astype(jnp.float32))

  new = jax.tree_util.tree_map_with_path(update, params, gradients, first, second)
  params, first, second = (jax.tree.map(lambda _, n, i=i: n[i], params, new) for i in range(3))
  metrics = {"loss": nll / weight, "accuracy": correct / weight, "weight": weight, "grad_norm": length,
             "param_norm": global_norm(params)}  # fmt: skip
  return (params, first, second, step), metrics


def nested(parameters: Arrays, shape: Shape) -> dict[str, Any]:
  """lmx's stacked arrays as one dictionary per layer, with matrices of two dimensions."""

  def pick(prefix: str, index=slice(None)) -> dict[str, np.ndarray]:
    found = {name: parameters[f"{prefix}.{name}"][index] for name in ("kernel", "scale", "bias")
             if f"{prefix}.{name}" in parameters}  # fmt: skip
    return {name: value.reshape(shapes[name]) for name, value in found.items()}

  layers = []
  d, f = shape.width, 4 * shape.width
  sizes = {"attention.query": (d, d), "attention.key": (d, d), "attention.value": (d, d), "attention.out": (d, d),
           "mlp.up": (d, f), "mlp.down": (f, d), "attention_norm": (d, d), "mlp_norm": (d, d)}  # fmt: skip
  for layer in range(shape.layers):
    made = {}
    for name, (inputs, outputs) in sizes.items():
      shapes = {"kernel": (inputs, outputs), "scale": (outputs,), "bias": (outputs,)}
      made[name.rpartition(".")[2]] = pick(f"layers.{name}", layer)
    layers.append(made)
  shapes = {"scale": (d,), "bias": (d,)}
  return {
    "tokens": parameters["token_embedding.embedding"],
    "positions": parameters["position_embedding.embedding"],
    "layers": layers,
    "final_norm": pick("final_norm"),
  }


def make(setting: Mapping[str, Any]) -> "HandWritten":
  """The contestant of a setting with `contestant`, `shape` and `folder`."""
  ops = TUNED if setting["contestant"] == "hand-written" else PLAIN
  return HandWritten(ops, SHAPES[setting["shape"]], *read(Path(setting["folder"])))


class HandWritten:
  """A contestant: the step above over the batches, as a research script would have it."""

  def __init__(self, ops: Operations, shape: Shape, parameters: Arrays, batches: Batches):
    params = jax.tree.map(jnp.asarray, nested(parameters, shape))
    zeros = functools.partial(jax.tree.map, jnp.zeros_like)
    self._state = (params, zeros(params), zeros(params), jnp.zeros((), jnp.int32))
    self._step = jax.jit(functools.partial(train_step, ops, shape), donate_argnums=0)
    self._batches = batches
    self._losses: list[jax.Array] = []

  def play(self, turns: Turns) -> None:
    while True:
      self.run(turns.next())

  def run(self, steps: int) -> None:
    for _ in range(steps):
      batch = {name: values[len(self._losses)] for name, values in self._batches.items()}
      self._state, metrics = self._step(self._state, batch)
      self._losses.append(metrics["loss"])
    jax.block_until_ready(self._state)

  def results(self) -> dict[str, Any]:
    return curve([float(loss) for loss in self._losses])
