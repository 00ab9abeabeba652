# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Diagnosis of a diverged step, for the message of a run that stops: the first arrays that aren't finite."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from lmx.optim.optimizers import Optimizer
from lmx.parallel.sharding import use_layout
from lmx.training.state import TrainState
from lmx.training.step import Batch, ModelLoss, StepOptions, batch_gradients

Norms = Mapping[str, np.ndarray]  # Parameter's name -> its norm: (N,) if it is stacked over layers, else ().


def diagnose(task: ModelLoss, optimizer: Optimizer, options: StepOptions, state: TrainState, batch: Batch) -> str:
  """A sentence on which parameters, or else which gradients, are not finite, or on the largest of them.

  The gradients are computed once more: the parameters are still those before the step, which was skipped. So the step
  itself needs no extra outputs.

  Args:
    task, optimizer, options: those of the step.
    state: after the step, on the task's mesh.
    batch: the one that the step was run on, {name: (B, ...)}.
  """
  axes = task.plan.axes

  def norms(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    stacked = {name: int(bool(axes.get(name)) and axes[name][0] == "layers") for name in arrays}  # type: ignore[index]
    return {
      name: jnp.sqrt(jnp.sum(jnp.square(array.astype(jnp.float32)), axis=tuple(range(stacked[name], array.ndim))))
      for name, array in arrays.items()
    }

  def all_norms(state: TrainState, batch: Batch) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    with use_layout(task.layout):
      step = jnp.maximum(state.step - 1, 0)
      batch = batch if state.carry is None else {**batch, "carry": state.carry}
      gradients, _, _ = batch_gradients(task, state, optimizer, batch, options.key(step), options.micro_batches)
    return norms(state.params), norms(gradients)

  shardings = jax.tree.map(lambda leaf: leaf.sharding, (state, dict(batch)))
  parameters, gradients = jax.device_get(jax.jit(all_norms, in_shardings=shardings)(state, batch))
  return sentence(parameters, gradients)


def sentence(parameters: Norms, gradients: Norms) -> str:
  """See `diagnose`. Gradients are listed from the output back, in the order in which they are computed."""
  bad = _not_finite(parameters)
  if bad:
    return f"Not finite: {len(bad)} of the {_count(parameters)} parameters, first {bad[0]}."
  bad = _not_finite(dict(reversed(list(gradients.items()))), backwards=True)
  if not bad:
    return f"The largest gradient is that of {_largest(gradients)}."
  if len(bad) == _count(gradients):
    return f"No gradient is finite, all parameters are; the largest parameter is {_largest(parameters)}."
  return f"Not finite: {len(bad)} of the {_count(gradients)} gradients; from the output back, first {bad[0]}."


def _named(norms: Norms) -> list[tuple[str, float]]:
  return [(name if norm.ndim == 0 else f"{name} of layer {layer}", float(value))
          for name, norm in norms.items() for layer, value in enumerate(np.atleast_1d(norm))]  # fmt: skip


def _not_finite(norms: Norms, *, backwards: bool = False) -> list[str]:
  """The names of those that are not finite; `backwards`: the last layer's first."""
  found = [name for name, value in _named(norms) if not np.isfinite(value)]
  if not backwards:
    return found
  order = {name: index for index, name in enumerate(norms)}
  key = lambda full: (order[full.partition(" of layer ")[0]], -int(full.partition(" of layer ")[2] or 0))  # noqa: E731
  return sorted(found, key=key)


def _count(norms: Norms) -> int:
  return sum(norm.size for norm in norms.values())


def _largest(norms: Norms) -> str:
  name, value = max(_named(norms), key=lambda one: one[1])
  return f"{name} (norm {value:.3g})"
