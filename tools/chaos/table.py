# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Results as tables for people: what was tried, how often, what came out, and what the processes were doing then."""

import collections
from collections.abc import Iterable, Mapping, Sequence

from tools.chaos.cases import DISTURBANCES, Result
from tools.chaos.scene import PHASES
from tools.chaos.verdict import BAD, GOOD, MEANING


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
  """A Markdown table; zeros are left empty."""
  lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
  lines += ["| " + " | ".join("" if cell == 0 else str(cell) for cell in row) + " |" for row in rows]
  return "\n".join(lines)


def outcomes_table(results: Sequence[Result]) -> str:
  """A row for each kind: how often it was tried, and each outcome's count."""
  counts: Mapping[str, collections.Counter] = collections.defaultdict(collections.Counter)
  for result in results:
    counts[result.kind][result.outcome] += 1
  columns = (*GOOD, *BAD)
  rows: list[list[object]] = [
    [name, kind.what, counts[name].total(), *(counts[name][outcome] for outcome in columns)]
    for name, kind in DISTURBANCES.items()
    if name in counts
  ]
  total = sum(counts.values(), collections.Counter())
  rows.append(["all", "", total.total(), *(total[outcome] for outcome in columns)])
  return markdown(("kind", "what was done", "cases", *columns), rows)


def phases_table(results: Sequence[Result]) -> str:
  """A row for each kind with moments: how often its processes were found in each phase."""
  counts: Mapping[str, collections.Counter] = collections.defaultdict(collections.Counter)
  for result in results:
    counts[result.kind].update(result.phases)
  rows: list[list[object]] = [
    [name, *(counts[name][phase] for phase in PHASES)] for name in DISTURBANCES if counts[name].total()
  ]
  return markdown(("kind", *PHASES), rows)


def report(results: Sequence[Result]) -> str:
  """Both tables, what the outcomes mean, and a line for each failure."""
  found = {result.outcome for result in results}
  meanings = "\n".join(f"- {name}: {MEANING[name]}." for name in (*GOOD, *BAD) if name in found)
  failures = [result for result in results if result.outcome in BAD]
  lines = "\n".join(f"- {one.name}, {one.outcome}: {one.why} ({'; '.join(one.notes)})" for one in failures)
  parts = [outcomes_table(results), meanings, phases_table(results)]
  return "\n\n".join([*parts, lines or "No case failed."])
