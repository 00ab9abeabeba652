# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Mutates rows of every objective and shows that each one is encoded or refused in a sentence, never with a traceback.

python -m tools.fuzz_rows --mutations=10000
"""

import argparse
import collections
import contextlib
import copy
import json
import random
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from lmx.data.content import ExampleContent, Item
from lmx.data.document import Record
from lmx.data.tokenizer import ByteTokenizer
from lmx.errors import LmxError
from lmx.objectives import OBJECTIVES
from lmx.objectives.base import Setting
from lmx.tasks import unanswered

JUNK = (
  None, float("nan"), float("inf"), 0, 1.5, -1, 10**30, True, "", " ", "x", "[{", "[]", '[{"role": "user"}]', [], {},
  [None], [[]], {"a": 1}, [1, 2], [{}], "\ud800", "\x00", "</s>", "\ufdd0", {"type": "text", "text": None},
  {"type": "image"},
)  # fmt: skip
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
OPTIONS: dict[str, dict[str, Any]] = {
  "chat": {"z_loss": 0.0, "chat_template": None},
  "dpo": {"dpo_beta": 0.1, "chat_template": None},
  "classification": {"multi_label": False},
  "contrastive": {"temperature": 0.1},
  "seq2seq": {"z_loss": 0.0, "label_smoothing": 0.0},
}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
  """(container, key) of everything within a row."""
  keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
  for key in keys:
    yield value, key
    yield from places(value[key])


def mutated(row: dict[str, Any], rng: random.Random) -> dict[str, Any]:
  """A row with one to three of its parts replaced, removed or renamed."""
  row = copy.deepcopy(row)
  for _ in range(rng.randint(1, 3)):
    found = list(places(row))
    if found:
      container, key = rng.choice(found)
      what = rng.random()
      if what < 0.6:
        container[key] = copy.deepcopy(rng.choice(JUNK))
      elif what < 0.8:
        del container[key]
      elif isinstance(container, dict):
        container[rng.choice(NAMES)] = container.pop(key)
  return row


def readers() -> dict[str, Callable[[dict[str, Any]], bool]]:
  """Objective -> whether a row becomes an example, as the data room and `lmx predict` read it."""
  tokenizer, found = ByteTokenizer(), {}
  tokenizer.chat_template = TEMPLATE
  for name in ROWS:
    family = OBJECTIVES[name].families[0]
    labels = ("no", "yes") if OBJECTIVES[name].labelled else ()
    objective = OBJECTIVES[name].make(Setting(tokenizer, 256, 256, family, labels, 2), **OPTIONS.get(name, {}))
    assert objective.encoder is not None
    found[name] = _reader(name, ExampleContent(tokenizer, objective.encoder), objective.encoder.columns)
  return found


def _reader(name: str, content: ExampleContent, needed: tuple[str, ...]) -> Callable[[dict[str, Any]], bool]:
  def read(row: dict[str, Any]) -> bool:
    if any(column not in row for column in needed):
      return False  # Readers of files report these.
    if name == "chat":
      with contextlib.suppress(LmxError):
        unanswered(row)
    return content.encode([Item(Record(row, "row"), b"")]).values[0] is not None

  return read


def fuzz(mutations: int, seed: int) -> dict[str, collections.Counter[str]]:
  """Objective -> how many rows were encoded, refused, and ended in a traceback, which is printed."""
  rng, read = random.Random(seed), readers()
  counts: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in ROWS}
  for _ in range(mutations):
    name = rng.choice(list(ROWS))
    row = mutated(rng.choice(ROWS[name]), rng)
    try:
      counts[name]["encoded" if read[name](row) else "refused"] += 1
    except Exception:  # What this program looks for.
      counts[name]["tracebacks"] += 1
      print(f"{name}: {row!r:.300}\n{traceback.format_exc(limit=-2)}")
  return counts


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--mutations", type=int, default=10_000)
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args()
  counts = fuzz(args.mutations, args.seed)
  for name, count in counts.items():
    print(
      f"{name:15} {count['encoded']:6,} encoded  {count['refused']:6,} refused  {count['tracebacks']:4,} tracebacks"
    )
  raise SystemExit(any(count["tracebacks"] for count in counts.values()))


if __name__ == "__main__":
  main()
