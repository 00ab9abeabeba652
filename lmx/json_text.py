# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""JSON from untrusted files: bounded in size and nesting, with an LmxError for anything malformed."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lmx.errors import LmxError
from lmx.limits import limit, raise_over, variable

Pairs = Callable[[Sequence[tuple[str, Any]]], dict[str, Any]]


def read_bounded(file: Path) -> bytes:
  """The bytes of a small file of a model or tokenizer.

  Raises:
    LmxError: it is larger than the limit, or can't be read.
  """
  try:
    raise_over("json_bytes", file.stat().st_size, f"{file}: size in bytes")
    return file.read_bytes()
  except OSError as error:
    raise LmxError(f"{file} can't be read: {error.strerror or error}") from error


def parse_bounded(data: bytes, where: str, pairs: Pairs | None = None) -> Any:
  """The value of a JSON text.

  Args:
    data: UTF-8.
    where: the file, for messages.
    pairs: makes an object of its (key, value) pairs; None: the last value of a key counts.

  Raises:
    LmxError: it is not JSON, or nested deeper than the limit.
  """
  try:
    value = json.loads(data.decode(), object_pairs_hook=pairs)
  except RecursionError as error:
    raise _too_deep(where) from error
  except ValueError as error:
    raise LmxError(f"{where} is not JSON: {error}") from error
  level = [value]
  for _ in range(limit("json_depth") + 1):
    inner = [
      part for one in level if isinstance(one, dict | list) for part in (one.values() if isinstance(one, dict) else one)
    ]
    level = [part for part in inner if isinstance(part, dict | list)]
    if not level:
      return value
  raise _too_deep(where)


def _too_deep(where: str) -> LmxError:
  return LmxError(f"{where}: lists and objects are nested more than {limit('json_depth')} deep. Fix: correct the file, "
                  f"or set {variable('json_depth')} if you trust it.")  # fmt: skip
