# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Sequence mixers: the contract of the part of a block that moves information between tokens.

A mixer's file has the module and, as its `ROW`, a `MixerSpec`: all that the rest of lmx asks of a mixer. The table
`MIXERS` in lmx/nn/mixers.py names the rows; config.model.mixer names one of them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
from flax import nnx

from lmx.errors import Problems
from lmx.nn.context import Context
from lmx.nn.layers.initializers import Initializer
from lmx.units import StepFlops


class Mixer(Protocol):
  """The module that mixes the tokens of one layer along the length."""

  def __call__(
    self, x_BLD: jax.Array, context: Context, cache: Any, layer: int | jax.Array, key: jax.Array | None
  ) -> tuple[jax.Array, Any]:
    """Mixes tokens.

    Args:
      x_BLD: (B, L, D) normalized residual stream.
      context: segments, rotary tables, cache slots and so on.
      cache: the state of all layers as `MixerSpec.empty` makes it, or None: then rows are read from their start.
      layer: this layer's number in the cache.
      key: for dropout; None: off.

    Returns:
      (B, L, D) in the compute dtype, and the cache after these tokens (None without one).
    """
    ...


def _no_flops(spec: Any, layers: int, length: int, *, causal: bool) -> StepFlops:
  return StepFlops(causal=0.0, full=0.0)


@dataclasses.dataclass(frozen=True)
class MixerSpec:
  """One row of `MIXERS`. `spec` is the model's, with the fields of `lmx.models.spec.StackSpec`.

  Attributes:
    make: (spec, initializer, rngs) -> the mixer of one layer.
    empty: (spec, layers, batch, slots) -> the state of all layers before the first token: a pytree of (N, B, ...)
      arrays, with room for `slots` tokens where it grows with them.
    matmul_parameters: (spec) -> weights of one layer that a token is multiplied with.
    keys: the keys of config.model that only this mixer reads.
    flops: (spec, layers, length, causal=) -> FLOPs of mixing one training token, forward and backward, in all layers;
      the products with `matmul_parameters` are counted elsewhere.
    check: (spec, problems) -> None; adds the values of `keys`, or combinations with others, that are impossible.
    describe: (spec) -> its sizes in a few words.
    kernel: (spec, platform) -> name of the kernel that computes it there; raises LmxError where none can.
    check_kernel: (spec, platform) -> a sentence for the run's introduction, after comparing the kernel with a reference
      on this machine; raises LmxError where they differ.
    unlimited: whether a row may be longer than the context, since the state has a fixed size.
    model_name: of a model with this mixer, for people; None: the family's.
  """

  make: Callable[[Any, Initializer, nnx.Rngs], Mixer]
  empty: Callable[[Any, int, int, int], Any]
  matmul_parameters: Callable[[Any], int]
  keys: tuple[str, ...] = ()
  flops: Callable[..., StepFlops] = _no_flops
  check: Callable[[Any, Problems], None] = lambda spec, problems: None
  describe: Callable[[Any], str] = lambda spec: f"{spec.heads} heads"
  kernel: Callable[[Any, str], str] = lambda spec, platform: "none"
  check_kernel: Callable[[Any, str], str] = lambda spec, platform: "none: the mixer is plain JAX"
  unlimited: bool = False
  model_name: str | None = None
