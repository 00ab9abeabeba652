# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Reads the tokenizer of a published folder the way AutoTokenizer of transformers 5 does, without transformers.

A tokenizer.json isn't everything. The class that reads a folder is named in tokenizer_config.json, or follows from the
model_type in config.json; some classes read only vocabulary and merges and build everything else from keys of
tokenizer_config.json. Added tokens are listed in added_tokens_decoder, added_tokens.json, special_tokens_map.json and
under the keys of special tokens. transformers itself isn't used because it is not a dependency of lmx; live tests
compare the ids. https://github.com/huggingface/transformers/blob/main/src/transformers/models/auto
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from lmx.data.tokenizers.special_tokens import (
  CONFIG_FILE,
  MAP_FILE,
  TOKEN_KEYS,
  named_tokens,
  read_config,
  read_config_file,
)
from lmx.data.tokenizers.tokenizer_classes import DEFAULTS, IGNORES_STATED_CLASS, OF_MODELS, rebuilt, template
from lmx.data.tokenizers.vocabulary import DESCRIPTION_FILE
from lmx.errors import LmxError
from lmx.json_text import parse_bounded, read_bounded
from lmx.limits import raise_over

ADDED_FILE = "added_tokens.json"
_LISTS = ("extra_special_tokens", "additional_special_tokens")
_AS_IT_IS = "PreTrainedTokenizerFast"


@dataclasses.dataclass(frozen=True)
class Published:
  """The settings next to a tokenizer's vocabulary.

  Attributes:
    folder: of the files.
    values: tokenizer_config.json, updated from special_tokens_map.json.
    added: tokens to add if the vocabulary or tokenizer.json doesn't have them, in order.
    kind: the class of `transformers` that reads the folder; "" if any class reads it the same way.
    ids: ids of special tokens in config.json, by key ("eos_token").
  """

  folder: Path
  values: Mapping[str, Any]
  added: tuple[AddedToken, ...]
  kind: str
  ids: Mapping[str, int]

  def finish(self, model: Mapping[str, Any], *, from_json: bool) -> tuple[bytes, bytes]:
    """The contents of a complete tokenizer.json and of a matching tokenizer_config.json.

    Args:
      model: the contents of a tokenizer.json with the vocabulary.
      from_json: whether the folder has this file, whose post-processor then holds.
    """
    tokenizer = Tokenizer.from_str(json.dumps(model))
    there = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    tokenizer.add_tokens([token for token in self.added if token.content not in there])
    values = rebuilt(json.loads(tokenizer.to_str()), self.kind, self.values)
    if not from_json and values["post_processor"] is None:
      named = (DEFAULTS.get(self.kind) or {}) | named_tokens(self.values)
      values["post_processor"] = template(values, named, self.values)
    return json.dumps(values, ensure_ascii=False).encode(), self._config(tokenizer)

  def _config(self, tokenizer: Tokenizer) -> bytes:
    """tokenizer_config.json with the names of all special tokens, without the keys that are now in tokenizer.json."""
    named = named_tokens(self.values)
    for key, token in (DEFAULTS.get(self.kind) or {}).items():
      if key not in named and key not in self.values and tokenizer.token_to_id(token) is not None:
        named[key] = token
    for key, token_id in self.ids.items():
      piece = tokenizer.id_to_token(token_id)
      if key not in named and piece is not None:
        named[key] = piece
    kept = {key: value for key, value in self.values.items() if key not in ("added_tokens_decoder", "add_prefix_space")}
    return json.dumps({**kept, **named, "tokenizer_class": _AS_IT_IS}, ensure_ascii=False).encode()


def read_published(folder: Path) -> Published | None:
  """The settings of a folder, or None if it was saved by lmx or has none of these files.

  Raises:
    LmxError: a file isn't JSON, or doesn't have the expected structure.
  """
  names = (CONFIG_FILE, ADDED_FILE, MAP_FILE, "config.json")
  if (folder / DESCRIPTION_FILE).is_file() or not any((folder / name).is_file() for name in names):
    return None
  values = dict(read_config(read_config_file(folder), str(folder)))
  added: dict[int, AddedToken] = {}
  if "added_tokens_decoder" in values:
    stated = _object(values["added_tokens_decoder"], f"{folder / CONFIG_FILE}: added_tokens_decoder")
    raise_over("added_tokens", len(stated), f"{folder / CONFIG_FILE}: added_tokens_decoder")
    for number, token in stated.items():
      added[_number(number, folder / CONFIG_FILE)] = _added(token, folder / CONFIG_FILE)
  else:
    values |= _read(folder / MAP_FILE)
    special = {*named_tokens(values).values(), *(token.content for token in _listed(values, folder))}
    listed_ids = _read(folder / ADDED_FILE)
    raise_over("added_tokens", len(listed_ids), f"{folder / ADDED_FILE}: number of tokens")
    for token, number in listed_ids.items():
      added[_number(number, folder / ADDED_FILE)] = AddedToken(
        token, normalized=token not in special, special=token in special
      )
  listed = [added[number] for number in sorted(added)]
  for key, name in named_tokens(values).items():
    listed.append(_added(values[key], folder, name))
  listed += _listed(values, folder)
  model = _read(folder / "config.json")
  stated_ids = {key: model.get(f"{key}_id") for key in TOKEN_KEYS}
  ids = {key: value for key, value in stated_ids.items() if isinstance(value, int) and value >= 0}
  unique = {token.content: token for token in reversed(listed)}
  order = dict.fromkeys(token.content for token in listed)
  return Published(folder, values, tuple(unique[name] for name in order), _class_of(values, model), ids)


def _class_of(values: Mapping[str, Any], model: Mapping[str, Any]) -> str:
  """The class that AutoTokenizer chooses; "" for one that reads a tokenizer.json as it is."""
  family = model.get("model_type")
  usual = OF_MODELS.get(family) or "" if isinstance(family, str) else ""
  stated = values.get("tokenizer_class") or model.get("tokenizer_class")
  if family in IGNORES_STATED_CLASS or not isinstance(stated, str):
    return usual
  name = stated.removesuffix("Fast")
  return name if name in DEFAULTS and (usual or family is None or family not in OF_MODELS) else ""


def _listed(values: Mapping[str, Any], folder: Path) -> list[AddedToken]:
  """Special tokens without a role, and those with a role that only the model knows (image_token)."""
  found = []
  lists = [values[key] for key in _LISTS if values.get(key)]
  for one in lists[:1]:
    tokens = one.values() if isinstance(one, dict) else one if isinstance(one, list) else [one]
    found += [_added(token, folder) for token in tokens]
  roles = [key for key in values if key.endswith("_token") and key not in (*TOKEN_KEYS, "unk_token")]
  return found + [AddedToken(values[key], special=True, normalized=False) for key in roles
                  if isinstance(values[key], str)]  # fmt: skip


def _added(token: Any, where: Path, name: str | None = None) -> AddedToken:
  """A token from a string, or an object as `transformers` saves it."""
  if isinstance(token, str):
    return AddedToken(token, special=True, normalized=False)
  if not isinstance(token, dict) or not isinstance(token.get("content"), str):
    raise LmxError(
      f"{where}: {name or 'an added token'} is {str(token)[:60]}, but must be a string or an object with `content`."
    )
  flags = {key: bool(token[key]) for key in ("lstrip", "rstrip", "single_word", "normalized") if key in token}
  special = bool(token["special"]) if "special" in token else True
  return AddedToken(token["content"], special=special, **{"normalized": not special, **flags})


def _number(value: Any, where: Path) -> int:
  """The id of an added token."""
  if not (str(value).isdecimal() and len(str(value)) < 12):
    raise LmxError(f"{where}: the id of an added token is {str(value)[:60]!r}, but must be an integer.")
  return int(value)


def _object(value: Any, subject: str) -> dict[str, Any]:
  if not isinstance(value, dict):
    raise LmxError(f"{subject} is not an object.")
  return value


def _read(file: Path) -> dict[str, Any]:
  """The contents of a JSON file; {} if it does not exist."""
  if not file.is_file():
    return {}
  return _object(parse_bounded(read_bounded(file), str(file)), str(file))
