# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Text generation: one compiled program reads the prompts into a cache and samples tokens until every row has ended."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.errors import LmxError, message
from lmx.inference.prompts import (
  NO_LIMITS,
  Limits,
  PromptBatch,
  make_prompts,
  read_prompts,
  read_rows,
  stop_ids,
  why_it_ended,
)
from lmx.inference.sampling import Sampling, sample


@dataclasses.dataclass(frozen=True)
class Continuation:
  """One continuation of a prompt.

  Attributes:
    tokens: (n,) int32, without the prompt and without the token that ended it.
    stop: why it ended: eos (a stop token) | length (max_new_tokens) | context (the model's context is full).
  """

  tokens: np.ndarray
  stop: str


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Loop:
  """The state of the decoding loop for B rows.

  Attributes:
    step: () int32, tokens sampled so far.
    token: (B,) int32, the last of them, which the model hasn't read yet.
    ended: (B,) bool.
    written: (B, T) int32, new tokens, -1 where there is none.
    cache: the key-value cache or recurrent state.
    seen: (B, slots) int32, the tokens that the model has read, in the slots of the cache.
  """

  step: jax.Array
  token: jax.Array
  ended: jax.Array
  written: jax.Array
  cache: Any
  seen: jax.Array


@functools.partial(jax.jit, static_argnames=("copies", "slide", "limits"))
def _generate(
  model, prompts: PromptBatch, sampling: Sampling, stops_S, key, *, copies: int, slide: bool, limits: Limits
):
  """Prompts (B, L) to new tokens (B * copies, new_slots), -1 after the end of a row."""
  logits_BV, cache = read_prompts(model, prompts)
  logits_BV, cache = jnp.repeat(logits_BV, copies, axis=0), cache.repeat(copies)
  room_B = jnp.repeat(prompts.room, copies, axis=0) - int(limits.forced_end)  # The forced end token isn't written.
  rows = jnp.arange(logits_BV.shape[0], dtype=jnp.int32)
  row_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
  seen = jnp.pad(prompts.tokens, ((0, 0), (0, prompts.slots - prompts.tokens.shape[1])))

  def draw(logits_BV, step, ended, written):
    keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys, step)
    token = sample(limits.hide(logits_BV), sampling, keys)
    ended = ended | (step >= room_B) | jnp.any(token[:, None] == stops_S[None], axis=1)
    written = jax.lax.dynamic_update_slice_in_dim(written, jnp.where(ended, -1, token)[:, None], step, axis=1)
    return token, ended, written

  def decode(loop: _Loop) -> _Loop:
    seen = loop.seen.at[rows, loop.cache.length].set(loop.token, mode="drop")
    outputs = model(loop.token[:, None], cache=loop.cache)
    token, ended, written = draw(outputs.logits()[:, 0], loop.step, loop.ended, loop.written)
    return _Loop(loop.step + 1, token, ended, written, outputs.cache, seen)

  def full(loop: _Loop) -> jax.Array:
    return slide & (loop.cache.length >= prompts.slots) & ~loop.ended

  def more(loop: _Loop) -> jax.Array:
    return (loop.step < jnp.max(room_B)) & ~jnp.all(loop.ended)

  def decode_until_full(loop: _Loop) -> _Loop:
    return jax.lax.while_loop(lambda loop: more(loop) & ~jnp.any(full(loop)), decode, loop)

  written = jnp.full((rows.size, prompts.new_slots), -1, jnp.int32)
  token, ended, written = draw(logits_BV, 0, jnp.zeros((rows.size,), bool), written)
  loop = _Loop(jnp.int32(1), token, ended, written, cache, jnp.repeat(seen, copies, axis=0))
  loop = decode_until_full(loop)
  if slide:
    on = lambda loop: decode_until_full(_without_oldest_half(model, loop, full(loop), bool(prompts.memory)))  # noqa: E731
    loop = jax.lax.while_loop(more, on, loop)
  return loop.written


def _without_oldest_half(model, loop: _Loop, full_B: jax.Array, encodes: bool) -> _Loop:
  """Drops the oldest half of full rows and reads the rest again, at positions from 0; other rows are unchanged."""
  rows, slots = loop.seen.shape
  dropped = slots // 2
  seen = jnp.where(full_B[:, None], jnp.roll(loop.seen, -dropped, axis=1), loop.seen)
  lengths = jnp.where(full_B, slots - dropped, jnp.minimum(loop.cache.length, slots))
  # The cache keeps an encoder's memory; the decoder's stale slots are masked until they are overwritten.
  empty = dataclasses.replace(loop.cache, length=jnp.zeros_like(lengths)) if encodes else model.init_cache(rows, slots)
  _, read = read_rows(model, seen, lengths, empty)

  def choose(new, old, axis):
    return jnp.where(full_B.reshape((1,) * axis + (-1,) + (1,) * (new.ndim - axis - 1)), new, old)

  layers = jax.tree.map(functools.partial(choose, axis=1), read.layers, loop.cache.layers)
  cache = dataclasses.replace(loop.cache, length=choose(read.length, loop.cache.length, 0), layers=layers)
  return dataclasses.replace(loop, cache=cache, seen=seen)


def generate(
  model: Any, prompts: Sequence[np.ndarray], *, key: jax.Array, max_new_tokens: int, temperature: float = 1.0,
  top_k: int | None = None, top_p: float | None = None, num_samples: int = 1,
  eos_id: int | Sequence[int] | None = None, start_ids: Sequence[int] | None = None, prefix: bool = False,
  slide: bool = False, limits: Limits = NO_LIMITS,
) -> list[list[Continuation]]:  # fmt: skip
  """Continues prompts, all of them in one batch; a model with an encoder answers them.

  The program is compiled once for each (number of prompts, bucket of the longest prompt, bucket of max_new_tokens,
  num_samples, number of stop ids). Padding ids of the vocabulary are never sampled. The samples of a row depend only on
  the key and the row's index in the batch. A row ends where prompt and continuation fill the model's context; LSTMs and
  Mamba-2 without learned positions have no such limit, and `slide` lifts it.

  Args:
    model: a causal model, or one with an encoder and a decoder.
    prompts: token ids, (n,) each, at least one (bos_id for the start of a document). The encoder reads them if the
      model has one.
    key: random key of the samples.
    max_new_tokens: maximum number of new tokens per prompt.
    temperature: divides the logits; 0 always takes the most likely token.
    top_k: sample from the k most likely tokens; None: from all.
    top_p: sample from the fewest tokens whose probabilities sum to at least top_p; None: from all.
    num_samples: continuations per prompt.
    eos_id: the id, or ids, that end a continuation; None: no id does.
    start_ids: first token ids of the decoder, for a model with an encoder.
    prefix: bidirectional attention within the prompt, for prefix language models.
    slide: a row that fills the context continues: its oldest half is dropped, and the rest is read again from position
      0.
    limits: restrictions on the generated tokens.

  Returns:
    For each prompt, `num_samples` continuations.

  Raises:
    LmxError: an empty prompt, one that fills the context, an id outside the vocabulary, numbers out of range, or
      arguments that don't apply to this model.

  Examples:
    >>> import jax
    >>> from lmx.inference.generate import generate
    >>> run = lmx.load("runs/cpu")
    >>> prompt = run.tokenizer.encode("The")
    >>> [[one, other]] = generate(run.model, [prompt], key=jax.random.key(0), max_new_tokens=4, num_samples=2)
    >>> one.tokens.shape, one.stop
    ((4,), 'length')
  """
  sampling = Sampling.checked(temperature, top_k, top_p)
  if num_samples < 1:
    raise LmxError(message("num_samples", got=num_samples, allowed="a positive whole number"))
  if not prompts:
    return []
  slide = slide and not model.spec.unlimited
  ready = make_prompts(model, prompts, max_new_tokens=max_new_tokens, start_ids=start_ids, prefix=prefix, slide=slide)
  written = _generate(model, ready, sampling, stop_ids(eos_id), key, copies=num_samples, slide=slide,
                      limits=limits)  # fmt: skip
  rows = np.asarray(written).reshape(len(prompts), num_samples, -1)
  return [
    [_sample(row, int(room), max_new_tokens) for row in of_prompt]
    for of_prompt, room in zip(rows, ready.room, strict=True)
  ]


def _sample(row: np.ndarray, room: int, max_new_tokens: int) -> Continuation:
  tokens = row[row >= 0]
  return Continuation(tokens, why_it_ended(len(tokens), room, max_new_tokens))
