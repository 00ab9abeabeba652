# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Reduce on plateau: the learning rate falls when the validation loss stops falling, as for LSTMs trained with SGD.

Not optax's `reduce_on_plateau`: that takes the loss of every update inside the optimizer, and this one the loss of an
evaluation, which the loop runs at its own intervals.
"""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Plateau:
  """Scalars on the device, saved with the run.

  Attributes:
    scale: factor of the schedule's learning rate, float32; 1 at first.
    best: the lowest validation loss so far, float32.
  """

  scale: jax.Array
  best: jax.Array


def new_plateau() -> Plateau:
  return Plateau(jnp.ones(()), jnp.full((), jnp.inf))


def after_evaluation(plateau: Plateau, loss: float, factor: float) -> Plateau:
  """The plateau after an evaluation; one that did not improve on the best multiplies the scale by `factor`.

  Args:
    plateau: before the evaluation.
    loss: of the validation set, nats per target.
    factor: between 0 and 1.

  Source: https://arxiv.org/abs/1409.2329, section 4.1, which counts epochs instead of evaluations; torch's
  word_language_model example divides by 4 in the same way.
  """
  better = loss < plateau.best
  return Plateau(jnp.where(better, plateau.scale, plateau.scale * factor), jnp.minimum(plateau.best, loss))
