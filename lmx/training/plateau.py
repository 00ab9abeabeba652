# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A learning rate that falls when the held-out loss stops falling, as LSTM language models are trained with SGD."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Plateau:
  """Scalars on the device, saved with the run.

  Attributes:
    scale: what the schedule's learning rate is multiplied by, float32, from 1 on.
    best: the lowest held-out loss so far, float32.
  """

  scale: jax.Array
  best: jax.Array


def new_plateau() -> Plateau:
  return Plateau(jnp.ones(()), jnp.full((), jnp.inf))


def after_evaluation(plateau: Plateau, loss: float, factor: float) -> Plateau:
  """The plateau after an evaluation: an evaluation that is no better than the best scales the rate by `factor`.

  Source: https://arxiv.org/abs/1409.2329, section 4.1, where epochs and not evaluations decide; torch's
  word_language_model example divides by 4 as is done here. Ours, since optax's reduce_on_plateau follows the loss of
  every update and not that of evaluations.
  """
  better = loss < plateau.best
  return Plateau(jnp.where(better, plateau.scale, plateau.scale * factor), jnp.minimum(plateau.best, loss))
