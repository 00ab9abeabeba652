# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Terminal output: a table of names and values, and the progress of a run.

On a terminal the progress is a live bar; elsewhere (a log file, a pipe) it is a plain line at each report.
"""

import sys
import time
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from lmx.units import human_time


def console(*, quiet: bool = False) -> Console:
  """A console for standard output: colors on a terminal only, and no wrapped lines. `quiet`: prints nothing."""
  return Console(highlight=False, soft_wrap=True, no_color=not sys.stdout.isatty(), quiet=quiet)


def print_table(out: Console, title: str, rows: Mapping[str, str]) -> None:
  """Prints a title and aligned name-value lines."""
  out.print(f"[bold]{escape(title)}[/bold]")
  width = max(map(len, rows), default=0)
  for name, value in rows.items():
    out.print(f"  [cyan]{name:<{width}}[/cyan]  {escape(value)}")


class Clock:
  """Time left, from the mean speed since the first update: the first step, which compiles, doesn't count."""

  def __init__(self, total: int):
    self._total = total
    self._first: tuple[float, int] | None = None
    self._last: tuple[float, int] | None = None

  def note(self, done: int) -> None:
    self._last = (time.monotonic(), done)
    self._first = self._first or self._last

  def left(self) -> str:
    """Such as "2m05s left"; "" while it is unknown."""
    if self._first is None or self._last is None:
      return ""
    (start, before), (now, done) = self._first, self._last
    if done >= self._total:
      return ""
    return f"{human_time((now - start) / (done - before) * (self._total - done))} left" if done > before else ""


class Reporter(Protocol):
  """Shows the progress of a run or another long task."""

  def update(self, done: int, note: str = "") -> None: ...

  def say(self, text: str) -> None: ...

  def close(self) -> None: ...


class _Numbers(ProgressColumn):
  """Steps, time left and the note in one line, cropped on a narrow terminal."""

  def __init__(self, clock: Clock):
    super().__init__(Column(no_wrap=True, overflow="crop"))
    self._clock = clock

  def render(self, task: Task) -> Text:
    parts = [f"{task.completed:.0f}/{task.total:.0f}", self._clock.left(), task.fields["note"]]
    return Text("  ".join(part for part in parts if part))


class Bar:
  """A live bar on a terminal. `waiting` is shown until the first note."""

  def __init__(self, out: Console, label: str, total: int, first: int = 0, waiting: str = ""):
    self._clock, self._note = Clock(total), waiting
    columns = (
      TextColumn("{task.description}"),
      BarColumn(bar_width=20 if out.width >= 100 else 8),
      _Numbers(self._clock),
    )
    self._progress = Progress(*columns, console=out, refresh_per_second=4)
    self._task = self._progress.add_task(label, total=total, completed=first, note=waiting)
    self._progress.start()
    out.show_cursor(True)  # A process that is killed could not show it again.

  def update(self, done: int, note: str = "") -> None:
    self._clock.note(done)
    self._note = note or self._note
    self._progress.update(self._task, completed=done, note=self._note)

  def say(self, text: str) -> None:
    self._progress.console.print(text, markup=False)

  def close(self) -> None:
    self._progress.stop()


class Lines:
  """One plain line whenever there is a note, at most one a second; for logs and pipes."""

  def __init__(self, out: Console, label: str, total: int):
    self._out, self._label, self._total = out, label, total
    self._clock = Clock(total)
    self._last = time.monotonic()

  def update(self, done: int, note: str = "") -> None:
    self._clock.note(done)
    now = time.monotonic()
    if not note or (now - self._last < 1.0 and done < self._total):
      return
    self._last = now
    parts = [f"{self._label} {done}/{self._total}", self._clock.left(), note]
    self._out.print("  ".join(part for part in parts if part), markup=False)

  def say(self, text: str) -> None:
    self._out.print(text, markup=False)

  def close(self) -> None:
    pass


def reporter(out: Console, label: str, total: int, first: int = 0, waiting: str = "") -> Reporter:
  """A bar on a terminal, lines elsewhere.

  Args:
    out: the console.
    label: the unit of the work, such as "step".
    total: units in all.
    first: units done already.
    waiting: shown on a bar until the first note.
  """
  if out.is_terminal and not out.quiet:
    return Bar(out, label, total, first, waiting)
  return Lines(out, label, total)
