# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Experiments that differ in numbers only, to be trained together as one compiled program over a stacked axis.

Each number of `NUMBERS` that differs enters the program as an array (); everything else is the same program. So a group
has one model, one optimizer and one set of data, and each experiment has its own state, random keys and run folder.
"""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from ml_collections.config_dict import ConfigDict

from lmx.config.loading import flatten, to_json
from lmx.errors import LmxError
from lmx.experiment.build import build, make_step_sizes
from lmx.experiment.experiment import Experiment
from lmx.experiment.train_setup import make_update, model_maker, objective_spec
from lmx.optim.optimizers import Optimizer
from lmx.parallel.sharding import Layout
from lmx.shapes import AXES, in_use
from lmx.training.step import StepOptions

TRIAL = "trial"  # The stacked axis, on the mesh.
# Key -> the values with which something is left out of the program: such a run is in no group with the others.
NUMBERS: dict[str, tuple[Any, ...]] = {
  "seed": (),
  "optimizer.peak_lr": (),
  "optimizer.final_lr_ratio": (),
  "optimizer.weight_decay": (),
  "optimizer.b1": (0,),
  "optimizer.b2": (),
  "optimizer.eps": (),
  "optimizer.clip_norm": (0,),
  "optimizer.ema": (None,),
  "train.spike_factor": (None,),
  "model.init_std": (),
  "model.dropout": (0,),
}
Update = Callable[[Mapping[str, Any]], tuple[Optimizer, StepOptions]]


def program_of(config: ConfigDict) -> dict[str, Any]:
  """What two configs have the same of if they can be trained together: {key: value}, numbers only as "there is one"."""
  values = flatten(config)
  for key, absent in NUMBERS.items():
    if values[key] not in absent:
      values[key] = "a number"
  return values


def problems_of(config: ConfigDict) -> list[str]:
  """Why runs of a config can't be stacked, each with the key that prevents it."""
  found = {
    "optimizer.schedule": config.optimizer.schedule == "plateau",  # The host changes its rate after evaluations.
    "objective.name": bool(objective_spec(config).reference),
    "model.carry_state": config.model.carry_state,
    "compute.offload_optimizer": config.compute.offload_optimizer,
    "data.pad_multiple": config.data.pad_multiple is not None,  # Batches of several seeds would differ in length.
    **{f"mesh.{axis}": config.mesh[axis] not in (1, -1) for axis in in_use(dict(config.mesh), AXES)},
  }
  values = flatten(config)
  return [
    f"config.{key}={values[key]}: such runs can't be stacked. Fix: leave --vectorize out." for key, bad in found.items()
    if bad
  ]  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
  """A group of experiments.

  Attributes:
    experiments: T of them, with one corpus and one model between them.
    numbers: dotted key -> (T,), for those that differ; the seeds are random keys.
    update: numbers of one experiment, each () -> its optimizer and step options.
    make: (random key, init_std or None) -> the module.
  """

  experiments: tuple[Experiment, ...]
  numbers: Mapping[str, jax.Array]
  update: Update
  make: Callable[[jax.Array, jax.Array | None], Any]


def stacked_layout(trials: int) -> Layout:
  """The layout of one experiment on a mesh whose axis `TRIAL` the stack is split over: N devices, N dividing T."""
  devices = jax.devices()
  count = max(n for n in range(1, min(len(devices), trials) + 1) if trials % n == 0)
  grid = np.asarray(devices[:count], dtype=object).reshape(*(1 for _ in AXES), count)
  return Layout(Mesh(grid, (*AXES, TRIAL), axis_types=(AxisType.Auto,) * (len(AXES) + 1)))


def stacked_numbers(configs: Sequence[ConfigDict]) -> dict[str, jax.Array]:
  """{dotted key: (T,)} of the numbers that differ."""
  flat = [flatten(config) for config in configs]
  numbers = {key: jnp.asarray([values[key] for values in flat], jnp.float32)
             for key in NUMBERS if key != "seed" and len({values[key] for values in flat}) > 1}  # fmt: skip
  if len({config.seed for config in configs}) > 1:
    numbers["seed"] = jnp.stack([jax.random.key(config.seed) for config in configs])
  return numbers


def build_stack(configs: Sequence[ConfigDict], run_dirs: Sequence[Path], command: str) -> Stack:
  """Builds a group of experiments.

  Args:
    configs: checked, equal but for `NUMBERS`.
    run_dirs: one for each.
    command: how they were started, for hints.

  Raises:
    LmxError: what is wrong with them, or prevents that they are stacked.
  """
  problems = problems_of(configs[0])
  if problems:
    raise LmxError("\n".join(problems))
  first = configs[0]
  base = build(first, run_dirs[0], command=command, layout=stacked_layout(len(configs)))
  network = base.network
  pace = make_step_sizes(first, base.rows.epoch.rows)

  def update(numbers: Mapping[str, Any]) -> tuple[Optimizer, StepOptions]:
    return make_update(first, network.plan, pace, numbers)

  def make(key: jax.Array, init_std: jax.Array | None) -> Any:
    spec = network.spec
    if init_std is not None:
      spec = copy.copy(spec)
      object.__setattr__(spec, "init_std", init_std)  # Its value was checked, and `replace` would do so again.
    return model_maker(first, spec)(key)

  experiments = []
  for config, run_dir in zip(configs, run_dirs, strict=True):
    optimizer, options = make_update(config, network.plan, pace)
    experiments.append(
      dataclasses.replace(
        base, seed=config.seed, run_dir=run_dir, config_json=to_json(config), flat_config=flatten(config),
        network=dataclasses.replace(network, optimizer=optimizer, options=options),
      )
    )  # fmt: skip
  return Stack(tuple(experiments), stacked_numbers(configs), update, make)
