# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""MkDocs hooks: the table of config keys, and links out of docs/ as plain file names.

Command:  .venv/bin/pip install -c constraints.txt -e '.[docs]' && .venv/bin/mkdocs build
"""

import re
from typing import Any

from lmx.config.table import keys
from lmx.experiment.readers import readers_of

_MARK = "<!-- config keys -->"
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)\s]+)\)")


def key_tables() -> str:
  """A table of keys for each section of configs/base.py, in its order, from the table of keys."""
  sections: dict[str, list[str]] = {}
  for name, entry in keys().items():
    allowed = entry.allowed.phrase + (", or None" if entry.optional else "")
    default = f"`{_cell(repr(entry.default))}`"
    row = f"| `{name}` | {default} | {_cell(allowed)} | {_cell(readers_of(name))} | {_cell(entry.meaning)} |"
    sections.setdefault(name.partition(".")[0] if "." in name else "general", []).append(row)
  head = "| key | default | allowed | read by | meaning |\n|---|---|---|---|---|\n"
  return "\n\n".join(f"### {section}\n\n{head}" + "\n".join(rows) for section, rows in sections.items())


def _cell(text: str) -> str:
  """Text that stays within a table's cell."""
  return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def on_page_markdown(markdown: str, **_: Any) -> str:
  """Fills in the keys; a link to a file of the repository outside docs/ becomes its name."""
  return _OUTSIDE.sub(r"\1 (`\2`)", markdown.replace(_MARK, key_tables() if _MARK in markdown else ""))
