# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The scan of Mamba-2 in chunks: quadratic inside a chunk, recurrent between chunks.

state_t = exp(-rate step_t) state_{t-1} + step_t value_t write_t; y_t = state_t read_t.
Source: https://arxiv.org/abs/2405.21060, section 6.
"""

from typing import Any

import jax
import jax.numpy as jnp


def chunked_scan(
  value_BLHP: jax.Array,
  step_BLH: jax.Array,
  rate_H: jax.Array,
  write_BLGS: jax.Array,
  read_BLGS: jax.Array,
  *,
  runs_BL: jax.Array | None,
  state_BHPS: jax.Array | None,
  chunk: int,
) -> tuple[jax.Array, jax.Array]:
  """The recurrence of Mamba-2, without the skip: y (B, L, H, P) and the last state, float32.

  Args:
    value_BLHP: what is written.
    step_BLH: float32, at least 0; a step of 0 leaves the state as it was.
    rate_H: positive decay per unit of step.
    write_BLGS, read_BLGS: heads share them in G groups.
    runs_BL: int32, non-decreasing along L: where it grows, the state is reset to zero. None: nowhere.
    state_BHPS: the state before the first token; None: zeros.
    chunk: tokens computed in parallel.
  """
  B, L, H, P = value_BLHP.shape
  G, S = write_BLGS.shape[2:]
  Q = min(chunk, L)
  chunks = -(-L // Q)
  runs_BL = jnp.zeros((B, L), jnp.int32) if runs_BL is None else runs_BL
  state = jnp.zeros((B, H, P, S), jnp.float32) if state_BHPS is None else state_BHPS

  # Dimensions: C chunks of Q tokens (q: the token that reads, k: the token that writes), G groups of R = H / G heads.
  def cut(x: jax.Array, *shape: int, mode: str = "constant") -> jax.Array:  # (B, L, ...) to (B, C, Q, ...)
    x = jnp.pad(x, ((0, 0), (0, chunks * Q - L), *[(0, 0)] * (x.ndim - 2)), mode=mode)
    return x.reshape(B, chunks, Q, *shape)

  step = cut(step_BLH, G, H // G)
  value = cut(value_BLHP.astype(jnp.float32), G, H // G, P) * step[..., None]
  write, read = cut(write_BLGS.astype(jnp.float32), G, S), cut(read_BLGS.astype(jnp.float32), G, S)
  runs = cut(runs_BL, mode="edge")

  index = jnp.arange(Q)
  seen = (runs[:, :, :, None] == runs[:, :, None]) & (index[:, None] >= index[None])[None, None]
  # The logarithm of the decay since the chunk or the run began, summed over the tokens of the same run only: with
  # differences of one cumulative sum over all tokens, rounding errors (and gradients of that size) would leak between
  # runs.
  rates = -step * rate_H.reshape(1, 1, 1, G, H // G)
  fallen = jnp.einsum("bcqk,bckgr->bcqgr", seen.astype(jnp.float32), rates, precision=jax.lax.Precision.HIGHEST)
  between = fallen[:, :, :, None] - fallen[:, :, None]
  decay = jnp.exp(jnp.where(seen[..., None, None], between, -jnp.inf))
  # Inside a chunk this is attention without a softmax: reads are queries, writes are keys, decay weighs their scores.
  weights = jnp.einsum("bcqgs,bckgs->bcqkg", read, write)[..., None] * decay
  y = jnp.einsum("bcqkgr,bckgrp->bcqgrp", weights, value)

  carried, state = _carry_between(write, read, value, fallen, runs, state.reshape(B, G, H // G, P, S))
  y = (y + carried).reshape(B, chunks * Q, H, P)
  return y[:, :L], state.reshape(B, H, P, S)


def _carry_between(
  write: jax.Array, read: jax.Array, value: jax.Array, fallen: jax.Array, runs: jax.Array, state: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The part of y that comes from the state before each chunk, (B, C, Q, G, R, P), and the state after the last chunk.

  Args:
    write, read: (B, C, Q, G, S).
    value: (B, C, Q, G, R, P), times the steps; R heads in each of G groups.
    fallen: (B, C, Q, G, R), the logarithm of the decay since the chunk or the run began.
    runs: (B, C, Q).
    state: (B, G, R, P, S) before the first chunk.
  """
  last, ended = runs[:, :, -1], fallen[:, :, -1]
  to_end = jnp.where((runs == last[..., None])[..., None, None], ended[:, :, None] - fallen, -jnp.inf)
  # What a chunk's tokens add to the state at its end: only those of the run that is current there.
  added = jnp.einsum("bckgs,bckgr,bckgrp->cbgrps", write, jnp.exp(to_end), value)
  first = jnp.pad(last[:, :-1], ((0, 0), (1, 0)))  # The run that continues from the chunk before.
  kept = jnp.where((last == first)[..., None, None], jnp.exp(ended), 0)

  def over_chunk(state: jax.Array, chunk: Any) -> tuple[Any, Any]:
    kept, added = chunk
    return kept[..., None, None] * state + added, state

  state, before = jax.lax.scan(over_chunk, state, (kept.swapaxes(0, 1), added))
  from_start = jnp.where((runs == first[..., None])[..., None, None], jnp.exp(fallen), 0)
  return jnp.einsum("bcqgs,cbgrps,bcqgr->bcqgrp", read, before, from_start), state
