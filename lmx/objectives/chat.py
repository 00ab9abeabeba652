# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Answer like the assistant of a chat: supervised fine-tuning with loss on the assistant's tokens only."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from lmx.data.document import Wanted
from lmx.data.encoding import BadExampleError, Encoded
from lmx.errors import nearest
from lmx.objectives.base import Objective, ObjectiveRow, Setting
from lmx.objectives.chat_template import find_template
from lmx.objectives.columns import text_of
from lmx.objectives.examples import as_encoded, next_token_fields
from lmx.objectives.parts import check_range, token_loss

ROLES = ("system", "developer", "user", "assistant", "tool")


class Chats:
  """Rows with `messages`, or with a `prompt` and a `completion` (a chat of two turns), to chats.

  A chat longer than a row loses its end.
  """

  columns: tuple[str, ...] = ()
  optional: tuple[str, ...] = ("messages", "prompt", "completion")

  def __init__(self, setting: Setting, chat_template: str | None):
    self._template, self._length = find_template(setting.tokenizer, chat_template), setting.length
    self.fingerprint = {"objective": "chat", "length": setting.length, "template": self._template.source}

  def __call__(self, row: Mapping[str, Any]) -> Encoded:
    messages = chat_of(row)
    if not any(one["role"] == "assistant" for one in messages):
      raise BadExampleError("chat without an assistant turn", f"its roles: {[one['role'] for one in messages]}")
    ids, answers = self._template.encode(messages)
    scored = np.zeros(len(ids), bool)
    scored[np.concatenate(answers)] = True
    kept = min(len(ids), self._length + 1)
    if not scored[1:kept].any():
      raise BadExampleError("no answer within a row", f"{len(ids)} tokens, config.data.length={self._length}")
    return Encoded(next_token_fields(ids[:kept], scored[:kept]), len(ids) - kept)


def chat_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The messages of a row.

  Raises:
    BadExampleError: there are none, or one has no known role or no text.
  """
  if row.get("messages"):
    return as_messages(row["messages"], "messages")
  if not row.get("prompt"):
    raise BadExampleError("neither 'messages' nor 'prompt' and 'completion'", f"columns: {', '.join(row)}")
  return [*as_messages(row["prompt"], "prompt"), {"role": "assistant", "content": text_of(row, "completion")}]


def as_messages(value: Any, column: str) -> list[dict[str, Any]]:
  """A column with messages: a list of them, the same as JSON text, or plain text: one message of the user's.

  Raises:
    BadExampleError: a message has no known role or no text.
  """
  if isinstance(value, str) and column != "messages":
    value = [{"role": "user", "content": value}]
  elif isinstance(value, str):
    try:
      value = json.loads(value)
    except ValueError as error:
      raise BadExampleError(f"column {column!r} is not JSON", str(error)) from error
  if not isinstance(value, list) or not value:
    raise BadExampleError(f"column {column!r} is not a list of messages", f"got {json.dumps(value)[:60]}")
  return [_checked(one) for one in value]


def _checked(one: Any) -> dict[str, Any]:
  if not isinstance(one, dict) or not {"role", "content"} <= set(one):
    detail = f'each is {{"role": ..., "content": ...}}, got {json.dumps(one)[:60]}'
    raise BadExampleError("message without role and content", detail)
  if one["role"] not in ROLES:
    close = nearest(one["role"], ROLES)
    hint = f"; did you mean {close!r}?" if close else ""
    raise BadExampleError("unknown role", f"got {one['role']!r}, allowed are {', '.join(ROLES)}{hint}")
  if not isinstance(one["content"], str):
    raise BadExampleError("message whose content is not text", f"got {json.dumps(one['content'])[:60]}")
  return dict(one)


def chat(setting: Setting, *, z_loss: float, chat_template: str | None) -> Objective:
  """Next-token prediction of the assistant's turns, each with the token that ends it.

  Args:
    setting: the run's.
    z_loss: weight of log(Z)^2 per scored token.
    chat_template: a file with a Jinja template; None: the tokenizer's own, or ChatML. Answers are what it puts into
      {% generation %} ... {% endgeneration %}; without these, what each assistant turn adds to the text.

  Metrics: `nll` and `accuracy` over the assistant's tokens.

  Raises:
    LmxError: an option out of range, or a template that is not there or not Jinja.
  """
  check_range("z_loss", z_loss, 0, float("inf"))
  encoder = Chats(setting, chat_template)
  return Objective("chat", prepare=as_encoded, loss=token_loss(z_loss=z_loss), encoder=encoder)


ROW = ObjectiveRow(
  chat,
  head="language",
  families=("transformer", "lstm"),
  options=("z_loss", "chat_template"),
  packings=("packed", "padded"),
  texts=Wanted((), ("messages", "prompt", "completion")),
)
