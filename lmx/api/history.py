# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The metrics of a run as a table that shows itself."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_LEFT_OUT = ("time",)  # Seconds since 1970 tell a reader nothing.
_SHOWN = 12  # Rows of a table that is longer than twice as many: so many from each end.


class History(list[dict[str, Any]]):
  """The records of metrics.jsonl in the order written, a list of dicts; in a notebook it shows itself as a table.

  `pandas.DataFrame(run.history)` makes a data frame of it.
  """

  @property
  def columns(self) -> list[str]:
    """Every name that some record has, in the order of appearance."""
    return list(dict.fromkeys(name for record in self for name in record))

  def column(self, name: str) -> tuple[list[int], list[float]]:
    """The steps and values of the records that have a number under `name`."""
    found = [(record["step"], record[name]) for record in self if isinstance(record.get(name), int | float)]
    return [step for step, _ in found], [value for _, value in found]

  def last(self, name: str) -> float | None:
    """The last number under `name`; None: there is none."""
    values = self.column(name)[1]
    return values[-1] if values else None

  def _repr_html_(self) -> str:
    names = [name for name in self.columns if name not in _LEFT_OUT]
    rows: list[Sequence[str]] = [[_cell(record.get(name)) for name in names] for record in self]
    if len(rows) > 2 * _SHOWN:
      rows = [*rows[:_SHOWN], ["⋮"] * len(names), *rows[-_SHOWN:]]
    return f"{html_table(names, rows)}<p>{len(self)} records of {len(names)} columns</p>"


def html_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A table of texts as HTML, scrollable where it is wide."""
  head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
  body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
  return f'<div style="overflow-x:auto"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def pairs_table(rows: Mapping[str, str]) -> str:
  """Names and values as HTML, one pair a row."""
  left = 'style="text-align:left"'
  body = "".join(
    f"<tr><th {left}>{html.escape(name)}</th><td {left}>{html.escape(value)}</td></tr>" for name, value in rows.items()
  )
  return f"<table><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
  return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
