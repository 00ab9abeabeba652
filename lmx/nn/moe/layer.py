# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Mixture-of-experts layer, in place of the MLP: each token goes through a few of E gated MLPs; none is dropped.

Sources: https://arxiv.org/abs/1701.06538 (the idea), https://arxiv.org/abs/2401.04088 (Mixtral: softmax over all
experts, the weights of the chosen ones add up to 1), https://arxiv.org/abs/2211.15841 (no token is dropped: tokens are
sorted by expert, and each expert multiplies its own). The dispatch of tokens to experts, on one device or several, is
in dispatch.py.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.nn.context import Context, Sums
from lmx.nn.layers.activations import Activation
from lmx.nn.layers.initializers import Fan, Initializer
from lmx.nn.layers.linear import Linear
from lmx.nn.layers.mlp import MLP
from lmx.nn.moe.dispatch import run_experts, run_own_experts, run_shared_out
from lmx.parallel.sharding import on_each_device, split_over

_UP, _DOWN = ("expert", "expert_embed", "mlp"), ("expert", "mlp", "expert_embed")


@dataclasses.dataclass(frozen=True)
class MixtureShape:
  """Sizes and choices of a mixture of experts.

  Attributes:
    width: D.
    experts: E.
    experts_per_token: how many of them a token goes through.
    expert_width: F of one expert.
    shared_width: F of the expert that every token goes through, behind a sigmoid gate (Qwen2-MoE); None: there is none.
    normalize: the weights of a token's experts add up to 1; otherwise they are the router's probabilities.
    load_balance, router_z: weights of the two losses.
  """

  width: int
  experts: int
  experts_per_token: int
  expert_width: int
  shared_width: int | None
  normalize: bool
  load_balance: float
  router_z: float


class ExpertLinear(nnx.Module):
  """E linear maps without biases; the kernel is (E, in, out) float32."""

  def __init__(
    self,
    experts: int,
    inputs: tuple[str, int],
    outputs: tuple[str, int],
    key: jax.Array,
    scheme: Initializer,
    residual: bool,
  ):
    fan = Fan(inputs[1], outputs[1], residual)
    kernel = scheme.matrix(key, (experts, inputs[1], outputs[1]), fan)
    self.kernel = nnx.Param(kernel, axes=("expert", inputs[0], outputs[0]))


class Experts(nnx.Module):
  """The kernels of E MLPs, up, gate (where gated) and down."""

  def __init__(self, shape: MixtureShape, activation: Activation, *, scheme: Initializer, rngs: nnx.Rngs):
    embed, mlp = ("expert_embed", shape.width), ("mlp", shape.expert_width)
    linear = functools.partial(ExpertLinear, shape.experts)
    self.gate = linear(embed, mlp, rngs.params(), scheme, False) if activation.gated else None
    self.up = linear(embed, mlp, rngs.params(), scheme, False)
    self.down = linear(mlp, embed, rngs.params(), scheme, True)

  def kernels(self) -> dict[str, jax.Array]:
    parts = {"up": self.up, "gate": self.gate, "down": self.down}
    return {name: part.kernel[...] for name, part in parts.items() if part is not None}


class MixtureOfExperts(nnx.Module):
  """A router and its experts. Router, softmax and losses are float32, the experts compute in `dtype`; no biases."""

  auxiliary: ClassVar[tuple[str, ...]] = ("load_balance", "router_z")

  def __init__(self, shape: MixtureShape, activation: Activation, *, scheme: Initializer, dtype: Any, rngs: nnx.Rngs):
    """Makes the weights."""
    self.shape = shape
    self.function = activation.function
    self.dtype = jnp.dtype(dtype)
    linear = functools.partial(Linear, (("embed", shape.width),), bias=False, scheme=scheme, rngs=rngs)
    self.router = linear((("router", shape.experts),), dtype=jnp.float32)
    self.experts = Experts(shape, activation, scheme=scheme, rngs=rngs)
    shared, width = shape.shared_width, shape.width
    mlp = functools.partial(MLP, activation=activation, bias=False, scheme=scheme, dtype=dtype, rngs=rngs)
    self.shared = None if shared is None else mlp(width, shared)
    self.shared_gate = None if shared is None else linear((("gates", 1),), dtype=dtype)

  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Sums]:
    """(B, L, D) to (B, L, D), and this layer's losses: name -> (weighted sum over tokens, number of tokens).

    Args:
      x_BLD: normalized residual stream.
      context: tokens of its segment 0 are padding and count in no loss.
    """
    B, L, _ = x_BLD.shape
    logits_BLE = self.router(x_BLD)
    probs_BLE = jax.nn.softmax(logits_BLE, axis=-1)
    weights_BLk, chosen_BLk = jax.lax.top_k(probs_BLE, self.shape.experts_per_token)
    if self.shape.normalize:
      weights_BLk = weights_BLk / jnp.sum(weights_BLk, axis=-1, keepdims=True)
    kernels = self.experts.kernels()
    rows = ("batch", "length", None)
    tokens = [(x_BLD.astype(self.dtype), rows), (weights_BLk, rows), (chosen_BLk, rows)]
    weights = [(kernel.astype(self.dtype), _DOWN if name == "down" else _UP) for name, kernel in kernels.items()]

    run = run_experts
    if split_over("expert") > 1:  # Each device has some of the experts, and mostly its own rows, too.
      run = run_own_experts if B % split_over("batch") else run_shared_out

    def local(x: jax.Array, weights: jax.Array, chosen: jax.Array, *kernels_here: jax.Array) -> jax.Array:
      """Each device sorts its own tokens by expert."""
      own = dict(zip(kernels, kernels_here, strict=True))
      return run(self.function, _flat(x), _flat(weights), _flat(chosen), own).reshape(x.shape)

    y_BLD = on_each_device(local, [*tokens, *weights], rows, add=True)
    if self.shared is not None and self.shared_gate is not None:
      y_BLD = y_BLD + jax.nn.sigmoid(self.shared_gate(x_BLD)) * self.shared(x_BLD, context)[0]
    segments_BL = context.segment_ids
    real_BL = jnp.ones((B, L), bool) if segments_BL is None else segments_BL > 0
    return y_BLD, router_losses(logits_BLE, probs_BLE, chosen_BLk, real_BL, self.shape)


def _flat(x_BLX: jax.Array) -> jax.Array:
  return x_BLX.reshape(-1, x_BLX.shape[-1])


def router_losses(
  logits_BLE: jax.Array, probs_BLE: jax.Array, chosen_BLk: jax.Array, real_BL: jax.Array, shape: MixtureShape
) -> Sums:
  """The losses of a router, weighted and summed over real tokens, with their number; float32 scalars.

  load_balance: E * sum_e f_e P_e per row, times the row's tokens: f_e is the share of the row's choices that fell on
  expert e, P_e the mean probability it was given; 1 when even. The Switch Transformer's loss (equation 4), taken over
  rows as DeepSeek-V2 does (https://arxiv.org/abs/2405.04434, equation 23), so that it adds over rows and neither
  micro-batches nor devices change it. router_z: log(Z)^2 (https://arxiv.org/abs/2202.08906, equation 5).
  """
  real_BL1 = real_BL.astype(jnp.float32)[..., None]
  tokens_B = jnp.sum(real_BL1, axis=(1, 2))
  per_row = jnp.maximum(tokens_B, 1)[:, None]
  choices_BLE = jnp.sum(jax.nn.one_hot(chosen_BLk, shape.experts, dtype=jnp.float32), axis=2)
  share_BE = jnp.sum(choices_BLE * real_BL1, axis=1) / (per_row * shape.experts_per_token)
  mean_BE = jnp.sum(probs_BLE * real_BL1, axis=1) / per_row
  balance = shape.experts * jnp.sum(tokens_B * jnp.sum(share_BE * mean_BE, axis=-1))
  z = jnp.sum(jnp.square(jax.nn.logsumexp(logits_BLE, axis=-1)) * real_BL1[..., 0])
  tokens = jnp.sum(tokens_B)
  return {"load_balance": (shape.load_balance * balance, tokens), "router_z": (shape.router_z * z, tokens)}
