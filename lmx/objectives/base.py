# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What an objective is: both halves of a task, preparing examples and scoring a model on them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Batch = dict[str, jax.Array]
Prepare = Callable[[np.ndarray, np.random.Generator], dict[str, np.ndarray]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loss:
  """A sum and a weight, float32 scalars: divided once, after every micro-batch and device has been added.

  Attributes:
    sum: what is differentiated.
    weight: what it is divided by.
    metrics: name -> (sum, weight), for the logs.
  """

  sum: jax.Array
  weight: jax.Array
  metrics: dict[str, tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Objective:
  """One way to train a model.

  Attributes:
    name: its row in `OBJECTIVES`.
    lookahead: tokens that a window holds beyond the row it becomes.
    prepare: (window of token ids, random generator) -> the row's arrays, numpy.
    loss: (model outputs, batch) -> Loss.
    requires: names that a batch must have.
  """

  name: str
  lookahead: int
  prepare: Prepare
  loss: Callable[[Any, Batch], Loss]
  requires: tuple[str, ...] = ("tokens", "targets", "loss_weights")
