# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Beam search in one compiled program.

Finished hypotheses are ranked by log p / ((5 + length) / 6)^alpha, the stop id counted in the length (GNMT,
https://arxiv.org/abs/1609.08144, section 7, equation 14, without its coverage term), or by the formula of transformers.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmx.errors import LmxError, message
from lmx.inference.prompts import NO_LIMITS, Limits, PromptBatch, make_prompts, read_prompts, stop_ids, why_it_ended
from lmx.nn.attention.cache import Cache, WithMemory

_NONE = -1e30  # The log-probability of an empty slot.


@dataclasses.dataclass(frozen=True)
class Hypothesis:
  """One finished continuation.

  Attributes:
    tokens: (n,) int32, without the prompt and without the token that ended it.
    score: hypotheses are ranked by it.
    log_prob: log p(tokens | prompt) in nats, the ending token included where there is one.
    stop: eos | length | context, as in `lmx.inference.generate.Continuation`.
  """

  tokens: np.ndarray
  score: float
  log_prob: float
  stop: str


@dataclasses.dataclass(frozen=True)
class Ranking:
  """How finished hypotheses are compared, and when a prompt is done.

  Attributes:
    gnmt: rank by GNMT's formula; False: by log p / length^alpha, as transformers does.
    patient: a prompt is done once no unfinished hypothesis would be ranked before the last of its finished ones, if
      it ended now (transformers' early_stopping: false); False: once `beams` hypotheses have ended.
  """

  gnmt: bool = True
  patient: bool = False

  def score(self, log_prob: jax.Array, length: jax.Array, alpha: jax.Array) -> jax.Array:
    """The score of hypotheses of `length` tokens, the stop id included; the arrays broadcast."""
    return log_prob / ((5 + length) / 6 if self.gnmt else length) ** alpha


GNMT = Ranking()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Beams:
  """K hypotheses for each of B rows.

  Attributes:
    tokens: (B, K, T) int32, -1 after the end.
    log_prob, score: (B, K) float32; `_NONE` where there is no hypothesis.
  """

  tokens: jax.Array
  log_prob: jax.Array
  score: jax.Array

  def best(self, count: int) -> "_Beams":
    """The `count` hypotheses with the highest score, the best first; ties keep their order."""
    _, index_BK = jax.lax.top_k(self.score, count)
    return self.pick(index_BK)

  def pick(self, index_BK: jax.Array) -> "_Beams":
    """The hypotheses with these indices, (B, K)."""
    take = functools.partial(jnp.take_along_axis, axis=1)
    return _Beams(take(self.tokens, index_BK[..., None]), take(self.log_prob, index_BK), take(self.score, index_BK))

  def join(self, other: "_Beams") -> "_Beams":
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), self, other)

  def only(self, kept_BK: jax.Array) -> "_Beams":
    """Empties the slots outside the mask (B, K)."""
    hide = lambda x: jnp.where(kept_BK, x, _NONE)  # noqa: E731
    return _Beams(self.tokens, hide(self.log_prob), hide(self.score))

  def exist(self) -> jax.Array:
    return self.log_prob > _NONE / 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Loop:
  """After `step` tokens: live hypotheses with their logits and decoding state, and the best finished ones."""

  step: jax.Array
  live: _Beams
  finished: _Beams
  logits: jax.Array
  cache: Any


def _log_probs(logits_BKV: jax.Array, last_B: jax.Array, stops_S, limits: Limits) -> jax.Array:
  """Log-probabilities of the next token with limits applied, (B, K, V) float32; `last_B`: rows at their last token."""
  logits_BKV = logits_BKV.astype(jnp.float32)
  if limits.renormalize:
    logits_BKV = limits.hide(logits_BKV)
  found_BKV = limits.hide(jax.nn.log_softmax(logits_BKV, axis=-1))
  if not limits.forced_end:
    return found_BKV
  end_V = jnp.where(jnp.arange(logits_BKV.shape[-1]) == stops_S[0], 0.0, _NONE)
  return jnp.where(last_B[:, None, None], end_V, found_BKV)


def _extend(
  loop: _Loop, logits_BKV: jax.Array, room_B, stops_S, alpha, ranking: Ranking, limits: Limits
) -> tuple[_Beams, _Beams, jax.Array, jax.Array]:
  """Adds a token: returns live and best finished hypotheses, and the parents and tokens (B, K) of the live ones."""
  B, K, V = logits_BKV.shape
  totals = loop.live.log_prob[..., None] + _log_probs(logits_BKV, loop.step + 1 >= room_B, stops_S, limits)
  # Of K * (S + 1) candidates at most K * S end with one of the S stop ids, so at least K stay live.
  candidates, index = jax.lax.top_k(totals.reshape(B, K * V), min(K * (stops_S.size + 1), K * V))
  parent, token = index // V, (index % V).astype(jnp.int32)
  tokens = jnp.take_along_axis(loop.live.tokens, parent[..., None], axis=1)
  tokens = jax.lax.dynamic_update_slice_in_dim(tokens, token[..., None], loop.step, axis=2)
  length = (loop.step + 1).astype(jnp.float32)
  extended = _Beams(tokens, candidates, ranking.score(candidates, length, alpha))

  ended = jnp.any(token[..., None] == stops_S[None, None], axis=-1) | (loop.step + 1 >= room_B)[:, None]
  leading = jnp.arange(ended.shape[1])[None] < K  # A hypothesis that ends counts if it is among the best K.
  finished = loop.finished.join(extended.only(ended & leading & extended.exist())).best(K)
  done = jnp.all(finished.exist(), axis=1, keepdims=True)
  going = extended.only(~ended)
  if ranking.patient:
    best, last = jnp.max(going.score, axis=1, keepdims=True), jnp.min(finished.score, axis=1, keepdims=True)
    done = done & (best <= last)
  going = going.only(~done & going.exist())
  _, kept = jax.lax.top_k(going.log_prob, K)
  take = functools.partial(jnp.take_along_axis, indices=kept, axis=1)
  return going.pick(kept), finished, take(parent), take(token)


def _reorder(cache: Cache, rows: jax.Array) -> Cache:
  """The decoding state of the chosen beams; an encoder's memory is the same for all beams of a row and isn't copied."""
  chosen = cache.select(rows)
  if not isinstance(cache.layers, WithMemory):
    return chosen
  layers = dataclasses.replace(chosen.layers, memory=cache.layers.memory)
  return dataclasses.replace(chosen, layers=layers, memory_segments=cache.memory_segments)


@functools.partial(jax.jit, static_argnames=("beams", "ranking", "limits"))
def _search(model, prompts: PromptBatch, stops_S, alpha, *, beams: int, ranking: Ranking, limits: Limits) -> _Beams:
  """The best `beams` finished hypotheses of each prompt, the best first."""
  logits_BV, cache = read_prompts(model, prompts)
  B, K = logits_BV.shape[0], beams
  nothing = _Beams(
    jnp.full((B, K, prompts.new_slots), -1, jnp.int32), *(jnp.full((B, K), _NONE, jnp.float32) for _ in range(2))
  )
  empty = dataclasses.replace(
    nothing, log_prob=nothing.log_prob.at[:, 0].set(0.0)
  )  # All K slots start equal: only one is live.

  def step(loop: _Loop) -> _Loop:
    live, finished, parent, token = _extend(loop, loop.logits, prompts.room, stops_S, alpha, ranking, limits)
    rows = (jnp.arange(B, dtype=jnp.int32)[:, None] * K + parent).reshape(-1)
    outputs = model(token.reshape(-1, 1), cache=_reorder(loop.cache, rows))
    logits_BKV = outputs.logits()[:, 0].reshape(B, K, -1)
    return _Loop(loop.step + 1, live, finished, logits_BKV, outputs.cache)

  first = _Loop(jnp.int32(0), empty, nothing, jnp.repeat(logits_BV[:, None], K, axis=1), cache.repeat(K))
  return jax.lax.while_loop(lambda loop: jnp.any(loop.live.exist()), step, first).finished


def beam_search(
  model: Any, prompts: Sequence[np.ndarray], *, max_new_tokens: int, beams: int = 4, length_penalty: float = 0.6,
  num_results: int = 1, eos_id: int | Sequence[int] | None = None, start_ids: Sequence[int] | None = None,
  prefix: bool = False, ranking: Ranking = GNMT, limits: Limits = NO_LIMITS,
) -> list[list[Hypothesis]]:  # fmt: skip
  """Finds the likeliest continuations of prompts, all prompts in one batch; with an encoder, the likeliest answers.

  A hypothesis ends at a stop id, with max_new_tokens tokens, or where it fills the context. A prompt is done when
  `beams` hypotheses have ended (see `Ranking.patient`). One beam is greedy decoding.

  Args:
    model: a causal model, or one with an encoder and a decoder.
    prompts, max_new_tokens, eos_id, start_ids, prefix: as in `lmx.inference.generate.generate`.
    beams: K, hypotheses kept at each step.
    length_penalty: alpha; 0 ranks by probability, more favours longer hypotheses.
    num_results: hypotheses returned per prompt, at most `beams`.
    ranking: how finished hypotheses are ranked, and when a prompt is done.
    limits: restrictions on the generated tokens.

  Returns:
    For each prompt, its best hypotheses, the best first; fewer than num_results where no more were found.

  Raises:
    LmxError: as `generate`, or numbers out of range.

  Examples:
    >>> from lmx.inference.beam import beam_search
    >>> run = lmx.load("runs/cpu")
    >>> [[best, second]] = beam_search(run.model, [run.tokenizer.encode("The")], max_new_tokens=4, num_results=2)
    >>> best.score >= second.score, best.log_prob < 0
    (True, True)
  """
  if beams < 1:
    raise LmxError(message("beams", got=beams, allowed="a positive whole number"))
  if not 1 <= num_results <= beams:
    raise LmxError(message("num_results", got=num_results, allowed=f"a number from 1 to beams = {beams}"))
  if length_penalty < 0:
    raise LmxError(message("length_penalty", got=length_penalty, allowed="0 or a positive number"))
  if not prompts:
    return []
  ready = make_prompts(model, prompts, max_new_tokens=max_new_tokens, start_ids=start_ids, prefix=prefix)
  stops = stop_ids(eos_id)
  found = jax.device_get(_search(model, ready, stops, jnp.float32(length_penalty), beams=beams, ranking=ranking,
                                 limits=limits))  # fmt: skip
  return [
    [
      _hypothesis(found.tokens[row, k], found.score[row, k], found.log_prob[row, k], stops, room, max_new_tokens)
      for k in range(num_results)
      if found.log_prob[row, k] > _NONE / 2
    ]
    for row, room in enumerate(ready.room)
  ]


def _hypothesis(tokens, score, log_prob, stops, room, max_new_tokens: int) -> Hypothesis:
  tokens = tokens[tokens >= 0]
  if len(tokens) and tokens[-1] in stops:
    return Hypothesis(tokens[:-1], float(score), float(log_prob), "eos")
  return Hypothesis(tokens, float(score), float(log_prob), why_it_ended(len(tokens), int(room), max_new_tokens))
