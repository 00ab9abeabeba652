# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Prompts of generation and beam search: checked, padded, and read into the cache."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.errors import LmxError, message

SMALLEST_BUCKET = 16


@dataclasses.dataclass(frozen=True)
class Limits:
  """Restrictions on the generated tokens.

  Attributes:
    suppressed: ids that are never generated.
    forced_end: a row that reaches its maximum length ends with a stop id.
    renormalize: beam search scores hypotheses by the probabilities among the allowed tokens.
  """

  suppressed: tuple[int, ...] = ()
  forced_end: bool = False
  renormalize: bool = False

  def hide(self, scores_V: jax.Array) -> jax.Array:
    """Logits or log-probabilities (..., V), with those of the suppressed ids at -1e30."""
    if not self.suppressed:
      return scores_V
    return scores_V.at[..., np.array(self.suppressed, np.int32)].set(_HIDDEN, mode="drop")


NO_LIMITS = Limits()
_HIDDEN = -1e30


def bucket(length: int) -> int:
  """The next power of two, at least 16: programs are compiled for these sizes only."""
  return max(SMALLEST_BUCKET, 1 << (length - 1).bit_length())


def pad_rows(rows: Sequence[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
  """Ragged rows as (B, width) int32 with zeros at the end, and their lengths (B,)."""
  tokens = np.zeros((len(rows), width), np.int32)
  for row, into in zip(rows, tokens, strict=True):
    into[: len(row)] = row
  return tokens, np.array([len(row) for row in rows], np.int32)


def real_tokens(lengths_B: Any, width: int) -> Any:
  """(B, width) int32: 1 for the tokens of each row, 0 for the padding after them."""
  return (jnp.arange(width, dtype=jnp.int32)[None] < lengths_B[:, None]).astype(jnp.int32)


def check_ids(spec, ids: np.ndarray, subject: str, *, longest: int | None) -> None:
  """Checks that a model can read one row of token ids.

  Args:
    spec: the model's.
    ids: (n,) integers.
    subject: how the row is named in the message.
    longest: maximum number of tokens; None: no limit.

  Raises:
    LmxError: not one-dimensional, empty, longer than `longest`, or an id outside the vocabulary.
  """
  if ids.ndim != 1 or not len(ids):
    allowed = "one row of at least one token id (bos_id, for the start of a document)"
    raise LmxError(message(f"{subject}, shape", got=ids.shape, allowed=allowed))
  if longest is not None and len(ids) > longest:
    allowed = f"at most {longest} tokens (config.model.context is {spec.context})"
    raise LmxError(message(f"{subject}, length", got=len(ids), allowed=allowed, fix="pass only the end of the text"))
  if ids.min() < 0 or ids.max() >= spec.vocab_size:
    wrong = int(ids[(ids < 0) | (ids >= spec.vocab_size)][0])
    allowed = f"ids from 0 to {spec.vocab_size - 1}"
    raise LmxError(message(f"{subject}, token id", got=wrong, allowed=allowed, fix="use the model's own tokenizer"))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PromptBatch:
  """Padded prompts, the input of the compiled programs.

  Attributes:
    tokens: (B, L) int32, the first tokens of the decoder.
    lengths: (B,) int32, tokens of each row without padding.
    room: (B,) int32, maximum number of new tokens of each row.
    memory: the encoder's tokens (B, M) and segments, by the names of `init_cache`; {} without an encoder.
    prefix: bidirectional attention within a prompt.
    slots: slots of the cache: maximum number of tokens of a row, prompt included.
    new_slots: max_new_tokens, rounded up to a bucket.
  """

  tokens: Any
  lengths: Any
  room: Any
  memory: dict[str, Any]
  prefix: bool = dataclasses.field(metadata={"static": True})
  slots: int = dataclasses.field(metadata={"static": True})
  new_slots: int = dataclasses.field(metadata={"static": True})


def make_prompts(
  model,
  prompts: Sequence[np.ndarray],
  *,
  max_new_tokens: int,
  start_ids: Sequence[int] | None,
  prefix: bool = False,
  slide: bool = False,
) -> PromptBatch:
  """Checks prompts and pads them.

  Args:
    model: a model with a language head; its encoder reads the prompts if it has one.
    prompts: token ids, (n,) each.
    max_new_tokens: maximum number of new tokens per prompt.
    start_ids: first token ids of an encoder-decoder's decoder; None for other models.
    prefix: see `PromptBatch`.
    slide: whether rows may continue past the context.

  Raises:
    LmxError: see `lmx.inference.generate.generate`.
  """
  spec = model.spec
  if max_new_tokens < 1:
    raise LmxError(message("max_new_tokens", got=max_new_tokens, allowed="a positive whole number"))
  if spec.head != "language":
    raise LmxError(message("generation, the model's head", got=spec.head, allowed=["language"]))
  if prefix and "prefix" not in model.inputs:
    raise LmxError(message("prefix", got=prefix, allowed="False for this family: it has no prefix attention"))
  encodes = "encoder_tokens" in model.inputs
  if encodes != (start_ids is not None):
    allowed = "the first token ids of the decoder" if encodes else "None for a model without an encoder"
    raise LmxError(message("start_ids", got=start_ids, allowed=allowed))
  read = [np.asarray(prompt, np.int32) for prompt in prompts]
  begun = read if start_ids is None else [np.asarray(start_ids, np.int32)] * len(read)
  unlimited = spec.unlimited or slide
  longest = None if spec.unlimited else spec.context - (0 if slide else 1)
  for number, row in enumerate(read):
    check_ids(spec, row, f"prompt {number}", longest=spec.context if encodes else longest)
  if encodes:
    check_ids(spec, begun[0], "start_ids", longest=longest)
  room = [max_new_tokens if unlimited else min(max_new_tokens, spec.context - len(row)) for row in begun]
  widest = max(map(len, begun))
  width = widest if encodes else bucket(widest)
  new_slots = bucket(max_new_tokens)
  slots = width + new_slots
  if not spec.unlimited:
    width, slots = min(width, spec.context), min(slots, spec.context)
    new_slots = new_slots if slide else min(new_slots, spec.context)
  tokens, lengths = pad_rows(begun, width)
  memory = _memory(read, spec.context) if encodes else {}
  return PromptBatch(tokens, lengths, np.array(room, np.int32), memory, prefix, slots, new_slots)


def _memory(rows: Sequence[np.ndarray], context: int) -> dict[str, Any]:
  tokens, lengths = pad_rows(rows, min(bucket(max(map(len, rows))), context))
  real = (np.arange(tokens.shape[1])[None] < lengths[:, None]).astype(np.int32)
  return {"encoder_tokens": tokens, "encoder_segment_ids": real}


def read_prompts(model, prompts: PromptBatch) -> tuple[jax.Array, Any]:
  """The logits of the token after each prompt, (B, V) float32, and the cache with the prompts in it."""
  B, L = prompts.tokens.shape
  cache = model.init_cache(B, prompts.slots, **prompts.memory)
  return read_rows(
    model, prompts.tokens, prompts.lengths, cache, real_tokens(prompts.lengths, L) if prompts.prefix else None
  )


def read_rows(model, tokens_BL, lengths_B, cache, prefix_BL=None) -> tuple[jax.Array, Any]:
  """The logits after the last real token of each row, (B, V) float32, and the cache with the rows in it."""
  more = {} if prefix_BL is None else {"prefix": prefix_BL}
  outputs = model(tokens_BL, segment_ids=real_tokens(lengths_B, tokens_BL.shape[1]), cache=cache, **more)
  last_B1D = jnp.take_along_axis(outputs.hidden, (lengths_B - 1)[:, None, None], axis=1)
  return dataclasses.replace(outputs, hidden=last_B1D).logits()[:, 0], outputs.cache


def stop_ids(eos_id: int | Sequence[int] | None) -> np.ndarray:
  """The ids that end a row, (S,) int32; without any, [-1], which matches no token."""
  ids = [] if eos_id is None else [eos_id] if isinstance(eos_id, int | np.integer) else list(eos_id)
  return np.array(ids or [-1], np.int32)


def why_it_ended(tokens: int, room: int, max_new_tokens: int) -> str:
  """eos, length or context, as in `Continuation.stop`, for a row of `tokens` new tokens."""
  if tokens < room:
    return "eos"
  return "length" if room == max_new_tokens else "context"
