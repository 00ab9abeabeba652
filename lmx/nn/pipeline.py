# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Pipeline parallelism: runs of layers on several stages, through which micro-batches pass one after the other.

All stages compute at the same time, each for another micro-batch, and pass their results to the next. With R rounds a
stage has R runs of layers, S runs apart in the model, and a micro-batch passes it R times: the schedule is circular,
and stages are idle for only (S - 1) of the M R + S - 1 turns. Sources: https://arxiv.org/abs/1811.06965 (micro-batches
in a pipeline), https://arxiv.org/abs/2104.04473, section 2.2 (several runs of layers on a stage),
https://arxiv.org/abs/2105.04663, section 3.3 (a pipeline as one vectorized program).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lmx.errors import LmxError, message
from lmx.nn.context import Sums
from lmx.nn.layers.dropout import fold
from lmx.nn.stack import Remat
from lmx.parallel.sharding import constrain, in_one_stage, on_each_device, shard_as, split_over
from lmx.trees import map_variables

AXIS = "stage"
_AT_WORK = ("stages", "stage_rows", "length", "embed")
_WAITING = ("stages", None, "stage_rows", "length", "embed")


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The schedule of a stack on stages.

  Attributes:
    stages: S.
    rounds: R, the runs of layers that each stage has.
    micro_batches: M, parts of a batch, at least S.
  """

  stages: int
  rounds: int
  micro_batches: int

  @property
  def turns(self) -> int:
    """Turns of a forward pass, in each of which all stages compute."""
    return self.micro_batches * self.rounds + self.stages - 1


def check_stages(stages: int, rounds: int, layers: int, period: int, subject: str) -> None:
  """Checks that the layers divide over stages and rounds, each run with complete periods of the layers' kinds.

  Args:
    stages: S.
    rounds: R.
    layers: N.
    period: layers after which their kinds repeat.
    subject: the key of the number of layers, for the message.

  Raises:
    LmxError: they can't.
  """
  unit = stages * rounds * period
  if stages > 1 and layers % unit:
    kinds = f" * {period} (the kinds of layers repeat every {period} layers)" if period > 1 else ""
    allowed = f"a multiple of config.mesh.stage * config.compute.stage_rounds{kinds} = {unit}"
    near = f"{subject}={max(layers // unit, 1) * unit}"
    raise LmxError(message(subject, got=layers, allowed=allowed, fix=f"--{near}, or --config.mesh.stage=1"))


def schedule_of(rows: int, rounds: int, micro_batches: int | None) -> Schedule | None:
  """The schedule on the active layout's stages; None where there is one stage, or rows that the devices don't divide.

  Args:
    rows: of the batch, over all devices.
    rounds: R.
    micro_batches: M; None: one per stage. Where it doesn't divide a device's rows, the largest below it that does.
  """
  stages = split_over("stages")
  if stages == 1 or rows % split_over("batch"):
    return None
  own = stages * rows // split_over("batch")  # Rows that a stage sees: those of all stages.
  return Schedule(stages, rounds, next(m for m in range(max(micro_batches or stages, stages), 0, -1) if own % m == 0))


def run_stages(
  run: Callable[[Any, jax.Array, Any, jax.Array, jax.Array | None], tuple[jax.Array, Sums]],
  module: Any,
  x_BLD: jax.Array,
  rows: Any,
  key: jax.Array | None,
  *,
  layers: int,
  schedule: Schedule,
  remat: Remat,
) -> tuple[jax.Array, Sums]:
  """The residual stream after all layers, and the sums of their losses.

  Args:
    run: (some of the layers, x, rows, number of the first of them, key) -> x after them, and their losses.
    module: the stacked layers.
    x_BLD: the residual stream before the first.
    rows: a pytree; arrays with B rows are split as x is, others go to all stages.
    key: for dropout; each micro-batch has its own.
    layers: N.
    schedule: how.
    remat: rematerialization of all the layers that a stage runs at a turn.
  """
  S, R, M = schedule.stages, schedule.rounds, schedule.micro_batches
  own = layers // (S * R)
  weights = map_variables(lambda name, leaf, axes: _by_stage(leaf, axes, S, R), module)
  rows_of = _parted(rows, x_BLD.shape[0], M)
  x_MBLD = _enter(x_BLD, M)
  waiting_SMBLD = constrain(jnp.broadcast_to(x_MBLD[None], (S, *x_MBLD.shape)), *_WAITING)

  def compute(x_BLD: jax.Array, weights: Any, number: Any, turn: Any) -> tuple[jax.Array, Sums]:
    """The work of one stage at a turn: stage n has micro-batch (turn - n) % M, for the ((turn - n) // M)-th time."""
    micro, of_round = (turn - number) % M, jnp.clip((turn - number) // M, 0, R - 1)
    here = jax.tree.map(lambda leaf: leaf[0] if R == 1 else _pick(leaf, of_round), weights)
    with in_one_stage():
      return run(here, x_BLD, rows_of(micro), (of_round * S + number) * own, fold(key, micro))

  # One program for all stages: vmap over the stages' dimension, which spmd_axis_name keeps on the mesh axis.
  compute_all = jax.vmap(remat.checkpointed(compute, prevent_cse=False), in_axes=(0, 0, 0, None), spmd_axis_name=AXIS)
  step = functools.partial(_turn, lambda x, turn: compute_all(x, weights, jnp.arange(S), turn), schedule)
  start = constrain(jnp.zeros((S, *x_MBLD.shape[1:]), x_BLD.dtype), *_AT_WORK)
  (_, waiting_SMBLD), sums = jax.lax.scan(step, (start, waiting_SMBLD), jnp.arange(schedule.turns, dtype=jnp.int32))
  return _leave(waiting_SMBLD), jax.tree.map(jnp.sum, sums)


def _turn(compute: Callable[..., Any], schedule: Schedule, carry: Any, turn: jax.Array) -> tuple[Any, Sums]:
  """One turn of all stages: each stage's input of the next turn, the queue of the first stage, the sums of the losses.

  Every stage has an array of the queue's shape, but only the first stage's is used: so only results travel, from each
  stage to the next.
  """
  S, R, M = schedule.stages, schedule.rounds, schedule.micro_batches
  handed_SBLD, waiting_SMBLD = carry
  first_S = jnp.arange(S) == 0  # The first stage takes its input from the queue, the others from the stage before.
  x_SBLD = jnp.where(first_S[:, None, None, None], _pick(waiting_SMBLD, turn % M, 1), handed_SBLD)
  y_SBLD, sums = compute(x_SBLD, turn)
  after_S = turn - jnp.arange(S)  # Turns since each stage began.
  at_work_S = (after_S >= 0) & (after_S < M * R)
  sums = jax.tree.map(lambda value_S: jnp.sum(jnp.where(at_work_S, value_S, 0)), sums)
  handed_SBLD = _to_next_stage(y_SBLD, S)
  # The last stage passed a micro-batch back to the first, where it waits for its next round, or is the result.
  done = (turn - (S - 1)) % M
  kept = jnp.where(turn >= S - 1, handed_SBLD, _pick(waiting_SMBLD, done, 1))
  return (handed_SBLD, jax.lax.dynamic_update_index_in_dim(waiting_SMBLD, kept, done, 1)), sums


def _pick(x: jax.Array, index: jax.Array, axis: int = 0) -> jax.Array:
  return jax.lax.dynamic_index_in_dim(x, index, axis, keepdims=False)


def _parted(rows: Any, batch: int, micro_batches: int) -> Callable[[jax.Array], Any]:
  """(number of a micro-batch) -> its part of the arrays that have the batch's rows; other arrays are not split."""
  leaves, structure = jax.tree.flatten(rows)
  parted = [leaf.shape[0] == batch for leaf in leaves]
  leaves = [_enter(leaf, micro_batches) if is_parted else leaf for leaf, is_parted in zip(leaves, parted, strict=True)]

  def rows_of(micro: jax.Array) -> Any:
    here = [_pick(leaf, micro) if is_parted else leaf for leaf, is_parted in zip(leaves, parted, strict=True)]
    return jax.tree.unflatten(structure, here)

  return rows_of


def _by_stage(leaf: jax.Array, axes: Any, stages: int, rounds: int) -> jax.Array:
  """(N, ...) as (S, R, N / S R, ...). Layers are stored in order, so with R > 1 most are resharded once a step."""
  parted = leaf.reshape(rounds, stages, -1, *leaf.shape[1:]).swapaxes(0, 1)
  return shard_as(parted, "storage", (axes[0], None, None, *axes[1:]))


def _row_axes(x: jax.Array) -> tuple[str | None, ...]:
  return ("length", *[None] * (x.ndim - 2)) if x.ndim in (2, 3) else (None,) * (x.ndim - 1)


def _enter(x: jax.Array, micro_batches: int) -> jax.Array:
  """Gathers the rows (B, ...) of all stages' devices on each stage, as micro-batches (M, B / M, ...)."""

  def local(x: jax.Array) -> jax.Array:
    whole = jax.lax.all_gather(x, AXIS, axis=0, tiled=True)
    return whole.reshape(micro_batches, -1, *x.shape[1:])

  rest = _row_axes(x)
  return on_each_device(local, [(x, ("batch", *rest))], (None, "stage_rows", *rest))


def _leave(waiting_SMBLD: jax.Array) -> jax.Array:
  """The opposite of `_enter`: scatters the first stage's rows over all stages' devices."""

  def local(x: jax.Array) -> jax.Array:
    first = jnp.where(jax.lax.axis_index(AXIS) == 0, x[0], 0).reshape(-1, *x.shape[3:])
    return jax.lax.psum_scatter(first, AXIS, scatter_dimension=0, tiled=True)

  return on_each_device(local, [(waiting_SMBLD, _WAITING)], ("batch", "length", "embed"))


def _to_next_stage(y_SBLD: jax.Array, stages: int) -> jax.Array:
  """Each stage's result, at the next one; the last one's at the first."""
  ring = [(stage, (stage + 1) % stages) for stage in range(stages)]
  return on_each_device(lambda y: jax.lax.ppermute(y, AXIS, ring), [(y_SBLD, _AT_WORK)], _AT_WORK)
