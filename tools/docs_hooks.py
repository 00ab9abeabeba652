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
  """A table of keys for each section of configs/base.py, in its order: key, default, and the comment of base.py."""
  values = flatten(load("configs/base.py"))
  sections: dict[str, list[str]] = {}
  for known, text in help_texts().items():
    for key in (key for key in values if key == known or key.startswith(f"{known}.")):
      row = f"| `{key}` | `{_cell(repr(values[key]))}` | {_cell(text)} |"
      sections.setdefault(key.partition(".")[0] if "." in key else "general", []).append(row)
  head = "| key | default | meaning |\n|---|---|---|\n"
  return "\n\n".join(f"### {section}\n\n{head}" + "\n".join(rows) for section, rows in sections.items())


def _cell(text: str) -> str:
  """Text that stays within a table's cell."""
  return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def on_page_markdown(markdown: str, **_: Any) -> str:
  """Fills in the keys; a link to a file of the repository outside docs/ becomes its name."""
  return _OUTSIDE.sub(r"\1 (`\2`)", markdown.replace(_MARK, key_tables() if _MARK in markdown else ""))
