# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Limits on untrusted files: sizes and times beyond which they are refused.

They are environment variables, not keys of a config: a run's config.json may itself come from a stranger, who must not
be able to raise them. SECURITY.md lists them.
"""

import os

from lmx.errors import LmxError, message

# Name -> (default, what it bounds).
LIMITS: dict[str, tuple[int, str]] = {
  "json_bytes": (200_000_000, "size of a JSON file of a model or tokenizer, in bytes"),
  "json_depth": (100, "nesting of lists and objects in such a file"),
  "added_tokens": (100_000, "tokens that a tokenizer's files add to its vocabulary"),
  "layers": (10_000, "layers of a model"),
  "template_seconds": (10, "processor time of rendering one chat, in seconds"),
  "template_characters": (50_000_000, "characters of one rendered chat, or of a text that its template repeats"),
  "template_bits": (4096, "bits of a whole number in a chat template"),
  "template_bytes": (2_000_000_000, "address space of the process that renders chats, in bytes"),
}
PREFIX = "LMX_LIMIT_"


def variable(name: str) -> str:
  """The environment variable that sets a limit."""
  return PREFIX + name.upper()


def limit(name: str) -> int:
  """A limit's value: that of its environment variable, else the default.

  Raises:
    LmxError: the variable holds no positive whole number.
  """
  given = os.environ.get(variable(name))
  if given is None:
    return LIMITS[name][0]
  if not (given.isascii() and given.isdecimal() and len(given) < 19 and int(given) > 0):
    raise LmxError(message(variable(name), got=given, allowed="a positive whole number"))
  return int(given)


def raise_over(name: str, size: int, subject: str) -> None:
  """Refuses a size over a limit.

  Args:
    name: of the limit.
    size: in its unit.
    subject: the file and the quantity, for the message.

  Raises:
    LmxError: names the limit's variable.
  """
  if size > limit(name):
    allowed = f"at most {limit(name):,}: {LIMITS[name][1]}"
    raise LmxError(message(subject, got=size, allowed=allowed, fix=f"{variable(name)}={size} if you trust the file"))
