# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A mixture of experts in the place of the MLP: each token goes through a few of E gated MLPs, and none is dropped.

Sources: https://arxiv.org/abs/1701.06538 (the idea), https://arxiv.org/abs/2401.04088 (Mixtral: softmax over all
experts, the weights of the chosen ones add up to 1), https://arxiv.org/abs/2211.15841 (no token is dropped: tokens are
sorted by expert, and each expert multiplies as many as it was given).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.nn.activations import Activation, Elementwise
from lmx.nn.context import Context, Sums
from lmx.nn.initializers import Fan, Scheme
from lmx.nn.linear import Linear
from lmx.nn.mlp import MLP
from lmx.sharding import on_each_device, platform

_UP, _DOWN = ("expert", "embed", "mlp"), ("expert", "mlp", "embed")
BLOCK = 64  # Rows that a CPU multiplies with one expert's weights at once, at most.


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


@dataclasses.dataclass(frozen=True)
class Dispatch:
  """Where tokens go: rows in the order of their experts.

  Attributes:
    source: (R,) int32, the token in each row; past the last token in a row of padding.
    row: (T, k) int32, the row of each token's choice.
    multiply: (rows (R, I), kernels (E, I, O)) -> (R, O): each row by its own expert's kernel.
  """

  source: jax.Array
  row: jax.Array
  multiply: Callable[[jax.Array, jax.Array], jax.Array]


def ragged_dispatch(chosen_Tk: jax.Array, experts: int) -> Dispatch:
  """Rows without padding, for `jax.lax.ragged_dot`: TPUs and GPUs have kernels for it."""
  order = jnp.argsort(chosen_Tk.reshape(-1), stable=True).astype(jnp.int32)
  row = jnp.zeros_like(order).at[order].set(jnp.arange(order.size, dtype=jnp.int32))
  sizes = jnp.zeros((experts,), jnp.int32).at[chosen_Tk.reshape(-1)].add(1)
  multiply = lambda rows, kernels: jax.lax.ragged_dot(rows, kernels, sizes)  # noqa: E731
  return Dispatch(order // chosen_Tk.shape[1], row.reshape(chosen_Tk.shape), multiply)


def blocked_dispatch(chosen_Tk: jax.Array, experts: int) -> Dispatch:
  """Each expert's rows filled up to whole blocks, and one product per block.

  `jax.lax.ragged_dot` multiplies every row by every expert on a CPU; this multiplies T * k rows, and at most one block
  of padding per expert.
  """
  tokens, k = chosen_Tk.shape
  block = min(BLOCK, max(1, tokens * k // experts))
  chosen = chosen_Tk.reshape(-1)
  order = jnp.argsort(chosen, stable=True).astype(jnp.int32)
  sizes = jnp.zeros((experts,), jnp.int32).at[chosen].add(1)
  padded = -(-sizes // block) * block
  ends, first = jnp.cumsum(padded), jnp.cumsum(sizes) - sizes
  ordered = chosen[order]
  place = (ends - padded)[ordered] + jnp.arange(order.size, dtype=jnp.int32) - first[ordered]
  blocks = -(-order.size // block) + min(experts, order.size)  # Enough, however tokens fall.
  source = jnp.full((blocks * block,), tokens, jnp.int32).at[place].set(order // k)
  starts = jnp.arange(blocks, dtype=jnp.int32) * block
  expert = jnp.minimum(jnp.searchsorted(ends, starts, side="right"), experts - 1)

  def multiply(rows, kernels):
    out = jnp.einsum("nbi,nio->nbo", rows.reshape(blocks, block, -1), kernels[expert])
    return out.reshape(blocks * block, -1)

  row = jnp.zeros_like(order).at[order].set(place)
  return Dispatch(source, row.reshape(tokens, k), multiply)


def run_experts(function: Elementwise, x_TD, weights_Tk, chosen_Tk, kernels: dict[str, jax.Array]) -> jax.Array:
  """Each token through its experts: the weighted sum, (T, D) in x's dtype.

  Args:
    function: the nonlinearity.
    x_TD: tokens.
    weights_Tk: float32 weight of each choice.
    chosen_Tk: int32 number of each chosen expert.
    kernels: up and down, and gate where the MLP is gated: (E, D, F), (E, F, D) and (E, D, F).
  """
  dispatch = blocked_dispatch if platform() == "cpu" else ragged_dispatch
  plan = dispatch(chosen_Tk, kernels["up"].shape[0])
  kernels = {name: kernel.astype(x_TD.dtype) for name, kernel in kernels.items()}
  rows = jnp.take(x_TD, plan.source, axis=0, mode="fill", fill_value=0)
  inner = plan.multiply(rows, kernels["up"])
  inner = function(plan.multiply(rows, kernels["gate"])) * inner if "gate" in kernels else function(inner)
  outer_TkD = plan.multiply(inner, kernels["down"])[plan.row]
  return jnp.einsum("tkd,tk->td", outer_TkD, weights_Tk.astype(x_TD.dtype), preferred_element_type=x_TD.dtype)


class ExpertLinear(nnx.Module):
  """E linear maps without biases; the kernel is (E, in, out) float32."""

  def __init__(self, experts: int, inputs: tuple[str, int], outputs: tuple[str, int], key, scheme: Scheme, residual):
    fan = Fan(inputs[1], outputs[1], residual)
    kernel = scheme.matrix(key, (experts, inputs[1], outputs[1]), fan)
    self.kernel = nnx.Param(kernel, axes=("expert", inputs[0], outputs[0]))


class Experts(nnx.Module):
  """The kernels of E MLPs, up, gate (where gated) and down."""

  def __init__(self, shape: MixtureShape, activation: Activation, *, scheme: Scheme, rngs: nnx.Rngs):
    embed, mlp = ("embed", shape.width), ("mlp", shape.expert_width)
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

  def __init__(self, shape: MixtureShape, activation: Activation, *, scheme: Scheme, dtype: Any, rngs: nnx.Rngs):
    """Makes the weights."""
    self.shape = shape
    self.function = activation.function
    self.dtype = jnp.dtype(dtype)
    linear = functools.partial(Linear, (("embed", shape.width),), bias=False, scheme=scheme, rngs=rngs)
    self.router = linear((("expert", shape.experts),), dtype=jnp.float32)
    self.experts = Experts(shape, activation, scheme=scheme, rngs=rngs)
    shared, width = shape.shared_width, shape.width
    mlp = functools.partial(MLP, activation=activation, bias=False, scheme=scheme, dtype=dtype, rngs=rngs)
    self.shared = None if shared is None else mlp(width, shared)
    self.shared_gate = None if shared is None else linear((("gates", 1),), dtype=dtype)

  def __call__(self, x_BLD: jax.Array, context: Context) -> tuple[jax.Array, Sums]:
    """(B, L, D) to (B, L, D), and this layer's losses: name -> (weighted sum over tokens, number of tokens).

    Args:
      x_BLD: normalised residual stream.
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
    weights = [(kernel, _DOWN if name == "down" else _UP) for name, kernel in kernels.items()]

    def local(x, weights, chosen, *kernels_here):
      """Each device sorts its own tokens by expert, so that none travels."""
      own = dict(zip(kernels, kernels_here, strict=True))
      return run_experts(self.function, _flat(x), _flat(weights), _flat(chosen), own).reshape(x.shape)

    y_BLD = on_each_device(local, [*tokens, *weights], rows, add=True)
    if self.shared is not None and self.shared_gate is not None:
      y_BLD = y_BLD + jax.nn.sigmoid(self.shared_gate(x_BLD)) * self.shared(x_BLD, context)[0]
    segments_BL = context.segment_ids
    real_BL = jnp.ones((B, L), bool) if segments_BL is None else segments_BL > 0
    return y_BLD, router_losses(logits_BLE, probs_BLE, chosen_BLk, real_BL, self.shape)


def _flat(x_BLX: jax.Array) -> jax.Array:
  return x_BLX.reshape(-1, x_BLX.shape[-1])


def router_losses(logits_BLE, probs_BLE, chosen_BLk, real_BL, shape: MixtureShape) -> Sums:
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
