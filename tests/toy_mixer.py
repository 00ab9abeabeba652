# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A sequence mixer as a contributor would add it: a class and a row of `MIXERS`."""

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.nn.layers.linear import Linear
from lmx.nn.layers.positions import segment_positions
from lmx.nn.mixer import MixerSpec


class Decaying(nnx.Module):
  """y_t = W (x_t + (1 - 1 / horizon) (x_{t-1} + ...)): a sum that forgets, within a segment."""

  def __init__(self, spec, scheme, rngs, horizon):
    width = spec.width
    self.decay = 1 - 1 / horizon
    self.out = Linear(
      (("embed", width),), (("embed_out", width),), bias=False, scheme=scheme, dtype=spec.dtype, rngs=rngs
    )

  def __call__(self, x_BLD, context, cache, layer, key):
    segments = jnp.ones(x_BLD.shape[:2], jnp.int32) if context.segment_ids is None else context.segment_ids
    real = segments > 0
    starts = (segment_positions(segments) == 0) & (cache is None)
    before = jnp.zeros_like(x_BLD[:, 0]) if cache is None else cache[layer]

    def step(state, token):
      x, starts, real = token
      new = jnp.where(starts[:, None], 0, self.decay * state) + x
      new = jnp.where(real[:, None], new, state)
      return new.astype(state.dtype), new

    after, sums = jax.lax.scan(step, before, (x_BLD.swapaxes(0, 1), starts.T, real.T))
    return self.out(sums.swapaxes(0, 1)), self.remember(cache, layer, after)

  def remember(self, cache, layer, state):
    return None if cache is None else cache.at[layer].set(state)


class Forgetful(Decaying):
  """The broken twin: its state never changes."""

  def remember(self, cache, layer, state):
    return cache


def row_of(key="mamba_conv", *, horizon=lambda spec: spec.mamba_conv, kind=Decaying) -> MixerSpec:
  """A row whose mixers read one key."""
  return MixerSpec(
    make=lambda spec, scheme, rngs: kind(spec, scheme, rngs, horizon(spec)),
    empty=lambda spec, layers, batch, slots: jnp.zeros((layers, batch, spec.width), spec.dtype),
    matmul_parameters=lambda spec: spec.width**2,
    keys=(key,),
  )
