# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The position-wise MLP, plain or gated."""

import functools
from typing import Any, ClassVar

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from lmx.nn.context import Context, Sums
from lmx.nn.layers.activations import Activation
from lmx.nn.layers.initializers import Initializer
from lmx.nn.layers.linear import Linear
from lmx.parallel.sharding import constrain


class MLP(nnx.Module):
  """down(f(up(x))), or gated: down(f(gate(x)) * up(x)). Source of gating: https://arxiv.org/abs/2002.05202."""

  auxiliary: ClassVar[tuple[str, ...]] = ()  # No losses.

  def __init__(
    self,
    width: int,
    hidden: int,
    activation: Activation,
    *,
    bias: bool,
    scheme: Initializer,
    dtype: Any,
    rngs: nnx.Rngs,
    quantization: str = "none",
  ):
    """Makes the weights: width D, hidden F; `quantization` as in `Linear`."""
    embed, mlp = (("embed", width),), (("mlp", hidden),)
    linear = functools.partial(Linear, bias=bias, scheme=scheme, dtype=dtype, rngs=rngs, quantization=quantization)
    self.function = activation.function
    self.gate = linear(embed, mlp) if activation.gated else None
    self.up = linear(embed, mlp)
    self.down = linear(mlp, embed, residual=True)

  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Sums]:
    """(B, L, D) to (B, L, D), and no losses; each token by itself, whatever the context."""
    up_BLF = checkpoint_name(constrain(self.up(x_BLD), "batch", "length", "mlp"), "up")
    if self.gate is None:
      return self.down(self.function(up_BLF)), {}
    gate_BLF = checkpoint_name(constrain(self.gate(x_BLD), "batch", "length", "mlp"), "gate")
    return self.down(self.function(gate_BLF) * up_BLF), {}
