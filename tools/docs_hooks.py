# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""MkDocs hooks: the table of config keys, and links out of docs/ as plain file names.

Command:  .venv/bin/pip install -c constraints.txt -e '.[docs]' && .venv/bin/mkdocs build
"""

import re
from typing import Any

from lmx.cli.config import help_texts
from lmx.config.loading import flatten, load

_MARK = "<!-- config keys -->"
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)\s]+)\)")


def key_tables() -> str:
  """A table of keys for each section of configs/base.py: key, default, and the comment of base.py."""
  texts, sections = help_texts(), {}
  for key, value in flatten(load("configs/base.py")).items():
    sections.setdefault(key.partition(".")[0] if "." in key else "general", []).append((key, value))
  parts = []
  for section, rows in sections.items():
    lines = [f"### {section}", "", "| key | default | meaning |", "|---|---|---|"]
    lines += [f"| `{key}` | `{_cell(repr(value))}` | {_cell(texts.get(key, ''))} |" for key, value in rows]
    parts.append("\n".join(lines))
  return "\n\n".join(parts)


def _cell(text: str) -> str:
  """Text that stays within a table's cell."""
  return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def on_page_markdown(markdown: str, **_: Any) -> str:
  """Fills in the keys; a link to a file of the repository outside docs/ becomes its name."""
  return _OUTSIDE.sub(r"\1 (`\2`)", markdown.replace(_MARK, key_tables() if _MARK in markdown else ""))
