# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Chats to text by Jinja templates, as `transformers` renders them, with the places of the assistant's answers.

A template is somebody else's program. It runs in Jinja's sandbox, which gives it nothing but the messages. The clock
(`strftime_now`) is left out, so that a chat has the same tokens every day.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import numpy as np

from lmx.data.encoding import BadExampleError
from lmx.data.vocabulary import Tokenizer
from lmx.errors import LmxError, message

Messages = Sequence[Mapping[str, Any]]
# ChatML with the start of a document before it. A tokenizer without <|im_end|> ends a turn as it ends a document, which
# is where generation stops.
CHATML = (
  "{{ bos_token }}{% for message in messages %}"
  "{{ '<|im_start|>' + message['role'] + '\n' }}"
  "{% if message['role'] == 'assistant' %}"
  "{% generation %}{{ message['content'] + turn_end }}{% endgeneration %}"
  "{% else %}{{ message['content'] + turn_end }}{% endif %}"
  "{{ '\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_TURN_END = "<|im_end|>"
# Characters that are none in Unicode: marks around an answer, and one within a special token that a person wrote.
_OPEN, _CLOSE, _BREAK = "\ufdd0", "\ufdd1", "\ufdd2"
_MARKS = re.compile(f"[{_OPEN}{_CLOSE}{_BREAK}]")
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


@dataclasses.dataclass(frozen=True)
class Rendered:
  """A chat as text.

  Attributes:
    text: all of it.
    answers: (first character, character after the last) of each of the assistant's turns.
    broken: places in the text within special tokens that a person wrote, which are to be read as plain text.
  """

  text: str
  answers: tuple[tuple[int, int], ...]
  broken: tuple[int, ...]


class _Generation(jinja2.ext.Extension):
  """{% generation %} ... {% endgeneration %}: the assistant's part of a turn."""

  tags = {"generation"}  # noqa: RUF012 (jinja's own declaration)

  def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
    line = next(parser.stream).lineno
    body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
    return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

  def _marked(self, caller: Any) -> str:
    return _OPEN + caller() + _CLOSE


def _raise_exception(text: str) -> None:
  raise jinja2.TemplateError(text)


def _to_json(value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
  return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _environment() -> jinja2.Environment:
  extensions = [_Generation, jinja2.ext.loopcontrols]
  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=extensions
  )
  environment.filters["tojson"] = _to_json
  environment.globals["raise_exception"] = _raise_exception
  return environment


class ChatTemplate:
  """A template with the tokenizer whose special tokens it writes."""

  def __init__(self, source: str, tokenizer: Tokenizer, where: str = "chat template"):
    """Compiles a template.

    Args:
      source: Jinja.
      tokenizer: the run's.
      where: the template's file, for messages.

    Raises:
      LmxError: it is not a Jinja template.
    """
    self.source, self._tokenizer = source, tokenizer
    self._marks_answers = bool(_GENERATION.search(source))
    self._special_ids = tokenizer.special_tokens
    longest_first = sorted(self._special_ids, key=len, reverse=True)
    self._special = re.compile("|".join(map(re.escape, longest_first)))
    self._variables = {
      "bos_token": tokenizer.piece(tokenizer.bos_id),
      "eos_token": tokenizer.piece(tokenizer.eos_id),
      "pad_token": tokenizer.piece(tokenizer.pad_id),
      "turn_end": _TURN_END if _TURN_END in self._special_ids else tokenizer.piece(tokenizer.eos_id),
      "tools": None,
      "documents": None,
    }
    try:
      self._template = _environment().from_string(source)
    except jinja2.TemplateError as error:
      raise LmxError(f"{where} is not a Jinja template: {error}") from error

  def render(self, messages: Messages, *, ask: bool = False) -> Rendered:
    """A chat as text. Special tokens that somebody wrote into a message are marked, to be read as plain text.

    Args:
      messages: each with a role and a content.
      ask: end with what the assistant's next answer follows (add_generation_prompt).

    Raises:
      BadExampleError: the template refuses the chat, or answers cannot be found in what it writes.
    """
    marked = self._run(messages, ask=ask)
    text, answers, broken = _without_marks(marked)
    if not self._marks_answers:
      answers = self._answers(messages, text)
    return Rendered(text, tuple(self._trimmed(text, one) for one in answers), tuple(broken))

  def _run(self, messages: Messages, *, ask: bool) -> str:
    plain = [{key: self._plain(value) for key, value in one.items()} for one in messages]
    try:
      return self._template.render(messages=plain, add_generation_prompt=ask, **self._variables)
    except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
      raise BadExampleError("the chat template refuses this chat", str(error)) from error

  def _plain(self, value: Any) -> Any:
    """A value of a message without marks of ours, and with one in each special token."""
    if isinstance(value, str):
      return self._special.sub(lambda found: found[0][0] + _BREAK + found[0][1:], _MARKS.sub("", value))
    if isinstance(value, list):
      return [self._plain(one) for one in value]
    return {key: self._plain(one) for key, one in value.items()} if isinstance(value, dict) else value

  def _answers(self, messages: Messages, text: str) -> list[tuple[int, int]]:
    """Where each answer begins and ends: after what asks for it, and where the chat up to it ends."""
    found = []
    for index, one in enumerate(messages):
      if one["role"] == "assistant":
        before, _, _ = _without_marks(self._run(messages[:index], ask=True))
        through, _, _ = _without_marks(self._run(messages[: index + 1], ask=False))
        if not (through.startswith(before) and text.startswith(through)):
          detail = f"turn {index + 1} is written otherwise when more follows; mark answers with {{% generation %}}"
          raise BadExampleError("the chat template hides where answers begin", detail)
        found.append((len(before), len(through)))
    return found

  def _trimmed(self, text: str, answer: tuple[int, int]) -> tuple[int, int]:
    """An answer without the spaces after the special token that ends it: generation stops at the token."""
    begin, end = answer
    stripped = text[begin:end].rstrip()
    return (begin, begin + len(stripped)) if stripped.endswith(tuple(self._special_ids)) else answer

  def encode(self, messages: Messages, *, ask: bool = False) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The ids of a chat (n,) int32, and of each answer the places of its tokens: those that begin in it.

    Raises:
      BadExampleError: see `render`.
    """
    rendered = self.render(messages, ask=ask)
    ids, starts = self._ids(rendered)
    return ids, tuple(np.flatnonzero((starts >= begin) & (starts < end)) for begin, end in rendered.answers)

  def _ids(self, rendered: Rendered) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a text whose special tokens count as such, and the character each begins with."""
    text, broken = rendered.text, np.array(rendered.broken, np.int64)
    ids, starts, done = [], [], 0

    def add_text(end: int) -> None:
      if end > done:
        part, offsets = self._tokenizer.encode_with_offsets(text[done:end])
        ids.append(part)
        starts.append(done + offsets[:, 0])

    for found in self._special.finditer(text):
      if not np.any((broken > found.start()) & (broken < found.end())):
        add_text(found.start())
        ids.append(np.array([self._special_ids[found[0]]]))
        starts.append(np.array([found.start()]))
        done = found.end()
    add_text(len(text))
    return np.concatenate(ids).astype(np.int32), np.concatenate(starts)


def _without_marks(marked: str) -> tuple[str, list[tuple[int, int]], list[int]]:
  """(text, answers, broken), see `Rendered`."""
  pieces: list[str] = []
  answers: list[tuple[int, int]] = []
  broken: list[int] = []
  size = done = begin = 0
  for found in _MARKS.finditer(marked):
    pieces.append(marked[done : found.start()])
    size, done = size + len(pieces[-1]), found.end()
    if found[0] == _OPEN:
      begin = size
    elif found[0] == _CLOSE:
      answers.append((begin, size))
    else:
      broken.append(size)
  return "".join([*pieces, marked[done:]]), answers, broken


def find_template(tokenizer: Tokenizer, path: str | None) -> ChatTemplate:
  """The template of a file, else the tokenizer's own, else ChatML.

  Raises:
    LmxError: the file is not there or not a template.
  """
  if path is None:
    return ChatTemplate(tokenizer.chat_template or CHATML, tokenizer, "the tokenizer's chat template")
  file = Path(path).expanduser()
  if not file.is_file():
    raise LmxError(message("config.objective.chat_template", got=path, allowed="a file with a Jinja template"))
  return ChatTemplate(file.read_text(encoding="utf-8"), tokenizer, str(file))
