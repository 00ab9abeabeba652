# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Chats to text by Jinja templates, as `transformers` renders them.

A template is somebody else's program. It runs in Jinja's sandbox, which gives it nothing but the chat, and in a process
of its own with limits of time and memory (`lmx.limits`). Its clock (`strftime_now`) stands still at a date of the
config, so that a chat has the same tokens every day.
"""

import dataclasses
import datetime
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lmx.data.cache.encoding import BadExampleError
from lmx.data.tokenizers.vocabulary import Tokenizer
from lmx.data.tokenizers.written_tokens import HIDDEN, written_pattern
from lmx.errors import LmxError, message
from lmx.objectives.template_process import PROCESS, TemplateRefusedError
from lmx.paths import any_path

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]] | None
# ChatML with START, the start of a document, before it. Turns END with <|im_end|> where the tokenizer has it, else as a
# document ends, which is where generation stops. A run's template spells both out, so that any program can render it.
CHATML = (
  "{{ START }}{% for message in messages %}"
  "{{ '<|im_start|>' + message['role'] + '\n' }}"
  "{% if message['role'] == 'assistant' %}"
  "{% generation %}{{ message['content'] + END }}{% endgeneration %}"
  "{% else %}{{ message['content'] + END }}{% endif %}"
  "{{ '\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_TURN_END = "<|im_end|>"
# Characters that are none in Unicode: marks around an answer, and one within a special token that a person wrote.
_OPEN, _CLOSE, _BREAK = "\ufdd0", "\ufdd1", "\ufdd2"
_MARKS = re.compile(f"[{_OPEN}{_CLOSE}{_BREAK}]")
_NEVER_TYPED = re.compile(f"[{_OPEN}{_CLOSE}{_BREAK}{HIDDEN}]")
DATE = "2024-07-26"  # What Llama 3's template takes for today where there is no clock.
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


@dataclasses.dataclass(frozen=True)
class Rendered:
  """A chat as text.

  Attributes:
    text: all of it.
    marked: (first character, character after the last) of what the template puts into {% generation %}.
    broken: places in the text within special tokens that a person wrote, which are to be read as plain text.
  """

  text: str
  marked: tuple[tuple[int, int], ...]
  broken: tuple[int, ...]


class ChatTemplate:
  """A template with the tokenizer whose special tokens it writes.

  Attributes:
    source: Jinja.
    marks_answers: whether it has {% generation %}.
    special_tokens: each special token as it is written, and its id.
  """

  def __init__(self, source: str, tokenizer: Tokenizer, where: str = "chat template", date: str = DATE):
    """Compiles a template.

    Args:
      source: Jinja.
      tokenizer: the run's.
      where: the template's file, for messages.
      date: what `strftime_now` takes for today, YYYY-MM-DD.

    Raises:
      LmxError: it is not a Jinja template, or takes too long to compile, or the date is none.
    """
    self.source, self.date, self._tokenizer, self._where = source, date, tokenizer, where
    self.marks_answers = bool(_GENERATION.search(source))
    self.special_tokens = {name: token for name, token in tokenizer.special_tokens.items() if name.strip()}
    self._special = written_pattern(self.special_tokens)
    self._takes_parts: dict[str, bool] = {}
    _check_date(date)
    try:
      PROCESS.render(source, date, None, where)
    except TemplateRefusedError as error:
      raise LmxError(f"{where} is not a Jinja template: {error}") from error

  def render(self, messages: Messages, tools: Tools = None, *, ask: bool = False) -> Rendered:
    """A chat as text. Special tokens that somebody wrote into a message are marked, to be read as plain text.

    Args:
      messages: each with a role and mostly a content, as `lmx.objectives.chat_rows` makes them.
      tools: JSON schemas of functions that the assistant may call.
      ask: end with what the assistant's next answer follows (add_generation_prompt).

    Raises:
      BadExampleError: the template refuses the chat, or writes more than the limits allow.
      LmxError: it takes more time or memory than they allow.
    """
    chat = [{key: self._plain(value) for key, value in one.items()} for one in messages]
    given = {"tools": self._plain(tools), "documents": None, **self._tokenizer.named_tokens, "messages": chat,
             "add_generation_prompt": ask}  # fmt: skip
    try:
      return _without_marks(PROCESS.render(self.source, self.date, given, self._where))
    except TemplateRefusedError as error:
      raise BadExampleError("the chat template refuses this chat", str(error)) from error

  def _plain(self, value: Any) -> Any:
    """A value of a message without marks of ours, and with one in each special token."""
    if isinstance(value, str):
      return self._special.sub(lambda found: found[0][0] + _BREAK + found[0][1:], _NEVER_TYPED.sub("", value))
    if isinstance(value, list):
      return [self._plain(one) for one in value]
    return {key: self._plain(one) for key, one in value.items()} if isinstance(value, dict) else value

  def takes_parts(self, role: str) -> bool:
    """Whether the template writes contents that are lists of text parts, in turns with a role."""
    if role not in self._takes_parts:
      parts = [{"type": "text", "text": text} for text in ("qa", "qb")]
      around = {"user": [], "assistant": [{"role": "user", "content": "q"}]}
      after = [{"role": "user", "content": "q"}] if role in ("system", "developer") else []
      try:
        text = self.render([*around.get(role, []), {"role": role, "content": parts}, *after]).text
      except BadExampleError:
        text = ""
      # A template without support for parts writes the list itself, as Python or JSON spell it.
      self._takes_parts[role] = "qa" in text and "qb" in text and not re.search("[\"']type[\"']", text)
    return self._takes_parts[role]

  def encode(self, rendered: Rendered) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a rendered chat (n,) int32, and the character of its text that each begins with (n,).

    Raises:
      BadExampleError: a person wrote a special token that the tokenizer can't read as plain text.
    """
    try:
      ids, offsets = self._tokenizer.encode_written(rendered.text, rendered.broken)
    except ValueError as error:
      raise BadExampleError("a special token in a message", str(error)) from error
    return ids, offsets[:, 0]

  def encode_asked(self, messages: Messages, tools: Tools = None) -> np.ndarray:
    """The ids of a chat up to where the assistant's next answer begins, (n,) int32.

    Raises:
      BadExampleError: the template refuses the chat.
    """
    return self.encode(self.render(messages, tools, ask=True))[0]


def _check_date(date: str) -> None:
  try:
    datetime.datetime.strptime(date, "%Y-%m-%d")
  except ValueError as error:
    raise LmxError(message("config.objective.chat_date", got=date, allowed="a day, as 2024-07-26")) from error


def _without_marks(marked: str) -> Rendered:
  pieces: list[str] = []
  regions: list[tuple[int, int]] = []
  broken: list[int] = []
  size = done = begin = 0
  for found in _MARKS.finditer(marked):
    pieces.append(marked[done : found.start()])
    size, done = size + len(pieces[-1]), found.end()
    if found[0] == _OPEN:
      begin = size
    elif found[0] == _CLOSE:
      regions.append((begin, size))
    else:
      broken.append(size)
  return Rendered("".join([*pieces, marked[done:]]), tuple(regions), tuple(broken))


def chatml(tokenizer: Tokenizer) -> str:
  """The built-in template, in words that `transformers` renders too."""
  end = _TURN_END if _TURN_END in tokenizer.special_tokens else tokenizer.piece(tokenizer.eos_id)
  words = {"START": tokenizer.piece(tokenizer.bos_id), "END": end}
  return re.sub("START|END", lambda found: json.dumps(words[found[0]], ensure_ascii=False), CHATML)


def find_template(tokenizer: Tokenizer, path: str | None, date: str = DATE) -> ChatTemplate:
  """The template of a file, else the tokenizer's own, else ChatML.

  Raises:
    LmxError: the file is not there or not a template, or the date is none.
  """
  if path is None:
    source = tokenizer.chat_template or chatml(tokenizer)
    return ChatTemplate(source, tokenizer, "the tokenizer's chat template", date)
  file = any_path(path, "config.objective.chat_template")
  if not file.is_file():
    raise LmxError(message("config.objective.chat_template", got=path, allowed="a file with a Jinja template"))
  return ChatTemplate(file.read_text(encoding="utf-8"), tokenizer, str(file), date)
