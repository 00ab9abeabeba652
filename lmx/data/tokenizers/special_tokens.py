# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Files next to a tokenizer: the names of special tokens in tokenizer_config.json, and the chat template."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmx.data.tokenizers.vocabulary import TEMPLATE_FILE
from lmx.errors import LmxError
from lmx.json_text import parse_bounded, read_bounded

CONFIG_FILE, MAP_FILE = "tokenizer_config.json", "special_tokens_map.json"
TOKEN_KEYS = ("bos_token", "eos_token", "pad_token", "cls_token", "sep_token", "mask_token")


def read_config(data: bytes | None, where: str) -> Mapping[str, Any]:
  """The parsed contents of a tokenizer_config.json; {} for None.

  Raises:
    LmxError: it isn't a JSON object, or contains invalid Unicode.
  """
  if data is None:
    return {}
  values = parse_bounded(data, f"{CONFIG_FILE} of {where}")
  if not isinstance(values, dict):
    raise LmxError(f"{CONFIG_FILE} of {where} is not a JSON object.")
  try:
    json.dumps(values, ensure_ascii=False).encode()
  except UnicodeEncodeError as error:
    raise LmxError(f"{CONFIG_FILE} of {where} has half of a surrogate pair, which is not text: {error}") from error
  return values


def named_tokens(values: Mapping[str, Any]) -> dict[str, str]:
  """The special tokens of a tokenizer_config.json; each is a string or an object with `content`.

  Raises:
    LmxError: one is neither.
  """
  named = {}
  for key in TOKEN_KEYS:
    token = values.get(key)
    content = token.get("content") if isinstance(token, dict) else token
    if not token:
      continue
    if not isinstance(content, str):
      raise LmxError(
        f"{CONFIG_FILE} or {MAP_FILE}: {key} is {str(token)[:60]}, but must be a string or an object with `content`."
      )
    named[key] = content
  return named


def chat_template(folder: Path, values: Mapping[str, Any]) -> str | None:
  """The chat template: chat_template.jinja, else that of tokenizer_config.json (of several, the default one).

  Raises:
    LmxError: it is neither a string nor a list of named strings.
  """
  file = folder / TEMPLATE_FILE
  if file.is_file():
    try:
      return read_bounded(file).decode()
    except UnicodeDecodeError as error:
      raise LmxError(f"{file} is not UTF-8: {error}") from error
  template = values.get("chat_template")
  if template is None or isinstance(template, str):
    return template
  parts = template if isinstance(template, list) else [template]
  complete = [one for one in parts if isinstance(one, dict) and {"name", "template"} <= one.keys()]
  named = {str(one["name"]): one["template"] for one in complete}
  if len(complete) != len(parts) or not all(isinstance(text, str) for text in named.values()):
    raise LmxError(f"{folder / CONFIG_FILE}: chat_template is {str(template)[:60]}, but must be a string or a list of "
                   '{"name": ..., "template": ...}')  # fmt: skip
  return named.get("default") or next(iter(named.values()), None)


def read_config_file(folder: Path) -> bytes | None:
  """The contents of a folder's tokenizer_config.json, or None."""
  file = folder / CONFIG_FILE
  return read_bounded(file) if file.is_file() else None
