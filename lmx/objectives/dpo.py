# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Direct preference optimization (https://arxiv.org/abs/2305.18290)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lmx.data.cache.encoding import BadExampleError, Encoded
from lmx.data.document import RequiredColumns
from lmx.nn.losses import token_log_probs
from lmx.nn.outputs import Outputs
from lmx.objectives.base import Arrays, Batch, Loss, Objective, ObjectiveContext, ObjectiveSpec, run_model
from lmx.objectives.chat_rows import Message, as_list, as_messages, is_empty, tools_of
from lmx.objectives.chat_samples import fitted, last_answer
from lmx.objectives.chat_template import DATE, Tools, find_template
from lmx.objectives.columns import text_of
from lmx.objectives.examples import as_encoded, next_token_fields
from lmx.objectives.parts import output_table, with_auxiliary


class Preferences:
  """Rows with a `prompt`, and a `chosen` and a `rejected` answer to it, to two chats.

  Each may be text or a list of messages; answers that begin with the prompt's messages are taken for complete chats.
  Where there is no prompt, both answers are complete chats, and their common beginning is the prompt. Only the last
  turn is scored. A chat longer than a row loses its end.
  """

  columns: tuple[str, ...] = ("chosen", "rejected")
  optional: tuple[str, ...] = ("prompt", "tools")

  def __init__(self, context: ObjectiveContext, chat_template: str | None, chat_date: str):
    self._template, self._length = find_template(context.tokenizer, chat_template, chat_date), context.length
    self.fingerprint = {
      "objective": "dpo",
      "length": context.length,
      "template": self._template.source,
      "date": chat_date,
    }

  def __call__(self, row: Mapping[str, Any]) -> Encoded:
    chats = preferences_of(row)
    tools = tools_of(row)
    chosen, cut = self._answer(chats[0], "chosen", tools)
    rejected, cut_too = self._answer(chats[1], "rejected", tools)
    return Encoded({**chosen, **{f"rejected_{name}": values for name, values in rejected.items()}}, cut + cut_too)

  def _answer(self, messages: list[Message], column: str, tools: Tools) -> tuple[Arrays, int]:
    """The fields of the chat that ends with a column's answer, and how many of its tokens were cut off."""
    if messages[-1]["role"] != "assistant":
      raise BadExampleError(f"column {column!r} does not end with an assistant turn")
    sample = last_answer(self._template, fitted(self._template, messages, tools), tools)
    ids, scored = sample.ids, sample.scored
    kept = min(len(ids), self._length + 1)
    if not scored[1:kept].any():
      raise BadExampleError("no answer within a row", f"{len(ids)} tokens, config.data.length={self._length}")
    return next_token_fields(ids[:kept], scored[:kept]), len(ids) - kept


def preferences_of(row: Mapping[str, Any]) -> tuple[list[Message], list[Message]]:
  """The two chats of a row, the preferred one first.

  Raises:
    BadExampleError: a message that is none, or no prompt: neither a column nor a common beginning.
  """
  whole = [None if as_list(row[name]) is None else as_messages(row[name], name) for name in ("chosen", "rejected")]
  if not is_empty(row.get("prompt")):
    prompt = as_messages(row["prompt"], "prompt")
    chosen, rejected = (
      _after(prompt, chat) if chat else [*prompt, {"role": "assistant", "content": text_of(row, name)}]
      for name, chat in zip(("chosen", "rejected"), whole, strict=True)
    )
    return chosen, rejected
  if None in whole:
    detail = "without a prompt, chosen and rejected are lists of messages that begin alike"
    raise BadExampleError("preferences without a prompt", detail)
  chosen, rejected = (chat or [] for chat in whole)
  shared = next((i for i, pair in enumerate(zip(chosen, rejected, strict=False)) if pair[0] != pair[1]), None)
  if not shared:
    same = "they are the same chat" if shared is None else "they have no message in common"
    raise BadExampleError("chosen and rejected are not two answers to one prompt", same)
  return chosen, rejected


def _after(prompt: list[Message], chat: list[Message]) -> list[Message]:
  return chat if chat[: len(prompt)] == prompt else [*prompt, *chat]


def answer_log_probs(outputs: Outputs, batch: Batch, group: str) -> jax.Array:
  """(B,) float32: log p of the scored tokens of each row, in nats. No logits are kept for the backward pass."""
  log_probs = jax.checkpoint(token_log_probs, static_argnums=(3,))(
    outputs.hidden, output_table(outputs), batch[group + "targets"], outputs.head, outputs.bias
  )
  return jnp.sum(log_probs * batch[group + "loss_weights"], axis=1)


def dpo(context: ObjectiveContext, *, dpo_beta: float, chat_template: str | None, chat_date: str = DATE) -> Objective:
  """-log sigmoid of the margin: beta times how much more than the reference the model prefers the chosen answer.

  Args:
    context: the run's.
    dpo_beta: reward = beta * (log p of the answer, less the reference's).
    chat_template, chat_date: as in `chat`.

  Metrics: `reward_accuracy` (pairs with a margin over 0), `reward_margin`, `chosen_reward`, `rejected_reward`.

  Raises:
    LmxError: an option out of range, or a template that is not there or not Jinja.
  """

  def loss(model: Any, batch: Batch, dropout_key: jax.Array | None, reference: Any = None) -> Loss:
    weights = jnp.max(batch["loss_weights"], axis=1)
    rewards, runs = [], []
    for number, group in enumerate(("", "rejected_")):
      key = None if dropout_key is None else jax.random.fold_in(dropout_key, number)
      runs.append(run_model(model, batch, key, group))
      frozen = jax.lax.stop_gradient(answer_log_probs(run_model(reference, batch, None, group), batch, group))
      rewards.append(dpo_beta * (answer_log_probs(runs[-1], batch, group) - frozen))
    margin = rewards[0] - rewards[1]
    weight = jnp.sum(weights)
    means = {
      "reward_accuracy": (margin > 0).astype(jnp.float32),
      "reward_margin": margin,
      "chosen_reward": rewards[0],
      "rejected_reward": rewards[1],
    }
    metrics = {name: (jnp.sum(values * weights), weight) for name, values in means.items()}
    return with_auxiliary(Loss(jnp.sum(jax.nn.softplus(-margin) * weights), weight, metrics), *runs)

  return Objective("dpo", prepare=as_encoded, loss=loss, encoder=Preferences(context, chat_template, chat_date))


ROW = ObjectiveSpec(
  dpo,
  head="language",
  families=("transformer",),
  packings=("padded",),
  reference="start",
  texts=RequiredColumns(("chosen", "rejected"), ("prompt",)),
)
