# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The Transformer: a stack of blocks with positions before it and a norm after it, and the decoder-only model.

The other families are in encoder.py and encoder_decoder.py; parts come from lmx/nn.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.models.parts import (
  added_to,
  check_length,
  embed_tokens,
  make_block,
  make_head,
  make_table,
  make_unembedding,
  norm_of,
  outputs_of,
  scheme_of,
)
from lmx.models.spec import StackSpec, TransformerSpec
from lmx.nn.attention.cache import Cache, KeyValues
from lmx.nn.block import PLACEMENTS, Block, residual_stream
from lmx.nn.context import Context, EncoderMemory, Rotary, Sums
from lmx.nn.layers.dropout import dropout, fold
from lmx.nn.layers.embedding import RelativeEmbedding
from lmx.nn.layers.initializers import Initializer
from lmx.nn.layers.positions import rope_frequencies, rotary_tables, segment_positions, sinusoids
from lmx.nn.outputs import Outputs
from lmx.nn.pipeline import run_stages, schedule_of
from lmx.nn.stack import Remat, is_unrolled, layers_of, split_layers, stacked
from lmx.shapes import check


@dataclasses.dataclass(frozen=True)
class TokenPositions:
  """TokenPositions, segments and cache slots of the tokens of one forward pass.

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


def token_positions(
  tokens: jax.Array,
  segment_ids: jax.Array | None,
  positions: jax.Array | None,
  seen: jax.Array | None = None,
  capacity: int = 0,
) -> TokenPositions:
  """The tokens' positions: where not given, counted from the segments, or from the tokens `seen` (B,) in a cache."""
  columns = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
  slots = None if seen is None else seen[:, None] + columns
  if positions is None and slots is not None:
    positions = slots
  elif positions is None:
    positions = jnp.broadcast_to(columns, tokens.shape) if segment_ids is None else segment_positions(segment_ids)
  return TokenPositions(segment_ids, positions, slots, capacity)


@dataclasses.dataclass(frozen=True)
class StackOutput:
  """The output of a stack.

  Attributes:
    hidden: (B, L, D), the final norm applied where there is one.
    cache: the layers' state, or None.
    auxiliary: losses of the layers' parts, added up over layers.
    layers: (N + 1, B, L, D), the input of the first block, then each block's output; None unless requested.
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
    reads_memory: bool = False,
  ):
    """Makes the weights.

    Args:
      spec: sizes and choices.
      layers: N of this stack.
      causal: whether tokens see only themselves and the tokens before them.
      rngs: the `params` stream is drawn from.
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
    self.layers = stacked(functools.partial(make_block, spec, scheme, reads_memory), layers, rngs)
    self.final_norm = norm_of(spec)() if PLACEMENTS[spec.norm_position].final else None

  def run(
    self, x_BLD: jax.Array, where: TokenPositions, cache: Any, key: jax.Array | None, keep_layers: bool
  ) -> StackOutput:
    """Token embeddings through the stack.

    Args:
      x_BLD: embeddings of the tokens (and of their types), without positions.
      where: the tokens' positions.
      cache: the layers' state, or None.
      key: turns dropout on.
      keep_layers: whether to return the output of each block.
    """
    spec, layers = self.spec, None
    x_BLD = self._positioned(x_BLD, where, fold(key, 0))
    contexts = self._contexts(where)
    schedule = schedule_of(x_BLD.shape[0], spec.stage_rounds, spec.stage_micro_batches)
    if schedule is not None and cache is None and not keep_layers:
      run_stage = functools.partial(_run_stage, spec, self.depth // (schedule.stages * schedule.rounds))
      hidden_BLD, sums = run_stages(
        run_stage, self.layers, x_BLD, contexts, key, layers=self.depth, schedule=schedule, remat=spec.rematerialization
      )
    else:
      (hidden_BLD, cache, sums), kept = run_blocks(
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

  def _positioned(self, x_BLD: jax.Array, where: TokenPositions, key: jax.Array | None) -> jax.Array:
    """The input of the first block."""
    if self.position_embedding is not None:
      x_BLD = x_BLD + self.position_embedding(where.positions)
    if self.spec.position == "sinusoidal":
      x_BLD = x_BLD + sinusoids(where.positions, self.spec.width).astype(x_BLD.dtype)
    if self.embedding_norm is not None:
      x_BLD = self.embedding_norm(x_BLD)
    return residual_stream(dropout(x_BLD, self.spec.dropout, key))

  def _contexts(self, where: TokenPositions) -> list[Context]:
    """The context of each layer of a period, in which layers with and without a window alternate."""
    spec = self.spec
    everywhere = Context(
      segment_ids=where.segment_ids,
      rotary=self._rotary(where.positions, spec.rope_theta, spec.rope_scaling),
      slots=where.slots,
      prefix=where.prefix,
      bias=self._bias(where),
      memory=where.memory,
      causal=self.causal,
    )
    if spec.window is None:
      return [everywhere]
    local = dataclasses.replace(everywhere, window=spec.window)
    if spec.rope_local_theta is not None:
      local = dataclasses.replace(local, rotary=self._rotary(where.positions, spec.rope_local_theta, "none"))
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

  def _bias(self, where: TokenPositions) -> jax.Array | None:
    """(B or 1, H, L, S): within a segment, columns are as far apart as positions are."""
    if self.relative_embedding is None:
      return None
    columns = jnp.arange(where.positions.shape[1], dtype=jnp.int32)[None]
    if where.slots is None:
      return self.relative_embedding(columns, columns)
    return self.relative_embedding(where.slots, jnp.arange(where.capacity, dtype=jnp.int32)[None])


def run_blocks(
  spec: StackSpec,
  blocks: Any,
  count: int,
  x_BLD: jax.Array,
  contexts: list[Context],
  cache: Any,
  key: jax.Array | None,
  *,
  remat: Remat,
  keep_layers: bool = False,
  first: int | jax.Array = 0,
) -> tuple[tuple[jax.Array, Any, Sums], jax.Array | None]:
  """Runs stacked blocks in order.

  Args:
    spec: the model's.
    blocks: `count` blocks as one stacked module.
    count: N.
    x_BLD: the residual stream before them.
    contexts: for each layer of a period; layer n reads contexts[n % P].
    cache: of all layers, or None.
    key: turns dropout on.
    remat: what the backward pass recomputes of each block.
    keep_layers: whether to return x after each block.
    first: number of the first block in the model.

  Returns:
    ((x, cache, sums of the auxiliary losses) after the last block, x after each block (N, B, L, D) or None).
  """
  period = len(contexts)
  rounds, rest = split_layers(blocks, count, loop=spec.layer_loop, period=period)
  run_block = remat.checkpointed(Block.__call__, prevent_cse=is_unrolled(spec.layer_loop, count))

  def run_round(carry: Any, part: tuple[Any, int | jax.Array]) -> tuple[Any, jax.Array | None]:
    blocks, number = part
    kept = []
    for offset, block in enumerate(layers_of(blocks, period)):
      x_BLD, cache, sums = carry
      x_BLD, cache, more = run_block(block, x_BLD, contexts[offset % period], cache, first + number + offset, key)
      carry = x_BLD, cache, {name: (sums[name][0] + more[name][0], sums[name][1] + more[name][1]) for name in sums}
      kept.append(x_BLD)
    return carry, jnp.stack(kept) if keep_layers else None

  zero = jnp.zeros((), jnp.float32)
  names = () if blocks.mlp is None else blocks.mlp.auxiliary
  carry: Any = (x_BLD, cache, dict.fromkeys(names, (zero, zero)))
  after: list[Any] = []
  scanned = count - len(rest)
  if rounds is not None:
    numbers = jnp.arange(0, scanned, period, dtype=jnp.int32)
    carry, kept = jax.lax.scan(run_round, carry, (rounds, numbers))
    after += [] if kept is None else [kept.reshape(scanned, *x_BLD.shape)]
  if rest:
    carry, kept = run_round(carry, (rest, scanned))
    after += [] if kept is None else [kept]
  return carry, jnp.concatenate(after) if keep_layers else None


def _run_stage(
  spec: StackSpec, count: int, blocks: Any, x_BLD: jax.Array, contexts: list[Context], first: Any, key: Any
) -> tuple[jax.Array, Sums]:
  """The blocks that a stage of a pipeline runs at a turn; `run_stages` rematerializes them together."""
  (x_BLD, _, sums), _ = run_blocks(spec, blocks, count, x_BLD, contexts, None, key, remat=Remat(), first=first)
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


class Transformer(Backbone):
  """A causal model. Parameters are float32; a forward pass computes in `spec.dtype`."""

  inputs: ClassVar[tuple[str, ...]] = ("tokens", "segment_ids", "positions", "prefix")

  def __init__(self, spec: TransformerSpec, *, rngs: nnx.Rngs):
    """Makes the weights.

    Args:
      spec: what to build.
      rngs: the `params` stream is drawn from: `nnx.Rngs(seed)`.
    """
    scheme = scheme_of(spec, spec.layers)
    self.token_embedding = make_table(spec, "vocab", spec.vocab_rows, scheme, rngs)
    super().__init__(spec, layers=spec.layers, causal=True, rngs=rngs)
    self.spec: TransformerSpec = spec
    self.unembedding = make_unembedding(spec, scheme, rngs)
    self.head = make_head(spec, scheme, rngs)

  def __call__(
    self,
    tokens: jax.Array,
    *,
    segment_ids: jax.Array | None = None,
    positions: jax.Array | None = None,
    prefix: jax.Array | None = None,
    cache: Cache | None = None,
    dropout_key: jax.Array | None = None,
    keep_layers: bool = False,
  ) -> Outputs:
    """Runs the model over rows of tokens.

    Args:
      tokens: (B, L) int32.
      segment_ids: (B, L) int32; a token sees its own segment only. None: a row is one segment. With a cache, a row is
        one document and 0 marks padding at its end.
      positions: (B, L) int32, offsets within the segment; None: counted from segment_ids, or from the cache.
      prefix: (B, L) int32, 1: a token that every token of its segment may see, also those before it (a prefix LM).
      cache: the state after the tokens before these; the result holds the state after them.
      dropout_key: turns dropout on.
      keep_layers: whether to return the output of each block, too.

    Raises:
      LmxError: a row longer than a learned position table.
      ValueError: shapes that don't fit each other.
    """
    check("Transformer", "BL ?BL ?BL ?BL", tokens, segment_ids, positions, prefix)
    spec = self.spec
    check_length(spec, tokens.shape[1])
    seen, layers, capacity = None, None, 0
    if cache is not None:
      seen, layers = cache.length, cache.layers
      capacity = layers.slots if isinstance(layers, KeyValues) else 0
    where = token_positions(tokens, segment_ids, positions, seen, capacity)
    where = dataclasses.replace(where, prefix=prefix)
    result = self.run(embed_tokens(self.spec, self.token_embedding, tokens), where, layers, dropout_key, keep_layers)
    if cache is not None:
      cache = Cache(added_to(cache.length, tokens, segment_ids), result.cache)
    key = fold(dropout_key, spec.layers + 1)
    more = {"cache": cache, "auxiliary": result.auxiliary, "layers": result.layers}
    tables = (self.token_embedding, self.unembedding)
    return outputs_of(spec, self.head, tables, result.hidden, segment_ids, key, **more)

  def init_cache(self, batch: int, length: int) -> Cache:
    """An empty decoding state for `batch` rows of up to `length` tokens.

    Raises:
      LmxError: more tokens than a learned position table has.
    """
    check_length(self.spec, length)
    layers = self.spec.mixing.empty(self.spec, self.spec.layers, batch, length)
    return Cache(jnp.zeros((batch,), jnp.int32), layers)
