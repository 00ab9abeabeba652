# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Random changes of JSON values, bytes and files: the one vocabulary of every kind of input."""

import copy
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Values that stand where others are expected.
ODD: tuple[Any, ...] = (
  None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 1e308, 1.5, -0.5, float("nan"), float("inf"), "", " ", "x", "12",
  "[{", "[]", '[{"role": "user"}]', "</s>", "none", "default", "linear", "\x00", "\ud800", "\ufdd0",
  [], [1], [1, 2], [None], [[]], [{}], {}, {"a": 1}, {"": None}, {"type": "text", "text": None}, {"type": "image"},
)  # fmt: skip
_MOST_PLACES = 5000
_CUTS = (1, 1, 4, 30, 100)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
  """(container, key) of everything within a JSON value."""
  keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
  for key in keys:
    yield value, key
    yield from places(value[key])


def changed_value(value: Any, pick: random.Random, names: Sequence[str] = ()) -> Any:
  """A JSON value with one to three of its parts replaced, removed, renamed, repeated or of another type.

  Args:
    value: stays as it is.
    pick: the source of randomness.
    names: keys that parts may be renamed to.
  """
  box = [copy.deepcopy(value)]
  for _ in range(pick.choice((1, 1, 1, 2, 3))):
    found = list(places(box))[:_MOST_PLACES]
    if found:
      _change_place(*pick.choice(found), pick, names)
  return box[0] if box else None


def _change_place(container: Any, key: Any, pick: random.Random, names: Sequence[str]) -> None:
  how = pick.random()
  if how < 0.5:
    container[key] = copy.deepcopy(pick.choice(ODD))
  elif how < 0.65:
    del container[key]
  elif how < 0.75:
    container[key] = _of_another_type(container[key])
  elif isinstance(container, dict):
    name = pick.choice(names) if names and pick.random() < 0.5 else misspelled(str(key), pick)
    container[name] = container[key] if pick.random() < 0.3 else container.pop(key)


def _of_another_type(value: Any) -> Any:
  """The same, as a text, or within a list."""
  return str(value) if isinstance(value, int | float) else [value]


def misspelled(word: str, pick: random.Random) -> str:
  """A word without one of its letters, or with one twice."""
  place = pick.randrange(len(word)) if word else 0
  return (
    word[:place] + word[place + 1 :] if pick.random() < 0.5 else word[:place] + word[place : place + 1] + word[place:]
  )


def changed_bytes(data: bytes, pick: random.Random) -> bytes:
  """Bytes with a few of them changed, left out, put in, repeated, or with their end cut off."""
  changed = bytearray(data)
  for _ in range(pick.choice((1, 1, 2, 5, 20))):
    place = pick.randrange(len(changed)) if changed else 0
    end = place + pick.choice(_CUTS)
    how = pick.randrange(5)
    if how == 0:
      changed[place : place + 1] = bytes([pick.randrange(256)])
    elif how == 1:
      del changed[place:end]
    elif how == 2:
      changed[place:place] = pick.randbytes(pick.randrange(1, 9))
    elif how == 3:
      changed[place:place] = changed[place:end]
    else:
      del changed[place:]
  return bytes(changed)


def change_file(file: Path, pick: random.Random, names: Sequence[str] = (), *, values: float = 0.9) -> None:
  """Changes a file: its values, where it holds JSON, or its bytes.

  Args:
    file: any.
    pick: the source of randomness.
    names: keys that parts may be renamed to.
    values: share of the JSON files whose values are changed; of the others it is the bytes.
  """
  data = file.read_bytes()
  if file.suffix not in (".json", ".jsonl") or pick.random() >= values:
    file.write_bytes(changed_bytes(data, pick))
    return
  texts = data.decode().splitlines() if file.suffix == ".jsonl" else [data.decode()]
  number = pick.randrange(len(texts))
  texts[number] = json.dumps(changed_value(json.loads(texts[number]), pick, names))
  file.write_text("\n".join(texts) + "\n", encoding="utf-8", errors="surrogatepass")
