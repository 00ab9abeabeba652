# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Generation: one compiled program reads the prompts into a cache and draws tokens until every row has ended."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.errors import LmxError, message
from lmx.inference.sampling import Sampling, sample

SMALLEST_BUCKET = 16


@dataclasses.dataclass(frozen=True)
class Sample:
  """One continuation.

  Attributes:
    tokens: (n,) int32, without the prompt and without the token that ended it.
    stop: eos (the model ended it) | length (max_new_tokens) | context (the model's context is full).
  """

  tokens: np.ndarray
  stop: str


def bucket(length: int) -> int:
  """The next power of two, at least 16: programs are compiled for these sizes only."""
  return max(SMALLEST_BUCKET, 1 << (length - 1).bit_length())


def pad_rows(rows: Sequence[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
  """Ragged rows as (B, width) int32 with zeros at the end, and their lengths (B,)."""
  tokens = np.zeros((len(rows), width), np.int32)
  for row, into in zip(rows, tokens, strict=True):
    into[: len(row)] = row
  return tokens, np.array([len(row) for row in rows], np.int32)


@dataclasses.dataclass
class _Loop:
  """What the decoding loop carries: everything of B rows after `step` new tokens."""

  step: jax.Array
  token: jax.Array
  ended: jax.Array
  written: jax.Array
  cache: Any


jax.tree_util.register_dataclass(_Loop)


@functools.partial(jax.jit, static_argnames=("new_slots", "copies"))
def _generate(model, tokens_BL, lengths_B, room_B, sampling, eos, key, *, new_slots: int, copies: int):
  """Prompts (B, L) to new tokens (B * copies, new_slots), -1 where none was drawn.

  Args:
    lengths_B: real tokens of each prompt.
    room_B: how many new tokens each row may get.
    eos: the id that ends a row; -1: none.
    copies: continuations of each prompt, side by side.
  """
  B, L = tokens_BL.shape
  real_BL = (jnp.arange(L, dtype=jnp.int32)[None] < lengths_B[:, None]).astype(jnp.int32)
  outputs = model(tokens_BL, segment_ids=real_BL, cache=model.init_cache(B, min(L + new_slots, model.spec.context)))
  last_B1D = jnp.take_along_axis(outputs.hidden, (lengths_B - 1)[:, None, None], axis=1)
  logits_BV = dataclasses.replace(outputs, hidden=last_B1D).logits()[:, 0]
  cache = outputs.cache
  cache = dataclasses.replace(
    cache,
    length=jnp.repeat(cache.length, copies, axis=0),
    layers=jax.tree.map(lambda x: jnp.repeat(x, copies, axis=1), cache.layers),
  )
  logits_BV, room_B = jnp.repeat(logits_BV, copies, axis=0), jnp.repeat(room_B, copies, axis=0)
  row_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(B * copies))

  def draw(logits_BV, step, ended, written):
    keys = jax.vmap(jax.random.fold_in, (0, None))(row_keys, step)
    token = sample(logits_BV, sampling, keys)
    ended = ended | (step >= room_B) | (token == eos)
    written = jax.lax.dynamic_update_slice_in_dim(written, jnp.where(ended, -1, token)[:, None], step, axis=1)
    return token, ended, written

  def decode(loop: _Loop) -> _Loop:
    outputs = model(loop.token[:, None], cache=loop.cache)
    token, ended, written = draw(outputs.logits()[:, 0], loop.step, loop.ended, loop.written)
    return _Loop(loop.step + 1, token, ended, written, outputs.cache)

  written = jnp.full((B * copies, new_slots), -1, jnp.int32)
  token, ended, written = draw(logits_BV, 0, jnp.zeros((B * copies,), bool), written)
  start = _Loop(jnp.int32(1), token, ended, written, cache)
  more = lambda loop: (loop.step < jnp.max(room_B)) & ~jnp.all(loop.ended)  # noqa: E731
  return jax.lax.while_loop(more, decode, start).written


def generate(
  model,
  prompts: Sequence[np.ndarray],
  *,
  key: jax.Array,
  max_new_tokens: int,
  temperature: float = 1.0,
  top_k: int | None = None,
  top_p: float | None = None,
  num_samples: int = 1,
  eos_id: int | None = None,
) -> list[list[Sample]]:
  """Continues prompts, all of them in one batch.

  The program is compiled once for each (number of prompts, bucket of the longest prompt, bucket of max_new_tokens,
  num_samples). Padding ids of the vocabulary are never drawn. A row stops where prompt and continuation fill the
  model's context, and says so. A row's draws depend on the key and its place in the batch only.

  Args:
    model: a causal model.
    prompts: ids, (n,) each, at least one token; for the start of a document, that is the tokenizer's bos_id.
    key: randomness.
    max_new_tokens: tokens to add to each prompt, at most.
    temperature, top_k, top_p: see `Sampling`; temperature 0 always takes the most likely token.
    num_samples: continuations of each prompt.
    eos_id: the id that ends a continuation; None: none does.

  Returns:
    For each prompt, `num_samples` samples.

  Raises:
    LmxError: an empty prompt, one that fills the context, an id outside the vocabulary, or numbers out of range.
  """
  sampling = Sampling.checked(temperature, top_k, top_p)
  for name, number in (("max_new_tokens", max_new_tokens), ("num_samples", num_samples)):
    if number < 1:
      raise LmxError(message(name, got=number, allowed="a positive whole number"))
  if not prompts:
    return []
  prompts = [np.asarray(prompt, np.int32) for prompt in prompts]
  for number, prompt in enumerate(prompts):
    check_ids(model.spec, prompt, f"prompt {number}", longest=model.spec.context - 1)
  context = model.spec.context
  room = np.array([min(max_new_tokens, context - len(prompt)) for prompt in prompts], np.int32)
  width = min(bucket(max(map(len, prompts))), context)
  new_slots = min(bucket(max_new_tokens), context)
  tokens, lengths = pad_rows(prompts, width)
  eos = np.int32(-1 if eos_id is None else eos_id)
  written = _generate(model, tokens, lengths, room, sampling, eos, key, new_slots=new_slots, copies=num_samples)
  rows = np.asarray(written).reshape(len(prompts), num_samples, new_slots)
  return [
    [_sample(row, int(limit), max_new_tokens) for row in of_prompt] for of_prompt, limit in zip(rows, room, strict=True)
  ]


def _sample(row: np.ndarray, room: int, max_new_tokens: int) -> Sample:
  tokens = row[row >= 0]
  if len(tokens) < room:
    return Sample(tokens, "eos")
  return Sample(tokens, "length" if room == max_new_tokens else "context")


def check_ids(spec, ids: np.ndarray, subject: str, *, longest: int) -> None:
  """Checks that a model can read one row of ids.

  Raises:
    LmxError: not a row, empty, longer than `longest`, or an id outside the vocabulary.
  """
  if ids.ndim != 1 or not len(ids):
    allowed = "one row of at least one token id (bos_id, for the start of a document)"
    raise LmxError(message(f"{subject}, shape", got=ids.shape, allowed=allowed))
  if len(ids) > longest:
    allowed = f"at most {longest} tokens (config.model.context is {spec.context})"
    raise LmxError(message(f"{subject}, length", got=len(ids), allowed=allowed, fix="pass the end of the text only"))
  if ids.min() < 0 or ids.max() >= spec.vocab_size:
    wrong = int(ids[(ids < 0) | (ids >= spec.vocab_size)][0])
    allowed = f"ids from 0 to {spec.vocab_size - 1}"
    raise LmxError(message(f"{subject}, token id", got=wrong, allowed=allowed, fix="use the model's own tokenizer"))
