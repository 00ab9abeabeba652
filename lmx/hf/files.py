# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Reads the JSON files of a model's directory, with a one-line error for a bad file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmx.errors import LmxError, message
from lmx.json_text import parse_bounded, read_bounded


def read_json(file: Path) -> dict[str, Any]:
  """A JSON object from a file.

  Raises:
    LmxError: it doesn't exist, is no JSON object, or has a key twice with different values.
  """
  if not file.is_file():
    raise LmxError(message("model directory", got=str(file.parent), allowed=f"a directory with {file.name}"))
  values = parse_json(file)
  if not isinstance(values, dict):
    raise LmxError(f"{file} is not a JSON object.")
  return values


def read_optional(file: Path) -> dict[str, Any]:
  """As `read_json`; {} where the file doesn't exist."""
  return read_json(file) if file.is_file() else {}


def parse_json(file: Path) -> Any:
  """The parsed contents of a JSON file.

  Raises:
    LmxError: it is not JSON, too large or nested too deep, or an object has a key twice with different values.
  """

  def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
      if key in found and found[key] != value:
        allowed = f"one value; {found[key]!r} is there as well"
        raise LmxError(message(f"{file}: {key}", got=value, allowed=allowed, fix="remove one of the two"))
      found[key] = value
    return found

  return parse_bounded(read_bounded(file), str(file), once)
