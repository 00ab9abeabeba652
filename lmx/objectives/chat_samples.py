# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Where the assistant's answers stand in rendered chats, and what of a chat a template writes at all."""

import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lmx.data.cache.encoding import BadExampleError
from lmx.objectives.chat_rows import REASONING, call_of
from lmx.objectives.chat_template import ChatTemplate, Messages, Rendered, Tools

_PROBES = ("A", "B")  # Answers that differ from their first character on.
_CONTENT = "4711"  # An answer that no template and no special token has in it.
_Spans = list[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class ChatSample:
  """A chat to train on.

  Attributes:
    ids: (n,) int32.
    scored: (n,) bool: the tokens of its answers, those that begin in one, each with the token that ends it.
  """

  ids: np.ndarray
  scored: np.ndarray


def samples(template: ChatTemplate, messages: Messages, tools: Tools, answers: str) -> list[ChatSample]:
  """A chat as one sample with all of its answers, or as one for each answer, which it ends with.

  Args:
    template: of the chat.
    messages: see `lmx.objectives.chat_rows`.
    tools: functions that the assistant may call.
    answers: together | apart | auto: together where the template writes each turn the same when more follows.

  Raises:
    BadExampleError: the template refuses the chat or leaves something out, or "together" would not train what the
      model is asked for.
  """
  learned = [i for i, one in enumerate(messages) if one["role"] == "assistant" and one.get("weight", 1)]
  if not learned:
    roles = [one["role"] for one in messages]
    raise BadExampleError("chat without an assistant turn", f"or none with a weight of 1; its roles: {roles}")
  for i in learned:
    check_answer(template, messages[: i + 1], tools)
  turns = {i: template.render(messages[: i + 1], tools) for i in learned}
  spans = {i: answer_spans(template, messages[: i + 1], tools, turns[i]) for i in learned}
  whole = template.render(messages, tools)
  rewritten = next((i for i in learned if not whole.text.startswith(turns[i].text)), None)
  if rewritten is not None and answers == "together":
    fix = "--config.objective.chat_answers=apart makes one example for each answer"
    raise BadExampleError("the chat template rewrites earlier turns", f"turn {rewritten + 1} when more follows; {fix}")
  if rewritten is not None or answers == "apart":
    return [_sample(template, turns[i], spans[i]) for i in learned]
  return [_sample(template, whole, [span for i in learned for span in spans[i]])]


def check_answer(template: ChatTemplate, messages: Messages, tools: Tools) -> None:
  """Whether there is something to learn in the last turn of a chat, and the template writes it.

  Raises:
    BadExampleError: the turn is empty, or the template leaves its reasoning out.
  """
  one, number = messages[-1], len(messages)
  content = one.get("content") or ""
  texts = [part if isinstance(part, str) else part["text"] for part in content]  # A text is a list of letters, too.
  if not ("".join(texts).strip() or one.get("tool_calls") or one.get("reasoning_content")):
    raise BadExampleError("empty answer", f'turn {number}; "weight": 0 leaves it out of the loss')
  without = {key: value for key, value in one.items() if key not in REASONING}
  if one.get("reasoning_content") and _leaves_out(template, messages, without, tools):
    raise BadExampleError("reasoning that the chat template doesn't write", f"turn {number}; {_OTHER_TEMPLATE}")


def last_answer(template: ChatTemplate, messages: Messages, tools: Tools = None) -> ChatSample:
  """A chat that ends with the answer to be scored.

  Raises:
    BadExampleError: the template refuses the chat, or there is no answer to be scored.
  """
  check_answer(template, messages, tools)
  rendered = template.render(messages, tools)
  return _sample(template, rendered, answer_spans(template, messages, tools, rendered))


def answer_end(template: ChatTemplate, messages: Messages, tools: Tools = None) -> int | None:
  """The token that ends an answer to a chat, or None where the template writes none.

  It is the first special token after the answer, possibly the header of the next turn; without one, the last token that
  the model is trained to write.
  """
  answered = [*messages, {"role": "assistant", "content": _CONTENT}]
  try:
    rendered = template.render(answered, tools)
    spans = answer_spans(template, answered, tools, rendered)
    ids, starts = _after_content(template, rendered)
    special = _first_special(template, ids)
  except BadExampleError:
    return None
  if special is None:
    special = _header_after(template, answered, tools)
  last = ids[starts < spans[-1][1]]
  return int(last[-1]) if special is None and len(last) else special


def _after_content(template: ChatTemplate, rendered: Rendered) -> tuple[np.ndarray, np.ndarray]:
  """The ids after the answer that is asked for, and the character that each begins with; none where it isn't there."""
  ids, starts = template.encode(rendered)
  content = rendered.text.rfind(_CONTENT)
  after = starts >= content + len(_CONTENT) if content >= 0 else starts < 0
  return ids[after], starts[after]


def _first_special(template: ChatTemplate, ids: np.ndarray) -> int | None:
  found = ids[np.isin(ids, list(template.special_tokens.values()))]
  return int(found[0]) if len(found) else None


def _header_after(template: ChatTemplate, answered: Messages, tools: Tools) -> int | None:
  """The special token with which the user's next turn begins, if it does."""
  try:
    rendered = template.render([*answered, {"role": "user", "content": "."}], tools)
  except BadExampleError:
    return None
  return _first_special(template, _after_content(template, rendered)[0])


def _sample(template: ChatTemplate, rendered: Rendered, spans: _Spans) -> ChatSample:
  ids, starts = template.encode(rendered)
  scored = np.zeros(len(ids), bool)
  for begin, end in spans:
    scored |= (starts >= begin) & (starts < end)
  return ChatSample(ids, scored)


# ---------------------------------------------------------------- places


def answer_spans(template: ChatTemplate, messages: Messages, tools: Tools, rendered: Rendered) -> _Spans:
  """The characters of the answer that ends a chat.

  They are those inside {% generation %}; in a template without it, those after the request for an answer, or else
  the header of an assistant's turn.

  Raises:
    BadExampleError: none of these can be found.
  """
  text, earlier = rendered.text, messages[:-1]
  if template.marks_answers:
    before = any(one["role"] == "assistant" for one in earlier)
    spans = [*rendered.marked][len(template.render(earlier, tools).marked) if before else 0 :]
  else:
    headers = (_request(template, earlier, tools), _header(template, messages, tools))
    begin = next((len(one) for one in headers if one and text.startswith(one)), None)
    spans = [] if begin is None else [(begin, len(text))]
  if not any(begin < end for begin, end in spans):
    detail = f"of turn {len(messages)}; mark answers in it with {{% generation %}}"
    raise BadExampleError("the chat template hides where an answer begins", detail)
  return [_trimmed(template, text, one) for one in spans]


def follows_request(template: ChatTemplate, messages: Messages, tools: Tools) -> bool:
  """Whether the first answer of a chat directly follows the generation prompt of the template."""
  first = next((i for i, one in enumerate(messages) if one["role"] == "assistant"), 0)
  request = _request(template, messages[:first], tools)
  return request is None or template.render(messages[: first + 1], tools).text.startswith(request)


def _request(template: ChatTemplate, messages: Messages, tools: Tools) -> str | None:
  """What an answer to a chat follows, as text; None where the template refuses to ask, as before a first turn."""
  try:
    return template.render(messages, tools, ask=True).text if messages else None
  except BadExampleError:
    return None


def _header(template: ChatTemplate, messages: Messages, tools: Tools) -> str:
  """What a template writes before the content of the last turn, whatever that is."""
  probes = [[*messages[:-1], {"role": "assistant", "content": probe}] for probe in _PROBES]
  first, second = (template.render(one, tools).text for one in probes)
  same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
  return first[: sum(1 for _ in same)]


def _trimmed(template: ChatTemplate, text: str, answer: tuple[int, int]) -> tuple[int, int]:
  """An answer without the spaces after the special token that ends it: generation stops at the token."""
  begin, end = answer
  stripped = text[begin:end].rstrip()
  return (begin, begin + len(stripped)) if stripped.endswith(tuple(template.special_tokens)) else answer


# ---------------------------------------------------------------- what a template can write


def fitted(template: ChatTemplate, messages: Messages, tools: Tools) -> list[dict[str, Any]]:
  """The messages in a form that the template writes.

  Content parts become one text if the template supports only texts, and calls get an empty content where it needs one.
  The arguments of tool calls become objects where it would write their text as a JSON string, and text where it takes
  nothing else.

  Raises:
    BadExampleError: the template refuses the chat, or leaves out tools or calls.
  """
  chat = [_joined(template, one) for one in messages]
  if any("tool_calls" in one for one in chat):
    chat = _first_that_fits(template, chat, tools)
  if tools is not None and template.render(chat, tools) == template.render(chat, None):
    raise BadExampleError("tools that the chat template doesn't write", _OTHER_TEMPLATE)
  for index, one in enumerate(chat):
    through = chat[: index + 1]
    if any(_leaves_out(template, through, changed, tools) for changed in _renamed(one)):
      raise BadExampleError("tool call that the chat template doesn't write", f"turn {index + 1}; {_OTHER_TEMPLATE}")
  return chat


_OTHER_TEMPLATE = "--config.objective.chat_template=FILE names one that can; or remove it from the row"


def _leaves_out(template: ChatTemplate, messages: Messages, changed: Mapping[str, Any], tools: Tools) -> bool:
  """Whether a template writes the same for another last turn."""
  return template.render([*messages[:-1], changed], tools).text == template.render(messages, tools).text


def _renamed(one: dict[str, Any]) -> Iterator[dict[str, Any]]:
  """A message with the name of one of its tool calls changed, for each of them."""
  calls = one.get("tool_calls", [])
  for index, call in enumerate(calls):
    other = _with_call(call, name=call_of(call)["name"] + "_")
    yield {**one, "tool_calls": [*calls[:index], other, *calls[index + 1 :]]}


def _with_call(call: dict[str, Any], **changes: Any) -> dict[str, Any]:
  changed = {**call_of(call), **changes}
  return {**call, "function": changed} if "function" in call else changed


def _joined(template: ChatTemplate, one: Mapping[str, Any]) -> dict[str, Any]:
  """A message whose content parts are one text, unless the template writes parts itself."""
  parts = one.get("content")
  if not isinstance(parts, list) or template.takes_parts(one["role"]):
    return dict(one)
  return {**one, "content": "".join(part if isinstance(part, str) else part["text"] for part in parts)}


def _first_that_fits(template: ChatTemplate, chat: list[dict[str, Any]], tools: Tools) -> list[dict[str, Any]]:
  """A chat with calls in the first form that the template takes.

  Turns without content have none, as `transformers` hands them on, or null or an empty text.
  """
  problems = []
  for contents in ({}, {"content": None}, {"content": ""}):
    try:
      return _with_arguments(template, [{**contents, **one} for one in chat], tools)
    except BadExampleError as error:
      problems.append(error)
  raise problems[0]


def _with_arguments(template: ChatTemplate, chat: list[dict[str, Any]], tools: Tools) -> list[dict[str, Any]]:
  """The arguments of all tool calls as they were given, or else as objects, or else as text: the first that fits.

  Text that the template doesn't write as it stands is a JSON string within JSON there.
  """
  try:
    text = template.render(chat, tools).text
    if all(given in text and _quoted(given) not in text for given in _argument_texts(chat)):
      return chat
  except BadExampleError as error:
    problem = error
  else:
    return _rewritten(chat, _as_object)
  for form in (_as_object, _as_text):
    other = _rewritten(chat, form)
    try:
      template.render(other, tools)
      return other
    except BadExampleError:
      continue
  raise problem


def _quoted(value: Any) -> str:
  return json.dumps(value, ensure_ascii=False)


def _argument_texts(chat: Sequence[Mapping[str, Any]]) -> list[str]:
  values = [call_of(call).get("arguments") for one in chat for call in one.get("tool_calls", ())]
  return [value for value in values if isinstance(value, str)]


def _rewritten(chat: list[dict[str, Any]], form: Any) -> list[dict[str, Any]]:
  return [
    {**one, "tool_calls": [_with_call(call, arguments=form(call_of(call).get("arguments"))) for call in calls]}
    if (calls := one.get("tool_calls"))
    else one
    for one in chat
  ]


def _as_object(value: Any) -> Any:
  if not isinstance(value, str):
    return value
  try:
    return json.loads(value)
  except ValueError as error:
    raise BadExampleError("arguments of a tool call that are not JSON", str(error)) from error


def _as_text(value: Any) -> Any:
  return value if isinstance(value, str) else _quoted(value)
