# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A stack of blocks with what stands around it: positions before the first block, a norm after the last."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.models.parts import make_block, make_table, norm_of, scheme_of
from lmx.models.spec import StackSpec
from lmx.nn.block import PLACEMENTS, residual_stream
from lmx.nn.context import Context, EncoderMemory, Rotary, Sums
from lmx.nn.layers.dropout import dropout, fold
from lmx.nn.layers.embedding import RelativeEmbedding
from lmx.nn.layers.initializers import Initializer
from lmx.nn.layers.positions import rope_frequencies, rotary_tables, segment_positions, sinusoids
from lmx.nn.pipeline import run_stages, schedule_of
from lmx.nn.stack import Remat, run_layers, stacked


@dataclasses.dataclass(frozen=True)
class Positions:
  """Where the tokens of one forward pass stand.

  Attributes:
    segment_ids: (B, L) int32, or None.
    positions: (B, L) int32, offsets within the segments.
    slots: (B, L) int32, cache slots, or None without a cache.
    capacity: slots that the cache has; 0 without one.
    prefix: (B, L) int32, or None: see `Context`.
    memory: an encoder's, or None.
  """

  segment_ids: jax.Array | None
  positions: jax.Array
  slots: jax.Array | None = None
  capacity: int = 0
  prefix: jax.Array | None = None
  memory: EncoderMemory | None = None


def place_tokens(tokens, segment_ids, positions, seen: jax.Array | None = None, capacity: int = 0) -> Positions:
  """The tokens' places: positions that weren't given are counted from segments, or from the tokens `seen` (B,)."""
  columns = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
  slots = None if seen is None else seen[:, None] + columns
  if positions is None and slots is not None:
    positions = slots
  elif positions is None:
    positions = jnp.broadcast_to(columns, tokens.shape) if segment_ids is None else segment_positions(segment_ids)
  return Positions(segment_ids, positions, slots, capacity)


@dataclasses.dataclass(frozen=True)
class StackOutput:
  """What a stack gives.

  Attributes:
    hidden: (B, L, D), the final norm applied where there is one.
    cache: what the layers remember, or None.
    auxiliary: losses of the layers' parts, added up over layers.
    layers: (N + 1, B, L, D), what entered the first block, then what each gave; None unless it was asked for.
  """

  hidden: jax.Array
  cache: Any
  auxiliary: Sums
  layers: jax.Array | None


class Backbone(nnx.Module):
  """N blocks, with positions, embedding norm and final norm."""

  def __init__(
    self,
    spec: StackSpec,
    *,
    layers: int,
    causal: bool,
    rngs: nnx.Rngs,
    mixer: str = "attention",
    reads_memory: bool = False,
  ):
    """Makes the weights.

    Args:
      spec: sizes and choices.
      layers: N of this stack.
      causal: whether tokens see only what is before them.
      rngs: the `params` stream is drawn from.
      mixer: a row of `MIXERS`.
      reads_memory: whether blocks have cross-attention.
    """
    scheme = scheme_of(spec, layers)
    self.spec = spec
    self.depth = layers
    self.causal = causal
    learned = spec.position == "learned"
    self.position_embedding = make_table(spec, "position", spec.context, scheme, rngs) if learned else None
    self.relative_embedding = _make_relative(spec, scheme, causal, rngs) if spec.position == "relative" else None
    self.embedding_norm = norm_of(spec)() if spec.embedding_norm else None
    self.layers = stacked(functools.partial(make_block, spec, scheme, mixer, reads_memory), layers, rngs)
    self.final_norm = norm_of(spec)() if PLACEMENTS[spec.norm_position].final else None

  def run(
    self, x_BLD: jax.Array, place: Positions, cache: Any, key: jax.Array | None, keep_layers: bool
  ) -> StackOutput:
    """Token embeddings through the stack.

    Args:
      x_BLD: embeddings of the tokens (and of their types), without positions.
      place: where the tokens stand.
      cache: what the layers remember, or None.
      key: turns dropout on.
      keep_layers: whether to return what each block gave.
    """
    spec, layers = self.spec, None
    x_BLD = self._positioned(x_BLD, place, fold(key, 0))
    contexts = self._contexts(place)
    schedule = schedule_of(x_BLD.shape[0], spec.stage_rounds, spec.stage_micro_batches)
    if schedule is not None and cache is None and not keep_layers:
      run = functools.partial(_run_some, spec, self.depth // (schedule.stages * schedule.rounds))
      hidden_BLD, sums = run_stages(
        run, self.layers, x_BLD, contexts, key, layers=self.depth, schedule=schedule, remat=spec.rematerialization
      )
    else:
      (hidden_BLD, cache, sums), kept = _run(
        spec,
        self.layers,
        self.depth,
        x_BLD,
        contexts,
        cache,
        key,
        remat=spec.rematerialization,
        keep_layers=keep_layers,
      )
      layers = None if kept is None else jnp.concatenate([x_BLD[None], kept])
    hidden_BLD = hidden_BLD if self.final_norm is None else self.final_norm(hidden_BLD)
    return StackOutput(hidden_BLD, cache, sums, layers)

  def _positioned(self, x_BLD: jax.Array, place: Positions, key: jax.Array | None) -> jax.Array:
    """What enters the first block."""
    if self.position_embedding is not None:
      x_BLD = x_BLD + self.position_embedding(place.positions)
    if self.spec.position == "sinusoidal":
      x_BLD = x_BLD + sinusoids(place.positions, self.spec.width).astype(x_BLD.dtype)
    if self.embedding_norm is not None:
      x_BLD = self.embedding_norm(x_BLD)
    return residual_stream(dropout(x_BLD, self.spec.dropout, key))

  def _contexts(self, place: Positions) -> list[Context]:
    """What layers are told, for each place of the period in which layers with and without a window alternate."""
    spec = self.spec
    everywhere = Context(
      segment_ids=place.segment_ids,
      rotary=self._rotary(place.positions, spec.rope_theta, spec.rope_scaling),
      slots=place.slots,
      prefix=place.prefix,
      bias=self._bias(place),
      memory=place.memory,
      causal=self.causal,
    )
    if spec.window is None:
      return [everywhere]
    local = dataclasses.replace(everywhere, window=spec.window)
    if spec.rope_local_theta is not None:
      local = dataclasses.replace(local, rotary=self._rotary(place.positions, spec.rope_local_theta, "none"))
    if spec.global_every is None:
      return [local]
    locals_ = [local] * (spec.layer_period - 1)
    return [everywhere, *locals_] if spec.global_first else [*locals_, everywhere]

  def _rotary(self, positions: jax.Array, theta: float, scaling: str) -> Rotary | None:
    spec = self.spec
    if spec.position != "rotary":
      return None
    frequencies = rope_frequencies(spec.head_width, theta, scaling, spec.rope_factor, spec.rope_original_context)
    return rotary_tables(positions, frequencies)

  def _bias(self, place: Positions) -> jax.Array | None:
    """(B or 1, H, L, S): within a segment, columns are as far apart as positions are."""
    if self.relative_embedding is None:
      return None
    columns = jnp.arange(place.positions.shape[1], dtype=jnp.int32)[None]
    if place.slots is None:
      return self.relative_embedding(columns, columns)
    return self.relative_embedding(place.slots, jnp.arange(place.capacity, dtype=jnp.int32)[None])


def _run(spec: StackSpec, layers: Any, count: int, x_BLD, contexts, cache, key, *, remat, keep_layers=False, first=0):
  """(x, cache, sums) after `count` stacked layers, of which the first has the number `first`, and x after each."""
  names = () if layers.mlp is None else layers.mlp.auxiliary
  zero = jnp.zeros((), jnp.float32)

  def layer_step(carry, block, number, place):
    x_BLD, cache, sums = carry
    number = number + first
    x_BLD, cache, more = block(x_BLD, contexts[place], cache, number, fold(key, number + 1))
    return x_BLD, cache, {name: (sums[name][0] + more[name][0], sums[name][1] + more[name][1]) for name in names}

  return run_layers(
    layer_step,
    layers,
    (x_BLD, cache, dict.fromkeys(names, (zero, zero))),
    layers=count,
    loop=spec.layer_loop,
    remat=remat,
    period=len(contexts),
    keep=(lambda carry: carry[0]) if keep_layers else None,
  )


def _run_some(spec: StackSpec, count: int, layers: Any, x_BLD, contexts, first, key) -> tuple[jax.Array, Sums]:
  """What a stage of a pipeline runs at a turn, which `run_stages` computes again as the spec says."""
  (x_BLD, _, sums), _ = _run(spec, layers, count, x_BLD, contexts, None, key, remat=Remat(), first=first)
  return x_BLD, sums


def _make_relative(spec: StackSpec, scheme: Initializer, causal: bool, rngs: nnx.Rngs) -> RelativeEmbedding:
  return RelativeEmbedding(
    spec.heads,
    buckets=spec.relative_buckets,
    limit=spec.relative_distance,
    both_ways=not causal,
    scheme=scheme,
    rngs=rngs,
  )
