# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The models that are timed, and the numbers that every contestant trains them with.

Needs numpy only: the torch contestant runs in an environment without jax.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Update:
  """The update of every contestant: AdamW with bias correction, decay on matrices only, global-norm clipping."""

  learning_rate: float = 6e-4
  b1: float = 0.9
  b2: float = 0.95
  eps: float = 1e-8
  weight_decay: float = 0.1
  clip_norm: float = 1.0


UPDATE = Update()
NORM_EPS = 1e-5


@dataclasses.dataclass(frozen=True)
class Shape:
  """A GPT-2-like model and its batch.

  Attributes:
    layers, heads, width, context, batch: N, H, D, L and B; the MLP is 4 D wide.
    vocabulary: real tokens; lmx and the JAX contestants pad the table to `rows`, whose padding has no probability.
    steps: of one turn of one contestant, so that a turn takes a second or more.
    rounds: turns of each contestant when nothing else is asked for.
  """

  layers: int
  heads: int
  width: int
  context: int
  batch: int
  vocabulary: int
  steps: int
  rounds: int

  @property
  def rows(self) -> int:
    """Rows of the embedding table: the vocabulary up to a multiple of 128."""
    return -(-self.vocabulary // 128) * 128

  @property
  def head_width(self) -> int:
    return self.width // self.heads

  def describe(self) -> str:
    return (
      f"{self.layers} layers, width {self.width}, {self.heads} heads, context {self.context}, batch {self.batch}, "
      f"vocabulary {self.vocabulary}" + (f" padded to {self.rows}" if self.rows != self.vocabulary else "")
    )


SHAPES: dict[str, Shape] = {
  "A": Shape(layers=6, heads=6, width=384, context=256, batch=8, vocabulary=4096, steps=2, rounds=16),
  "B": Shape(layers=4, heads=4, width=128, context=64, batch=12, vocabulary=65, steps=20, rounds=24),  # nanoGPT, laptop
  "tiny": Shape(layers=1, heads=2, width=16, context=16, batch=2, vocabulary=65, steps=4, rounds=2),  # For the test.
}

Batches = dict[str, np.ndarray]  # name -> (steps, B, L)
Arrays = dict[str, np.ndarray]


WINDOW = 10  # The loop of lmx logs the mean loss of this many steps, so that is what contestants are compared by.


class Turns(Protocol):
  """The requests that a contestant serves; see tools/bench/contestant.py."""

  def next(self) -> int: ...


def read(folder: Path) -> tuple[Arrays, Batches]:
  """The first parameters under lmx's names, layers stacked, and the batches."""
  with np.load(folder / "parameters.npz") as parameters, np.load(folder / "batches.npz") as batches:
    return dict(parameters), dict(batches)


def curve(losses: Sequence[float]) -> dict[str, Any]:
  """The first loss, and the mean loss of each whole window of steps."""
  whole = len(losses) // WINDOW * WINDOW
  return {"first": losses[0], "windows": np.reshape(losses[:whole], (-1, WINDOW)).mean(axis=1).tolist()}


def no_decay(name: str) -> bool:
  """Whether a parameter is spared the weight decay: biases and norm scales are."""
  return name.endswith(("bias", "scale"))
