# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Weight initialization: the published schemes, chosen by name.

A scheme gives the standard deviation of one matrix, so that stacked, sharded and folded shapes (D, H, K) don't
matter. Biases start at zero and norm scales at one, in every scheme.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lmx.errors import choose


@dataclasses.dataclass(frozen=True)
class Fan:
  """What one matrix multiplies: inputs and outputs of a unit, and whether it ends a residual branch."""

  inputs: int
  outputs: int
  residual: bool


@dataclasses.dataclass(frozen=True)
class Initializer:
  """An initialization.

  Attributes:
    matrix_std: standard deviation of a matrix.
    embedding_std: that of embedding tables.
    draw: standard deviation (uniform: bound) -> an initializer of `jax.nn.initializers`. Its variance_scaling is not
      used, since it takes fans from shapes, and these are stacked and folded.
  """

  matrix_std: Callable[[Fan], float]
  embedding_std: float
  draw: Callable[[float], Callable[..., jax.Array]] = jax.nn.initializers.normal

  def matrix(self, key: jax.Array, shape: tuple[int, ...], fan: Fan) -> jax.Array:
    """A float32 weight of `shape`, whatever the dimensions that inputs and outputs are folded into."""
    return self.draw(self.matrix_std(fan))(key, shape, jnp.float32)

  def embedding(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A float32 table, one row per id."""
    return self.draw(self.embedding_std)(key, shape, jnp.float32)


def _gpt2(std: float, layers: int) -> Callable[[Fan], float]:
  """Normal; the two matrices that end a block's residual branches are smaller by 1/sqrt(2N).

  Source: GPT-2 (Radford et al., 2019, section 2.3): the residual path has 2N additions.
  """
  return lambda fan: std / math.sqrt(2 * layers) if fan.residual else std


def _normal(std: float, layers: int) -> Callable[[Fan], float]:
  """The same standard deviation everywhere, as BERT and the first GPT have it."""
  return lambda fan: std


def _xavier(std: float, layers: int) -> Callable[[Fan], float]:
  """Variance 2 / (inputs + outputs). Source: Glorot and Bengio, 2010, equation 12 (normal draws of that variance)."""
  return lambda fan: math.sqrt(2 / (fan.inputs + fan.outputs))


def _lecun(std: float, layers: int) -> Callable[[Fan], float]:
  """Variance 1 / inputs. Source: LeCun et al., Efficient BackProp, 1998, equation 16."""
  return lambda fan: math.sqrt(1 / fan.inputs)


def _uniform(std: float, layers: int) -> Callable[[Fan], float]:
  """Between -std and std everywhere, as LSTM language models have it (https://arxiv.org/abs/1409.2329, section 4.1)."""
  return lambda fan: std


def _symmetric(bound: float) -> Callable[..., jax.Array]:
  """Between -bound and bound; jax's own uniform begins at 0."""
  return lambda key, shape, dtype: bound * jax.random.uniform(key, shape, dtype, -1.0, 1.0)


INITS: dict[str, Callable[[float, int], Callable[[Fan], float]]] = {
  "gpt2": _gpt2,
  "normal": _normal,
  "xavier": _xavier,
  "lecun": _lecun,
  "uniform": _uniform,
}
_DRAWS: dict[str, Callable[[float], Callable[..., jax.Array]]] = {"uniform": _symmetric}  # The others draw normally.


# Schemes whose standard deviation doesn't depend on the width: muP scales it down as the width grows. The others do so.
_SAME_AT_ANY_WIDTH = ("gpt2", "normal", "uniform")


def make_scheme(name: str, *, std: float, layers: int, width_ratio: float = 1.0) -> Initializer:
  """The scheme called `name`.

  Args:
    name: a row of `INITS`.
    std: standard deviation of embeddings in every scheme, and of matrices in gpt2 and normal; uniform: the bound.
    layers: N, for the residual scaling.
    width_ratio: width over the width that std is meant for (muP, https://arxiv.org/abs/2203.03466, table 8): the
      variance of matrices falls with it, that of embeddings and of the unembedding doesn't.

  Raises:
    LmxError: an unknown name.
  """
  matrix_std = std / math.sqrt(width_ratio) if name in _SAME_AT_ANY_WIDTH else std
  return Initializer(
    choose("config.model.init", name, INITS)(matrix_std, layers), std, _DRAWS.get(name, jax.nn.initializers.normal)
  )
