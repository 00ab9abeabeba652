# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Changed rows of every objective that reads columns."""

import contextlib
import functools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmx.api.tasks import unanswered
from lmx.config.table import defaults
from lmx.data.cache.content import ExampleContent, Item
from lmx.data.document import Record
from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.errors import LmxError
from lmx.objectives import OBJECTIVES
from lmx.objectives.base import ObjectiveContext
from tools.fuzz.loop import Case
from tools.fuzz.mutations import changed_value

NAMES = ("role", "from", "value", "content", "weight", "tool_calls", "function_call", "tools", "text", "answer_start")
_CALL = {"name": "weather", "arguments": {"city": "Ulm"}}
_CHATS = (
  {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "y", "weight": 1}]},
  {"messages": [{"role": "assistant", "tool_calls": [{"type": "function", "function": _CALL}]},
                {"role": "tool", "content": "s"},
                {"role": "assistant", "content": [{"type": "text", "text": "y"}], "reasoning_content": "r"}],
   "tools": [{"type": "function", "function": {"name": "weather"}}]},
  {"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": json.dumps(_CALL)},
                     {"from": "observation", "value": "s"}, {"from": "gpt", "value": "y"}], "system": "s"},
  {"instruction": "q", "input": "i", "output": "y"},
  {"prompt": "q", "completion": "y"},
)  # fmt: skip
# A template that writes everything, so that most rows get as far as possible.
TEMPLATE = (
  "{{ tools | tojson if tools }}{% for m in messages %}{{ m.role }}:{{ m.reasoning_content }}"
  "{% if m.content is string %}{{ m.content }}"
  "{% else %}{% for part in m.content or [] %}{{ part.text }}{% endfor %}{% endif %}"
  "{% for call in m.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}{{ eos_token }}{% endfor %}"
  "{% if add_generation_prompt %}assistant:{% endif %}"
)
ROWS: dict[str, tuple[dict[str, Any], ...]] = {
  "chat": _CHATS,
  "dpo": ({"prompt": "q", "chosen": "y", "rejected": "n"},
          {"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "y"}],
           "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "n"}]}),
  "classification": ({"text": "a", "text_b": "b", "label": "yes"},),
  "regression": ({"text": "a", "text_b": "b", "label": 1.5},),
  "contrastive": ({"text": "a", "text_b": "b"},),
  "tagging": ({"tokens": ["a", "b"], "tags": ["yes", "no"]}, {"tokens": "a b", "tags": "yes no"}),
  "span": ({"question": "q", "context": "born in Ulm", "answers": {"text": ["Ulm", "in"], "answer_start": [8, 5]}},
           {"question": "q", "context": "born in Ulm", "answer": "Ulm", "answer_start": 8, "answers": ["in"]}),
  "seq2seq": ({"source": "a", "target": "b"},),
}  # fmt: skip


@functools.cache
def reader(name: str) -> Callable[[dict[str, Any]], bool]:
  """Whether a row becomes an example of an objective, as the data room and `lmx predict` read it."""
  tokenizer = ByteTokenizer()
  tokenizer.chat_template = TEMPLATE
  family, labels = OBJECTIVES[name].families[0], ("no", "yes") if OBJECTIVES[name].labelled else ()
  row = OBJECTIVES[name]
  objective = row.build(ObjectiveContext(tokenizer, 256, 256, family, labels, 2), defaults("objective", row.options))
  assert objective.encoder is not None
  content, needed = ExampleContent(tokenizer, objective.encoder), objective.encoder.columns

  def read(row: dict[str, Any]) -> bool:
    if any(column not in row for column in needed):
      return False  # Readers of files report these.
    if name == "chat":
      with contextlib.suppress(LmxError):
        unanswered(row)
    return content.encode([Item(Record(row, "row"), b"")]).values[0] is not None

  return read


def row(folder: Path, pick: random.Random) -> Case:
  """A row of one objective."""
  name = pick.choice(list(ROWS))
  good = pick.choice(ROWS[name])
  changed = changed_value(good, pick, NAMES)
  changed = changed if isinstance(changed, dict) else good | {"extra": changed}
  return Case(name, repr(changed), lambda: reader(name)(changed))
