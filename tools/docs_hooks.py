# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""MkDocs hooks: the table of config keys, README's table of tasks, and links out of docs/ as plain file names.

Command:  .venv/bin/pip install -c constraints.txt -e '.[docs]' && .venv/bin/mkdocs build
"""

import re
from pathlib import Path
from typing import Any

from lmx.config.table import keys
from lmx.experiment.readers import readers_of

_KEYS, _TASKS = "<!-- config keys -->", "<!-- tasks -->"
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)\s#]+)[^)\s]*\)")
_README = Path(__file__).resolve().parents[1] / "README.md"


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


def task_table() -> str:
  """The table of tasks in README.md, with its config and columns for each."""
  found = re.search(r"^\| task \|.*?(?=\n\n)", _README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
  if found is None:
    raise ValueError("README.md has no table of tasks")
  return found[0]


def on_page_markdown(markdown: str, **_: Any) -> str:
  """Fills in the keys and the tasks; a link to a file of the repository outside docs/ becomes its name."""
  for mark, table in ((_KEYS, key_tables), (_TASKS, task_table)):
    if mark in markdown:
      markdown = markdown.replace(mark, table())
  return _OUTSIDE.sub(r"\1 (`\2`)", markdown)
