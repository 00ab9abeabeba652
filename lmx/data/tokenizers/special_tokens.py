# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What stands beside a tokenizer's file: the names of its special tokens, and its chat template."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmx.data.tokenizers.vocabulary import TEMPLATE_FILE
from lmx.errors import LmxError
from lmx.json_text import parse_bounded, read_bounded

CONFIG_FILE = "tokenizer_config.json"
TOKEN_KEYS = ("bos_token", "eos_token", "pad_token", "cls_token", "sep_token", "mask_token")


def read_config(data: bytes | None, where: str) -> Mapping[str, Any]:
  """The contents of a tokenizer_config.json, {} where there is none.

  Raises:
    LmxError: it is not a JSON object of texts.
  """
  if data is None:
    return {}
  values = parse_bounded(data, f"{CONFIG_FILE} beside {where}")
  if not isinstance(values, dict):
    raise LmxError(f"{CONFIG_FILE} beside {where} is not a JSON object.")
  try:
    json.dumps(values, ensure_ascii=False).encode()
  except UnicodeEncodeError as error:
    raise LmxError(f"{CONFIG_FILE} beside {where} has half of a surrogate pair, which is no text: {error}") from error
  return values


def named_tokens(values: Mapping[str, Any]) -> dict[str, str]:
  """The special tokens that a tokenizer_config.json names; each is a string or an object with `content`.

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
        f"{CONFIG_FILE} or its like: {key} is {str(token)[:60]}, and should be a string or have `content`."
      )
    named[key] = content
  return named


def chat_template(folder: Path, values: Mapping[str, Any]) -> str | None:
  """The chat template: chat_template.jinja, else that of tokenizer_config.json (of several, the default one).

  Raises:
    LmxError: it is not a text, or a list of named texts.
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
  whole = [one for one in parts if isinstance(one, dict) and {"name", "template"} <= one.keys()]
  named = {str(one["name"]): one["template"] for one in whole}
  if len(whole) != len(parts) or not all(isinstance(text, str) for text in named.values()):
    raise LmxError(f"{folder / CONFIG_FILE}: chat_template is {str(template)[:60]}, and should be a text, or a list of "
                   '{"name": ..., "template": ...}')  # fmt: skip
  return named.get("default") or next(iter(named.values()), None)


def read_beside(folder: Path) -> bytes | None:
  """The tokenizer_config.json of a folder, or None."""
  file = folder / CONFIG_FILE
  return read_bounded(file) if file.is_file() else None
