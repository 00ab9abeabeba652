# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Config keys that were changed although the config's choices don't read them: they would do nothing."""

from collections.abc import Collection, Mapping
from typing import Any

from lmx.config.table import keys
from lmx.errors import Problems


def unread(flat: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
  """One message for each changed key that the values of other keys leave unread, by `read_by` in base.py.

  Args:
    flat, base: the config's values and base.py's, by dotted key.
  """
  problems = Problems()
  for name, entry in keys().items():
    missing = next((reader for reader in entry.readers if not reader.reads(flat, base)), None)
    if missing is not None and flat[name] != base[name]:
      choices = " or ".join(missing.values)
      _add(problems, name, flat, base, missing.chooser, f"--config.{missing.chooser}={choices}" if choices else "")
  return problems.messages


def unread_by_row(
  flat: Mapping[str, Any], base: Mapping[str, Any], chooser: str, rows: Mapping[str, Collection[str]]
) -> list[str]:
  """One message for each changed key that the chosen row of a table doesn't name; none where there is no such row.

  Args:
    flat, base: the config's values and base.py's, by dotted key.
    chooser: the dotted key whose value is the row ("optimizer.name").
    rows: row -> the keys that it reads, without their section.
  """
  problems, chosen = Problems(), flat[chooser]
  for name, entry in keys().items() if chosen in rows else ():
    last = name.rpartition(".")[2]
    if flat[name] == base[name] or not any(r.by_row and r.chooser == chooser for r in entry.readers):
      continue
    if last not in rows[chosen]:
      readers = " or ".join(row for row, names in rows.items() if last in names)
      _add(problems, name, flat, base, chooser, f"--config.{chooser}={readers}" if readers else "")
  return problems.messages


def _add(
  problems: Problems, name: str, flat: Mapping[str, Any], base: Mapping[str, Any], chooser: str, fix: str
) -> None:
  allowed = f"{base[name]!r} with config.{chooser}={flat[chooser]}, which doesn't read it"
  fix = f"leave it out, or {fix or f'set config.{chooser}'}"
  problems.add(f"config.{name}", got=flat[name], allowed=allowed, fix=fix)
