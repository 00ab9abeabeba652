# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Supervised fine-tuning on chats, with loss on the assistant's tokens only."""

from collections.abc import Mapping
from typing import Any

from lmx.data.cache.encoding import BadExampleError, Encoded
from lmx.data.document import RequiredColumns
from lmx.objectives.base import Objective, ObjectiveContext, ObjectiveSpec
from lmx.objectives.chat_rows import CHAT_COLUMNS, chat_of
from lmx.objectives.chat_samples import ChatSample, fitted, follows_request, samples
from lmx.objectives.chat_template import find_template
from lmx.objectives.examples import as_encoded, next_token_fields
from lmx.objectives.parts import token_loss

APART = "chats have one example for each answer, since the chat template rewrites earlier turns"
OTHERWISE = (
  "chats have answers that don't follow the chat template's generation prompt, which the model will be asked with"
)
_LAYOUT = "rows read as {}"


class Chats:
  """Rows with a chat, see `chat_of`, to one example each, or to one for each of its answers.

  A chat longer than a row loses its end; an example whose answer would be lost is an error.
  """

  columns: tuple[str, ...] = ()
  optional: tuple[str, ...] = CHAT_COLUMNS

  def __init__(self, context: ObjectiveContext, chat_template: str | None, chat_answers: str, chat_date: str):
    self._template, self._length = find_template(context.tokenizer, chat_template, chat_date), context.length
    self._answers = chat_answers
    self.fingerprint = {
      "objective": "chat",
      "length": context.length,
      "template": self._template.source,
      "date": chat_date,
      "answers": chat_answers,
    }

  def __call__(self, row: Mapping[str, Any]) -> Encoded:
    chat = chat_of(row)
    messages = fitted(self._template, chat.messages, chat.tools)
    first, *more = [self._example(one) for one in samples(self._template, messages, chat.tools, self._answers)]
    notes = [_LAYOUT.format(chat.layout)] if chat.layout else []
    notes += [APART] if more and self._answers == "auto" else []
    notes += [] if follows_request(self._template, messages, chat.tools) else [OTHERWISE]
    return Encoded(first.fields, first.truncated, tuple(more), tuple(notes))

  def _example(self, sample: ChatSample) -> Encoded:
    ids, scored = sample.ids, sample.scored
    kept = min(len(ids), self._length + 1)
    if not scored[1:kept].any():
      raise BadExampleError("no answer within a row", f"{len(ids)} tokens, config.data.length={self._length}")
    return Encoded(next_token_fields(ids[:kept], scored[:kept]), len(ids) - kept)


def chat(
  context: ObjectiveContext,
  *,
  z_loss: float,
  chat_template: str | None,
  chat_answers: str,
  chat_date: str,
) -> Objective:
  """Next-token prediction of the assistant's turns, each with the token that ends it.

  Args:
    context: the run's.
    z_loss: weight of log(Z)^2 per scored token.
    chat_template: a file with a Jinja template; None: the tokenizer's own, or ChatML. Answers are what it puts into
      {% generation %} ... {% endgeneration %}; without these, what each assistant turn adds to the text.
    chat_answers: together (a chat is one example) | apart (one for each answer, as the template renders the chat up to
      it) | auto: together, unless the template rewrites earlier turns when more follows.
    chat_date: YYYY-MM-DD, today's date for templates that write it.

  Metrics: `nll` and `accuracy` over the assistant's tokens.

  Raises:
    LmxError: an option out of range or not a date, or a template that is not there or not Jinja.
  """
  encoder = Chats(context, chat_template, chat_answers, chat_date)
  return Objective("chat", prepare=as_encoded, loss=token_loss(z_loss=z_loss), encoder=encoder)


ROW = ObjectiveSpec(
  chat,
  head="language",
  families=("transformer", "lstm"),
  packings=("packed", "padded"),
  texts=RequiredColumns((), CHAT_COLUMNS),
)
