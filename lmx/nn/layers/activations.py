# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Activation functions, chosen by name. Each saves only its input for the backward pass.

JAX's own GELU keeps several arrays as large as its input between the passes; computing the derivative from the input
again is cheaper on a CPU (memory traffic) and on an accelerator (memory). They compute in the dtype they are given.
A derivative is written with another transcendental function than its activation where it can be: the compiler would
find the common one, and keep that array, as large as the input, from one pass to the other.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

Elementwise = Callable[[jax.Array], jax.Array]
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
_CUBIC = 0.044715  # https://arxiv.org/abs/1606.08415, section 2.


def _saves_input(function: Elementwise, derivative: Elementwise) -> Elementwise:
  """`function` with a backward pass that needs only the input."""
  activation = jax.custom_vjp(function)
  activation.defvjp(lambda x: (function(x), x), lambda x, dy: (dy * derivative(x),))
  return activation


def _gelu_tanh(x: jax.Array) -> jax.Array:
  return 0.5 * x * (1 + jnp.tanh(_SQRT_2_OVER_PI * (x + _CUBIC * x * x * x)))


def _gelu_tanh_derivative(x: jax.Array) -> jax.Array:
  s = jax.nn.sigmoid(2 * _SQRT_2_OVER_PI * (x + _CUBIC * x * x * x))  # (1 + tanh) / 2
  return s + x * s * (1 - s) * (2 * _SQRT_2_OVER_PI) * (1 + 3 * _CUBIC * x * x)


def _gelu(x: jax.Array) -> jax.Array:
  return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def _gelu_derivative(x: jax.Array) -> jax.Array:
  density = jnp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
  return 0.5 * jax.lax.erfc(-x * math.sqrt(0.5)) + x * density


def _silu(x: jax.Array) -> jax.Array:
  return x * jax.nn.sigmoid(x)


def _silu_derivative(x: jax.Array) -> jax.Array:
  s = 0.5 * (1 + jnp.tanh(0.5 * x))
  return s * (1 + x * (1 - s))


gelu = _saves_input(_gelu, _gelu_derivative)
gelu_tanh = _saves_input(_gelu_tanh, _gelu_tanh_derivative)
silu = _saves_input(_silu, _silu_derivative)


@dataclasses.dataclass(frozen=True)
class Activation:
  """An elementwise function; a gated MLP multiplies its output with a second projection of the input."""

  function: Elementwise
  gated: bool


ACTIVATIONS: dict[str, Activation] = {
  "gelu": Activation(gelu, gated=False),  # Exact, with the error function. https://arxiv.org/abs/1606.08415
  "gelu_tanh": Activation(gelu_tanh, gated=False),  # The tanh approximation, as GPT-2 has it.
  "relu": Activation(jax.nn.relu, gated=False),
  "silu": Activation(silu, gated=False),
  "swiglu": Activation(silu, gated=True),  # https://arxiv.org/abs/2002.05202
  "geglu": Activation(gelu_tanh, gated=True),  # The same; with the tanh approximation, as Gemma and T5 v1.1 have it.
  "geglu_exact": Activation(gelu, gated=True),  # With the error function, as ModernBERT has it.
}
