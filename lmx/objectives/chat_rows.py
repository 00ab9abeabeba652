# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Rows of tables to chats: messages as OpenAI and Hugging Face write them, ShareGPT, Alpaca, prompt and completion."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from lmx.data.cache.encoding import BadExampleError
from lmx.data.document import is_missing
from lmx.errors import nearest
from lmx.objectives.columns import optional_text, text_of

Message = dict[str, Any]
Row = Mapping[str, Any]
ROLES = ("system", "developer", "user", "assistant", "tool")
# Names that data sets give to roles -> ours. A "function_call" is a turn of the assistant's.
_FOREIGN_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
                  "observation": "tool", "function": "tool", "function_response": "tool"}  # fmt: skip
_CALL = "function_call"
REASONING = ("reasoning_content", "thinking", "reasoning")  # What templates call it, the first one first.
CHAT_COLUMNS = ("messages", "prompt", "completion", "conversations", "instruction", "input", "output", "system",
                "tools", "functions")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Chat:
  """The messages of a row.

  Attributes:
    messages: each {"role": one of ROLES, "content": text or a list of text parts, ...}.
    tools: JSON schemas of functions that the assistant may call, or None.
    layout: what the row was recognized as; "" for messages.
  """

  messages: list[Message]
  tools: list[dict[str, Any]] | None = None
  layout: str = ""


# ---------------------------------------------------------------- rows


def chat_of(row: Row, *, answered: bool = True) -> Chat:
  """The chat of a row, recognized by the columns that have something in them.

  Args:
    row: with some of CHAT_COLUMNS.
    answered: the row must have the answer too; else what is there of the chat is taken.

  Raises:
    BadExampleError: no chat, two different ones, or a message that is none.
  """
  filled = {name for name in CHAT_COLUMNS if not is_empty(row.get(name))}
  found = [layout for layout in _LAYOUTS if {*layout.asks, *(layout.answers if answered else ())} <= filled]
  if not found:
    shown = ", ".join(" and ".join(repr(name) for name in (*one.asks, *one.answers)) for one in _LAYOUTS)
    partly = next((one for one in _LAYOUTS if {*one.asks} <= filled), None)
    if partly:
      text_of(row, partly.answers[0])
    raise BadExampleError("no chat in the row", f"a chat is in {shown}; filled here: {', '.join(filled) or 'none'}")
  chats = [layout.read(row) for layout in found]
  others = [name for one, chat in zip(found, chats, strict=True) if chat != chats[0] for name in one.asks]
  if others and answered:
    first, other = found[0].asks[0], others[0]
    fix = f"--config.data.columns.{other}=none reads {first!r}, --config.data.columns.{first}=none reads {other!r}"
    raise BadExampleError("two different chats in a row", f"in {first!r} and in {other!r}; {fix}")
  tools = tools_of(row, wrap=found[0].asks == ("conversations",))
  return Chat(chats[0], tools, found[0].name)


def _messages(row: Row) -> list[Message]:
  return as_messages(row["messages"], "messages")


def _prompt(row: Row) -> list[Message]:
  asked = as_messages(row["prompt"], "prompt")
  if is_empty(row.get("completion")):
    return asked
  if isinstance(row["completion"], list):
    return [*asked, *as_messages(row["completion"], "completion")]
  return [*asked, {"role": "assistant", "content": text_of(row, "completion")}]


def _share_gpt(row: Row) -> list[Message]:
  return [*_system(row), *as_messages(row["conversations"], "conversations")]


def _alpaca(row: Row) -> list[Message]:
  asked = "\n\n".join(filter(None, (text_of(row, "instruction").strip(), optional_text(row, "input").strip())))
  answer = [] if is_empty(row.get("output")) else [{"role": "assistant", "content": text_of(row, "output")}]
  return [*_system(row), {"role": "user", "content": asked}, *answer]


def _system(row: Row) -> list[Message]:
  """The system turn of layouts that have a column for it."""
  text = optional_text(row, "system")
  return [{"role": "system", "content": text}] if text.strip() else []


@dataclasses.dataclass(frozen=True)
class _Layout:
  """One way to write a chat as a row: the columns that ask, and those that answer."""

  name: str
  asks: tuple[str, ...]
  answers: tuple[str, ...]
  read: Callable[[Row], list[Message]]


_LAYOUTS = (
  _Layout("", ("messages",), (), _messages),
  _Layout("ShareGPT (conversations)", ("conversations",), (), _share_gpt),
  _Layout("Alpaca (instruction, input, output)", ("instruction",), ("output",), _alpaca),
  _Layout("prompt and completion", ("prompt",), ("completion",), _prompt),
)


def is_empty(value: Any) -> bool:
  """Whether a cell is empty: missing, blank text, or an empty list."""
  return is_missing(value) or value == [] or (isinstance(value, str) and not value.strip())


def tools_of(row: Row, *, wrap: bool = False) -> list[dict[str, Any]] | None:
  """The functions that a row offers as JSON schemas: `tools`, or `functions` in OpenAI's older form; None: none.

  Args:
    row: of columns.
    wrap: whether bare functions among the tools get the form that templates expect.

  Raises:
    BadExampleError: they are no list of schemas.
  """
  name = "functions" if is_empty(row.get("tools")) else "tools"
  value = row.get(name)
  if is_empty(value):
    return None
  tools = _parsed(value, name) if isinstance(value, str) else value
  if not isinstance(tools, list) or not all(isinstance(one, dict) for one in tools):
    detail = f"got {json.dumps(value)[:60]}; --config.data.columns.{name}=none leaves it unread"
    raise BadExampleError(f"column {name!r} is not a list of JSON schemas", detail)
  bare = wrap or name == "functions"
  return [{"type": "function", "function": one} if bare and "function" not in one else one for one in tools] or None


def _parsed(text: str, column: str) -> Any:
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    raise BadExampleError(f"column {column!r} is not JSON", str(error)) from error


# ---------------------------------------------------------------- messages


def as_messages(value: Any, column: str) -> list[Message]:
  """A column with messages: a list of them, the same as JSON text, or, but for `messages` and `conversations`, plain
  text: one message of the user's.

  Raises:
    BadExampleError: a message has no known role, or nothing in it.
  """
  if isinstance(value, str):
    listed = as_list(value)
    if listed is None and column not in ("messages", "conversations"):
      return [{"role": "user", "content": text_of({column: value}, column)}]
    value = _parsed(value, column) if listed is None else listed
  if not isinstance(value, list) or not value:
    raise BadExampleError(f"column {column!r} is not a list of messages", f"got {json.dumps(value)[:60]}")
  return [_checked(one) for one in value]


def as_list(value: Any) -> list[Any] | None:
  """A list of messages as it is, or as JSON text; None for anything else, such as an answer's text."""
  if isinstance(value, str) and value.lstrip().startswith("[{"):
    try:
      value = json.loads(value)
    except (ValueError, RecursionError):
      return None
    return value if all(isinstance(one, dict) and {"role", "from"} & one.keys() for one in value) else None
  return value if isinstance(value, list) else None


def _checked(given: Any) -> Message:
  one = {name: value for name, value in given.items() if not is_missing(value)} if isinstance(given, dict) else {}
  if "from" in one and "role" not in one:
    one = {"role": one.pop("from"), "content": one.pop("value", None), **one}
  if "role" not in one:
    detail = f'each is {{"role": ..., "content": ...}} or {{"from": ..., "value": ...}}, got {json.dumps(given)[:60]}'
    raise BadExampleError("message without role and content", detail)
  role = _FOREIGN_ROLES.get(one["role"], one["role"]) if isinstance(one["role"], str) else one["role"]
  if role == _CALL:
    one = {"role": "assistant", _CALL: one.get("content")}
  elif role not in ROLES:
    close = nearest(role, ROLES)
    hint = f"; did you mean {close!r}?" if close else ""
    raise BadExampleError("unknown role", f"got {role!r}, allowed are {', '.join(ROLES)}{hint}")
  else:
    one["role"] = role
  _check_weight(one)
  calls = _calls(one)
  one.pop(_CALL, None)
  one.pop("tool_calls", None)
  one |= {"tool_calls": calls} if calls else {}
  reasoning = next((one[name] for name in REASONING if name in one), None)
  if reasoning is not None:
    one = {"thinking": reasoning, **one, "reasoning_content": reasoning}
  _check_content(one, given)
  return one


def _check_content(one: Message, given: Any) -> None:
  """Whether there is text in a message, or a call in its place."""
  content = one.get("content")
  if content is None and "tool_calls" not in one:
    raise BadExampleError("message without role and content", f"got {json.dumps(given)[:60]}")
  parts = content if isinstance(content, list) and content else [content]
  texts = [part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else part
           for part in parts]  # fmt: skip
  if not all(text is None or isinstance(text, str) for text in texts) or (content is not None and None in texts):
    kinds = [part["type"] for part in parts if isinstance(part, dict) and part.get("type", "text") != "text"]
    detail = f"it has {', '.join(map(str, kinds))}" if kinds else f"got {json.dumps(content)[:60]}"
    raise BadExampleError("message whose content is not text", detail)
  for text in texts:
    optional_text({"content": text}, "content")  # It must be Unicode.


def _check_weight(one: Message) -> None:
  """OpenAI's `weight`: 0 for a turn of the assistant's that is not to be learned."""
  if "weight" in one and (one["weight"] not in (0, 1) or (one["weight"] and one["role"] != "assistant")):
    detail = f"got {one['weight']!r} on a turn of the {one['role']}, allowed are 0, and 1 on the assistant's"
    raise BadExampleError("weight of a message", detail)


def _calls(one: Message) -> list[dict[str, Any]]:
  """The tool calls of a message: `tool_calls`, or `function_call` in OpenAI's and ShareGPT's older form."""
  if one.get(_CALL) is not None:
    value = _parsed(one[_CALL], _CALL) if isinstance(one[_CALL], str) else one[_CALL]
    calls = [{"type": "function", "function": call} for call in (value if isinstance(value, list) else [value])]
  else:
    value = one.get("tool_calls", [])
    calls = _parsed(value, "tool_calls") if isinstance(value, str) and value else value or []
  if not isinstance(calls, list) or not all(isinstance(call_of(call).get("name"), str) for call in calls):
    raise BadExampleError("tool call without the name of a function", f"got {json.dumps(calls)[:60]}")
  if calls and one["role"] != "assistant":
    raise BadExampleError("tool call of another than the assistant", f"its role is {one['role']!r}")
  return calls


def call_of(call: Any) -> dict[str, Any]:
  """The name and the arguments of a tool call, {} where it is none."""
  inner = call.get("function", call) if isinstance(call, dict) else None
  return inner if isinstance(inner, dict) else {}
