# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Validates a tokenizer.json before the `tokenizers` library reads it.

The library iterates from 0 to the highest id, so a single id of a damaged or hostile file costs hours and all memory;
of two tokens with one id it uses either, depending on its hash table; a template's token without an id ends in a panic,
which isn't an Exception in Python; and its messages about a field of the wrong type don't name the field.
"""

from collections.abc import Iterable
from typing import Any

from lmx.errors import LmxError, message

MAX_IDS = 10_000_000  # The largest published tokenizers have 262,144.
_KINDS: dict[type, str] = {dict: "an object", list: "a list"}


def check_tokenizer_json(values: Any, where: str) -> None:
  """Checks the types of a tokenizer.json's fields and the range of its ids.

  Args:
    values: the parsed file.
    where: its path, for messages.

  Raises:
    LmxError: a field of the wrong type, a duplicate id, or an id beyond MAX_IDS.
  """
  if not isinstance(values, dict):
    raise _refuse(where, "the file", values, "an object")
  model = _field(values, "model", dict, where)
  vocabulary = model.get("vocab")
  if not isinstance(vocabulary, dict | list):
    raise _refuse(where, "model.vocab", vocabulary, "an object of tokens and their ids, or a list of tokens")
  if isinstance(vocabulary, dict):
    _check_ids(((f"model.vocab[{piece!r}]", token) for piece, token in vocabulary.items()), where)
    pieces: dict[int, str] = {}
    for piece, token in vocabulary.items():
      if pieces.setdefault(token, piece) != piece:
        raise _refuse(where, f"model.vocab[{piece!r}]", token, f"another id, because {pieces[token]!r} has this one")
  elif len(vocabulary) > MAX_IDS:
    raise _refuse(where, "model.vocab", f"{len(vocabulary)} tokens", f"at most {MAX_IDS}")
  added = values.get("added_tokens")
  if added is not None and (not isinstance(added, list) or not all(isinstance(token, dict) for token in added)):
    raise _refuse(where, "added_tokens", added, "a list of objects")
  _check_ids(((f"added_tokens[{number}].id", token.get("id")) for number, token in enumerate(added or ())), where)
  for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding"):
    if values.get(name) is not None:
      _field(values, name, dict, where)
  _check_templates(values.get("post_processor"), where)


def _check_templates(processor: Any, where: str) -> None:
  """Checks that every special token in the templates of a post-processor (or of its parts) has an id."""
  if not isinstance(processor, dict):
    return
  parts = processor.get("processors")
  for part in parts if isinstance(parts, list) else ():
    _check_templates(part, where)
  known: Any = processor.get("special_tokens")
  for name, token in known.items() if isinstance(known, dict) else ():
    ids = token.get("ids") if isinstance(token, dict) else None
    if ids is not None and not isinstance(ids, list):
      raise _refuse(where, f"post_processor.special_tokens[{name!r}].ids", ids, "a list of ids")
    _check_ids(((f"post_processor.special_tokens[{name!r}].ids", one) for one in ids or ()), where)
  for key in ("single", "pair") if isinstance(known, dict) else ():
    template = processor.get(key)
    for part in template if isinstance(template, list) else ():
      special = part.get("SpecialToken") if isinstance(part, dict) else None
      name = special.get("id") if isinstance(special, dict) else None
      if isinstance(name, str) and name not in known:
        raise _refuse(where, f"post_processor.{key}", name, f"one of its special_tokens: {', '.join(known) or 'none'}")


def _field(values: dict[str, Any], name: str, kind: type, where: str) -> Any:
  if not isinstance(values.get(name), kind):
    raise _refuse(where, name, values.get(name), _KINDS[kind])
  return values[name]


def _check_ids(ids: Iterable[tuple[str, Any]], where: str) -> None:
  for name, token in ids:
    if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < MAX_IDS:
      raise _refuse(where, name, token, f"an integer from 0 to {MAX_IDS - 1}")


def _refuse(where: str, name: str, got: Any, allowed: str) -> LmxError:
  shown = got if isinstance(got, int | float | None) else f"{str(got)[:60]}"
  return LmxError(message(f"{where}: {name}", got=shown, allowed=allowed, fix="download the tokenizer.json again"))
