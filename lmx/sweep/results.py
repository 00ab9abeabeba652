# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What came of a sweep's trials, as a table for people and as CSV."""

import csv
import dataclasses
import io
from collections.abc import Sequence

from lmx.errors import LmxError, choose
from lmx.sweep.folder import ENDED, FINISHED, SweepFolder, TrialState
from lmx.sweep.trial import short_keys
from lmx.units import human_time

FIXED = ("trial", "state", "step", "seconds", "attempts", "why")  # Columns next to the metric and the keys.


@dataclasses.dataclass(frozen=True)
class Results:
  """The trials of a sweep.

  Attributes:
    metric: by which they are compared.
    mode: min | max.
    keys: that the trials differ in.
    states: of the trials, the best first, those without a value last.
  """

  metric: str
  mode: str
  keys: tuple[str, ...]
  states: tuple[TrialState, ...]

  @property
  def best(self) -> TrialState | None:
    """The best of the finished trials."""
    return next((one for one in self.states if one.state == FINISHED and one.value is not None), None)

  def counts(self) -> str:
    """How many trials are in each state."""
    states = [one.state for one in self.states]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))

  @property
  def over(self) -> bool:
    return all(one.state in ENDED for one in self.states)


def read_results(folder: SweepFolder) -> Results:
  """What came of a sweep so far.

  Raises:
    LmxError: not a sweep's folder.
  """
  definition = folder.definition()
  states = folder.states(definition["metric"])
  sign = 1 if definition["mode"] == "min" else -1
  states.sort(key=lambda one: (one.value is None, sign * (one.value or 0.0)))
  keys = tuple(dict.fromkeys(key for one in states for key in one.trial.overrides))
  return Results(definition["metric"], definition["mode"], keys, tuple(states))


def header(results: Results) -> list[str]:
  """The names of the columns: the trial, its state, the metric, what it overrides, how far and how long it ran."""
  return ["trial", "state", results.metric, *results.keys, *FIXED[2:]]


def rows(results: Results) -> list[list[str]]:
  """A row of texts for each trial, under `header`."""
  return [
    [
      one.trial.name, one.state, "" if one.value is None else repr(one.value),
      *(one.trial.overrides.get(key, "") for key in results.keys),
      str(one.step), f"{one.seconds:.1f}", str(1 + one.failures + one.preemptions), one.why,
    ]
    for one in results.states
  ]  # fmt: skip


def sorted_rows(results: Results, column: str) -> list[list[str]]:
  """The rows by one column, numbers as numbers.

  Raises:
    LmxError: no such column.
  """
  names = header(results)
  short = {short: key for key, short in short_keys(results.keys).items()}
  choose("--sort", column, dict.fromkeys([*names, *short]))
  place = names.index(short.get(column, column))
  return sorted(rows(results), key=lambda row: _order(row[place]))


def _order(text: str) -> tuple[int, float, str]:
  try:
    return 0, float(text), ""
  except ValueError:
    return (1 if text else 2), 0.0, text


def as_csv(results: Results) -> str:
  """The table as comma-separated values, with a header."""
  out = io.StringIO()
  writer = csv.writer(out, lineterminator="\n")
  writer.writerow(header(results))
  writer.writerows(rows(results))
  return out.getvalue()


def as_text(results: Results, table: Sequence[Sequence[str]]) -> str:
  """The table for a terminal: keys by their last parts, numbers short, the trial's name left out where keys say it."""
  short = short_keys(results.keys)
  names = ["state", results.metric, *(short[key] for key in results.keys), "step", "time", "attempts", "why"]
  lines = [names]
  for row in table:
    seconds = float(row[-3])
    lines.append(
      [row[1], _number(row[2]), *map(_number, row[3:-4]), row[-4], human_time(seconds) if seconds else "", row[-2],
       row[-1][:80]]
    )  # fmt: skip
  widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
  return "\n".join(
    "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
  )


def _number(text: str) -> str:
  try:
    return f"{float(text):.5g}" if any(mark in text for mark in ".eE") and text else text
  except ValueError:
    return text


def closing(results: Results, folder: SweepFolder) -> list[str]:
  """The last lines of a sweep: counts, the best trial, and what to type next.

  Raises:
    LmxError: trials have failed; the message names them and their logs.
  """
  lines = [f"{len(results.states)} trials: {results.counts()}"]
  if results.best is not None:
    best = results.best
    lines += [f"best: {best.trial.name}, {results.metric} {best.value:.5g}", f"  run     {folder.run_dir(best.trial)}"]
  lines += [f"  table   lmx sweep show {folder.path}", f"  page    {folder.path}/sweep.html"]
  failed = [one for one in results.states if one.state == "failed"]
  if failed and results.over:
    names = "\n".join(f"  {one.trial.name}: {one.why or 'no message'} ({folder.log(one.trial)})" for one in failed[:10])
    raise LmxError(
      f"{len(failed)} of {len(results.states)} trials failed:\n{names}\n"
      "Fix: cure that, and the same command with --retry-failed. " + "\n".join(["", *lines])
    )
  return lines
