# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The one training step and the one evaluation step, each a single compiled program over the mesh.

Numerics: the loss is a sum and a weight, both float32, over the whole batch. Gradients of the sum are added up over
micro-batches in the parameters' dtype (float32) and divided once by the total weight, so micro-batches, devices and
packing don't change the result. Clipping, division and skipping are factors inside the update: gradients are
read once for their norm and once for the update.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from lmx.errors import LmxError, message
from lmx.optim.optimizers import Optimizer, is_zero, where_tree
from lmx.parallel.compiler_options import compiler_options
from lmx.parallel.mesh import batch_parts, batch_sharding, device_kind_of, platform_of, replicated
from lmx.parallel.sharding import Layout, use_layout
from lmx.shapes import BATCH_AXES, in_use
from lmx.training.skipping import SPIKE_HISTORY, should_skip
from lmx.training.state import AbstractModel, Arrays, TrainState, as_stored, on_device, shardings_of

Batch = Mapping[str, Any]  # Arrays (B, ...); a recurrent model's `carry` is a dictionary of them.


class LossLike(Protocol):
  """The result of a loss function: see `lmx.objectives.base.Loss`."""

  @property
  def sum(self) -> jax.Array: ...
  @property
  def weight(self) -> jax.Array: ...
  @property
  def metrics(self) -> Mapping[str, tuple[jax.Array, jax.Array]]: ...
  @property
  def predictions(self) -> Mapping[str, jax.Array]: ...
  @property
  def carry(self) -> Any: ...


# (model, batch, dropout key or None, frozen reference model or None) -> Loss
LossFunction = Callable[[Any, Batch, jax.Array | None, Any], LossLike]
Sums = dict[str, tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class StepOptions:
  """Options of the training step.

  Attributes:
    micro_batches: K, micro-batches per batch (gradient accumulation); divides the batch.
    clip_norm: largest global gradient norm; 0: no clipping.
    spike_factor: skip a step whose gradient norm is over this multiple of the running mean; None: never.
    spike_history: steps in that running mean.
    ema: decay of the average of the parameters; None: no average.
    seed: of dropout, or its random key.
    scoped_vmem: see `compiler_options`.

  clip_norm, spike_factor, ema and seed may be arrays () of a traced program, as the optimizer's hyperparameters may.
  """

  micro_batches: int = 1
  clip_norm: float = 1.0
  spike_factor: float | None = None
  spike_history: int = SPIKE_HISTORY
  ema: float | None = None
  seed: int | jax.Array = 0
  scoped_vmem: int | None = None

  def key(self, step: jax.Array) -> jax.Array:
    """The random key of a step's dropout."""
    run = jax.random.key(self.seed) if isinstance(self.seed, int) else self.seed
    return jax.random.fold_in(run, step)


def split_rows(batch: Batch, parts: int, layout: Layout) -> Batch:
  """(B, ...) arrays as (K, B/K, ...): part k has the rows k, K + k, 2K + k, ...

  Every K-th row, and not K consecutive ones, so that each row stays on the device that has it.
  """
  sharding = NamedSharding(layout.mesh, PartitionSpec(None, BATCH_AXES))

  def split(rows: jax.Array) -> jax.Array:
    parted = rows.reshape(rows.shape[0] // parts, parts, *rows.shape[1:]).swapaxes(0, 1)
    return jax.lax.with_sharding_constraint(parted, sharding)

  return jax.tree.map(split, dict(batch))


def join_rows(parted: Any, layout: Layout) -> Any:
  """The inverse of `split_rows`: (K, B/K, ...) arrays as (B, ...)."""

  def join(rows: jax.Array) -> jax.Array:
    joined = rows.swapaxes(0, 1).reshape(-1, *rows.shape[2:])
    return jax.lax.with_sharding_constraint(joined, batch_sharding(layout.mesh))

  return jax.tree.map(join, parted)


@dataclasses.dataclass(frozen=True, eq=False)
class ModelLoss:
  """The loss of a model, and of a frozen reference model where the objective has one, as a function of the parameters.

  Attributes:
    loss: see `LossFunction`.
    plan: the abstract model.
    layout: mesh and tables of axes.
    reference: the abstract reference model, or None.
  """

  loss: LossFunction
  plan: AbstractModel
  layout: Layout
  reference: AbstractModel | None = None

  def __call__(self, params: Arrays, reference: Arrays | None, batch: Batch, key: jax.Array | None) -> LossLike:
    """The loss of some rows.

    Args:
      params, reference: {dotted name: array}.
      batch: {name: (B, ...)}.
      key: of dropout; None: no dropout.
    """
    return self.loss(self.plan.join(params), batch, key, self.frozen(reference))

  def frozen(self, reference: Arrays | None) -> Any:
    """The reference model with these parameters, or None."""
    return None if self.reference is None or reference is None else self.reference.join(reference)


def batch_gradients(
  task: ModelLoss, state: TrainState, optimizer: Optimizer, batch: Batch, key: jax.Array, parts: int
) -> tuple[Arrays, Sums, Any]:
  """Gradients of the summed loss over the batch, for the trained parameters only.

  Args:
    task: the loss.
    state: before the step.
    optimizer: knows which parameters are trained.
    batch: {name: (B, ...)}.
    key: of dropout.
    parts: K, micro-batches.

  Returns:
    ({name: gradient of the sum}, {metric: (sum, weight)}, the carry after the batch).
  """
  trained = optimizer.trained(state.params)
  layout, shardings = task.layout, task.plan.update_shardings(task.layout)
  kept = {name: shardings[name] for name in trained}

  def total(trained: Arrays, rows: Batch, index: jax.Array | int) -> tuple[jax.Array, tuple[Sums, Any]]:
    model, other = task.plan.join({**state.params, **trained}), task.frozen(state.reference)
    result = task.loss(model, rows, jax.random.fold_in(key, index), other)
    return result.sum, ({"loss": (result.sum, result.weight), **result.metrics}, result.carry)

  gradient = jax.value_and_grad(total, has_aux=True)

  if parts == 1:
    (_, (sums, carry)), gradients = gradient(trained, batch, 0)
    return jax.lax.with_sharding_constraint(gradients, kept), sums, carry

  def part(rows: Batch, index: jax.Array | int) -> tuple[tuple[Arrays, Sums], Any]:
    (_, (sums, carry)), gradients = gradient(trained, rows, index)
    return (jax.lax.with_sharding_constraint(gradients, kept), sums), carry

  rows = split_rows(batch, parts, layout)
  shapes, _ = jax.eval_shape(lambda: part(jax.tree.map(lambda value: value[0], rows), 0))
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

  def add(so_far: Any, item: Any) -> Any:
    new, carry = part(*item)
    gradients, sums = jax.tree.map(jnp.add, so_far, new)
    return (jax.lax.with_sharding_constraint(gradients, kept), sums), carry

  (gradients, sums), carry = jax.lax.scan(add, zeros, (rows, jnp.arange(parts)))
  return gradients, sums, join_rows(carry, layout)


def averaged(state: TrainState, params: Arrays, opt_state: Any, optimizer: Optimizer, decay: float | None) -> Any:
  """The next average of the parameters; None where the run keeps none.

  Its decay is min(decay, (1 + n) / (10 + n)) at update n, so that the first steps' parameters are soon forgotten: the
  warm-up of TensorFlow's ExponentialMovingAverage, which `optax.ema` lacks (it debiases instead).

  Args:
    state: before the step.
    params, opt_state: after it.
    optimizer: may keep an average itself (schedule-free), which is then the one.
    decay: between 0 and 1; None: no average.
  """
  if optimizer.average is not None:
    return optimizer.average(opt_state, params)
  if decay is None or state.ema is None:
    return state.ema
  n = state.step.astype(jnp.float32) + 1.0
  keep = jnp.minimum(decay, (1.0 + n) / (10.0 + n))
  return optax.incremental_update(params, state.ema, 1.0 - keep)


def _update(
  state: TrainState, gradients: Arrays, sums: Sums, carry: Any, optimizer: Optimizer, options: StepOptions
) -> tuple[TrainState, dict[str, jax.Array]]:
  """Applies one update, or skips it: then everything but the counts stays as it was."""
  loss, weight = sums["loss"]
  grad_norm = optax.tree.norm(gradients) / weight
  apply, guard = should_skip(
    state.guard, loss / weight, grad_norm, spike_factor=options.spike_factor, history=options.spike_history
  )
  factor = 1.0 / weight
  if not is_zero(options.clip_norm):
    factor = factor * jnp.minimum(1.0, options.clip_norm / jnp.maximum(grad_norm, jnp.finfo(jnp.float32).tiny))
  lr = optimizer.schedule(state.step)
  if state.plateau is not None:
    lr = lr * state.plateau.scale
  scaled = {name: gradient * factor for name, gradient in gradients.items()}
  trained = optimizer.trained(state.params)
  updates, opt_state = optimizer.update(scaled, state.opt_state, trained, lr, apply)
  changed = where_tree(apply, {name: value + updates[name] for name, value in trained.items()}, trained)
  params = {**state.params, **changed}
  ema = where_tree(apply, averaged(state, params, opt_state, optimizer, options.ema), state.ema)
  metrics = {name: total / share for name, (total, share) in sums.items()}
  metrics |= {
    "loss_weight": weight,
    "grad_norm": grad_norm,
    "param_norm": optax.tree.norm(params),
    "learning_rate": lr,
    "skipped": 1.0 - apply,
    "skipped_total": guard.skipped,
    "skipped_in_a_row": guard.skipped_in_a_row,
  }
  metrics = {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
  carry = None if state.carry is None else where_tree(apply, carry, state.carry)
  new = TrainState(state.step + 1, params, opt_state, ema, guard, state.plateau, state.reference, carry)
  return new, metrics


def check_options(options: StepOptions, optimizer: Optimizer, batch_size: int, layout: Layout) -> None:
  """Checks before compilation that sizes divide and options fit together.

  Args:
    options, optimizer: of the step.
    batch_size: rows of the global batch.
    layout: of the mesh.

  Raises:
    LmxError: they don't; names the key to change.
  """
  shards = batch_parts(layout.mesh)
  if options.micro_batches < 1 or batch_size % (shards * options.micro_batches):
    raise LmxError(
      message(
        "config.train.batch_size",
        got=batch_size,
        allowed=f"a multiple of train.micro_batches times the mesh's "
        f"{' * '.join(in_use(layout.mesh.shape, BATCH_AXES)) or 'data'} = {options.micro_batches} * {shards}",
      )
    )
  if options.ema is not None and optimizer.average is not None:
    raise LmxError(message("config.optimizer.ema", got=options.ema, allowed="None: this optimizer keeps an average"))


def train_step_of(
  task: ModelLoss, optimizer: Optimizer, options: StepOptions, abstract: TrainState
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
  """The function that `make_train_step` compiles, with its arguments, for programs that contain it."""

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    with use_layout(task.layout):
      key = options.key(state.step)
      batch = batch if state.carry is None else {**batch, "carry": state.carry}
      gradients, sums, carry = batch_gradients(task, state, optimizer, batch, key, options.micro_batches)
    state = dataclasses.replace(state, opt_state=on_device(state.opt_state, abstract.opt_state))
    new, metrics = _update(state, gradients, sums, carry, optimizer, options)
    return dataclasses.replace(new, opt_state=as_stored(new.opt_state, abstract.opt_state)), metrics

  return train_step


def make_train_step(task: ModelLoss, optimizer: Optimizer, options: StepOptions, abstract: TrainState) -> Any:
  """The compiled `(state, batch) -> (state, metrics)`; the old state is donated to the new one.

  A step whose loss or gradient is not finite, or whose gradient norm is a spike, changes nothing but `step` and the
  counts; then metrics["skipped"] is 1, and the loop stops or continues by its policy.

  Args:
    task: the loss, the model and the mesh.
    optimizer: of the model's parameters.
    options: see `StepOptions`.
    abstract: the state's template, from `abstract_state`, on the task's mesh.

  Returns:
    A `jax.jit` function (`.lower(abstract, batch)` plans it). batch: {name: (B, ...)} global arrays or numpy. metrics:
    float32 scalars on the device: loss and the objective's metrics (means), loss_weight, grad_norm (before clipping),
    param_norm (after the step), learning_rate, skipped (0 or 1), skipped_total, skipped_in_a_row.
  """
  mesh, shardings = task.layout.mesh, shardings_of(abstract)
  return jax.jit(
    train_step_of(task, optimizer, options, abstract),
    in_shardings=(shardings, batch_sharding(mesh)),
    out_shardings=(shardings, replicated(mesh)),
    donate_argnums=0,
    compiler_options=compiler_options(platform_of(mesh), device_kind_of(mesh), options.scoped_vmem),
  )


def make_eval_step(task: ModelLoss) -> Any:
  """The compiled `(parameters, reference parameters or None, batch) -> (sums, predictions, carry)`, without dropout.

  The sums are {name: (sum, weight)} and have "loss"; the predictions {name: (B, ...)}, for metrics that aren't means.
  A recurrent model starts from the batch's `carry`, if it has one, and returns its state after the batch.
  """

  def eval_step(params: Arrays, reference: Arrays | None, batch: Batch) -> tuple[Sums, dict[str, jax.Array], Any]:
    with use_layout(task.layout):
      result = task(params, reference, batch, None)
    return {"loss": (result.sum, result.weight), **result.metrics}, dict(result.predictions), result.carry

  mesh = task.layout.mesh
  frozen = None if task.reference is None else task.reference.shardings(task.layout)
  return jax.jit(
    eval_step,
    in_shardings=(task.plan.shardings(task.layout), frozen, batch_sharding(mesh)),
    out_shardings=(replicated(mesh), replicated(mesh), batch_sharding(mesh)),
    compiler_options=compiler_options(platform_of(mesh), device_kind_of(mesh)),
  )
