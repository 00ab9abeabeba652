# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A layer of long short-term memory: one product for the inputs of all tokens, and a loop for what only a loop can do.

c_t = f c_{t-1} + i g, h_t = o tanh(c_t), with gates i, f, o = sigmoid and candidate g = tanh of W x_t + R h_{t-1} + b.
Source: Hochreiter and Schmidhuber, 1997, with the forget gate of Gers et al., 2000; no peepholes, one bias. Gates are
in the order i, f, g, o.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.nn.layers.initializers import Fan, Initializer
from lmx.nn.layers.linear import Linear
from lmx.parallel.sharding import constrain

FORGET_BIAS = 1.0  # Remember at first. Source: Jozefowicz et al., 2015 (https://proceedings.mlr.press/v37).

State = tuple[jax.Array, jax.Array]  # h in the compute dtype and c in float32.


def _cell(gates_B4D: jax.Array, c_BD: jax.Array) -> tuple[jax.Array, State]:
  """Gates before their nonlinearity, float32, to the activated gates and the new h and c, all float32."""
  i, f, g, o = (gates_B4D[:, number] for number in range(4))
  i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
  c = f * c_BD + i * g
  return jnp.stack([i, f, g, o], axis=1), (o * jnp.tanh(c), c)


def _cell_backward(gates_B4D: jax.Array, c_before_BD: jax.Array, dh_BD: jax.Array, dc_BD: jax.Array) -> tuple[Any, Any]:
  """The gradients of `_cell`'s gates (before their nonlinearity) and of the c before it."""
  i, f, g, o = (gates_B4D[:, number] for number in range(4))
  t = jnp.tanh(f * c_before_BD + i * g)
  dc_BD = dc_BD + dh_BD * o * (1 - t * t)
  parts = (dc_BD * g * i * (1 - i), dc_BD * c_before_BD * f * (1 - f), dc_BD * i * (1 - g * g), dh_BD * t * o * (1 - o))
  return jnp.stack(parts, axis=1), dc_BD * f


@jax.custom_vjp
def recurrence(
  inputs_LB4D: jax.Array, kernel_D4D: jax.Array, state: State, starts_LB1: jax.Array, real_LB1: jax.Array
) -> tuple[jax.Array, State]:
  """Runs the cell over time.

  JAX's own gradient of the loop would add a (D, 4, D) array at each token; this one multiplies once, at the end.

  Args:
    inputs_LB4D: W x + b of every token, time first.
    kernel_D4D: R, in the compute dtype.
    state: h and c before the first token.
    starts_LB1: bool; the state is zero before these tokens.
    real_LB1: bool; the other tokens, padding, leave the state as it was.

  Returns:
    h after each token, (L, B, D), and the last state.
  """
  return _recurrence_forward(inputs_LB4D, kernel_D4D, state, starts_LB1, real_LB1)[0]


def _recurrence_forward(
  inputs_LB4D: jax.Array, kernel_D4D: jax.Array, state: Any, starts_LB1: jax.Array, real_LB1: jax.Array
) -> tuple[Any, Any]:
  dtype = kernel_D4D.dtype

  def step(state: Any, token: Any) -> tuple[Any, Any]:
    inputs_B4D, start_B1, real_B1 = token
    h, c = (jnp.where(start_B1, jnp.zeros((), x.dtype), x) for x in state)
    recurrent_B4D = jnp.tensordot(h, kernel_D4D, 1, preferred_element_type=jnp.float32)
    gates_B4D, (new_h, new_c) = _cell(inputs_B4D.astype(jnp.float32) + recurrent_B4D, c)
    new_h, new_c = jnp.where(real_B1, new_h.astype(dtype), h), jnp.where(real_B1, new_c, c)
    return (new_h, new_c), (new_h, (gates_B4D.astype(dtype), h, c))

  last, (h_LBD, saved) = jax.lax.scan(step, state, (inputs_LB4D, starts_LB1, real_LB1))
  return (h_LBD, last), (saved, kernel_D4D, starts_LB1, real_LB1)


def _recurrence_backward(residuals: Any, cotangents: Any) -> tuple[Any, Any, Any, Any, Any]:
  (gates_LB4D, h_LBD, c_LBD), kernel_D4D, starts_LB1, real_LB1 = residuals
  dout_LBD, (dh_BD, dc_BD) = cotangents
  f32 = jnp.float32

  def step(gradient: Any, token: Any) -> tuple[Any, Any]:
    dh, dc = gradient
    dout_BD, gates_B4D, c_BD, start_B1, real_B1 = token
    dh = dh + dout_BD.astype(f32)
    dgates_B4D, dc_before = _cell_backward(gates_B4D.astype(f32), c_BD, dh, dc)
    dgates_B4D = jnp.where(real_B1[..., None], dgates_B4D, 0).astype(kernel_D4D.dtype)
    dh_before = jnp.tensordot(dgates_B4D, kernel_D4D, axes=((1, 2), (1, 2)), preferred_element_type=f32)
    dh, dc = jnp.where(real_B1, dh_before, dh), jnp.where(real_B1, dc_before, dc)
    return (jnp.where(start_B1, 0.0, dh), jnp.where(start_B1, 0.0, dc)), dgates_B4D

  start = (dh_BD.astype(f32), dc_BD.astype(f32))
  tokens = (dout_LBD, gates_LB4D, c_LBD, starts_LB1, real_LB1)
  (dh_BD, dc_BD), dgates_LB4D = jax.lax.scan(step, start, tokens, reverse=True)
  dkernel_D4D = jnp.einsum("lbd,lbge->dge", h_LBD, dgates_LB4D, preferred_element_type=f32)
  return dgates_LB4D, dkernel_D4D.astype(kernel_D4D.dtype), (dh_BD.astype(h_LBD.dtype), dc_BD), None, None


recurrence.defvjp(_recurrence_forward, _recurrence_backward)


class RecurrentKernel(nnx.Module):
  """R, (D, 4, D) float32."""

  def __init__(self, width: int, *, scheme: Initializer, rngs: nnx.Rngs):
    kernel = scheme.matrix(rngs.params(), (width, 4, width), Fan(width, width, residual=False))
    self.kernel = nnx.Param(kernel, axes=("embed", "gates", "mlp"))


class LSTMLayer(nnx.Module):
  """One layer, as wide as its input. Products are in `dtype`; gates, their sums and c are float32."""

  def __init__(self, width: int, *, scheme: Initializer, dtype: Any, rngs: nnx.Rngs):
    """Makes the weights; biases start at zero, the forget gate's at `FORGET_BIAS`."""
    self.dtype = jnp.dtype(dtype)
    gates = (("gates", 4), ("mlp", width))
    self.input = Linear((("embed", width),), gates, bias=True, scheme=scheme, dtype=dtype, rngs=rngs)
    bias_4D = jnp.zeros((4, width), jnp.float32).at[1].set(FORGET_BIAS)
    self.input.bias = nnx.Param(bias_4D, axes=("gates", "mlp"))
    self.recurrent = RecurrentKernel(width, scheme=scheme, rngs=rngs)

  def __call__(
    self, x_BLD: jax.Array, state: State, starts_BL: jax.Array, real_BL: jax.Array
  ) -> tuple[jax.Array, State]:
    """(B, L, D) to h after each token, (B, L, D), and the state after the last.

    Args:
      x_BLD: input.
      state: h and c (B, D) before the first token.
      starts_BL: bool; the state is zero before these tokens.
      real_BL: bool; the others leave the state as it was.
    """
    inputs_LB4D = constrain(self.input(x_BLD), "batch", None, "gates", "mlp").swapaxes(0, 1)
    kernel = constrain(self.recurrent.kernel[...], "embed", "gates", "mlp")  # Gathered once, before the loop.
    starts_LB1, real_LB1 = starts_BL.T[..., None], real_BL.T[..., None]
    h_LBD, last = recurrence(inputs_LB4D, kernel.astype(self.dtype), state, starts_LB1, real_LB1)
    return h_LBD.swapaxes(0, 1), last
