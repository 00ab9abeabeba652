# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a person sees in the terminal: a table of facts, and the progress line of a run.

On a terminal the progress is a live bar; elsewhere (a log file, a pipe) it is one plain line at each report.
"""

import sys
import time
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from lmx.units import human_time


def console() -> Console:
  """A console for standard output: colours on a terminal only, and lines are never wrapped."""
  return Console(highlight=False, soft_wrap=True, no_color=not sys.stdout.isatty())


def facts(out: Console, title: str, rows: Mapping[str, str]) -> None:
  """Prints a title and aligned name-value lines."""
  out.print(f"[bold]{escape(title)}[/bold]")
  width = max(map(len, rows), default=0)
  for name, value in rows.items():
    out.print(f"  [cyan]{name:<{width}}[/cyan]  {escape(value)}")


class Reporter(Protocol):
  """Shows how far a piece of work is."""

  def update(self, done: int, note: str = "") -> None: ...

  def say(self, text: str) -> None: ...

  def close(self) -> None: ...


class _TimeLeft(ProgressColumn):
  """Time left, from the mean speed since the bar started, so that one slow step does not shake it."""

  def render(self, task: Task) -> Text:
    done = task.completed - float(task.fields["first"])
    if not done or task.elapsed is None:
      return Text("--", style="cyan")
    left = task.elapsed / done * (float(task.total or 0) - task.completed)
    return Text(f"{human_time(left)} left", style="cyan")


class Bar:
  """A live bar on a terminal."""

  def __init__(self, out: Console, label: str, total: int, first: int = 0):
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.completed}/{task.total}"),
               _TimeLeft(), TextColumn("{task.fields[note]}"))  # fmt: skip
    self._progress = Progress(*columns, console=out, refresh_per_second=4)
    self._task = self._progress.add_task(label, total=total, completed=first, note="", first=first)
    self._progress.start()

  def update(self, done: int, note: str = "") -> None:
    fields = {"note": note} if note else {}
    self._progress.update(self._task, completed=done, **fields)

  def say(self, text: str) -> None:
    self._progress.console.print(text)

  def close(self) -> None:
    self._progress.stop()


class Lines:
  """One plain line whenever there is a note, at most one a second; for logs and pipes."""

  def __init__(self, out: Console, label: str, total: int, first: int = 0):
    self._out, self._label, self._total, self._first = out, label, total, first
    self._start = self._last = time.monotonic()

  def update(self, done: int, note: str = "") -> None:
    now = time.monotonic()
    if not note or (now - self._last < 1.0 and done < self._total):
      return
    self._last = now
    speed = (now - self._start) / max(1, done - self._first)
    self._out.print(
      escape(f"{self._label} {done}/{self._total}  {human_time(speed * (self._total - done))} left  {note}")
    )

  def say(self, text: str) -> None:
    self._out.print(text)

  def close(self) -> None:
    pass


def reporter(out: Console, label: str, total: int, first: int = 0) -> Reporter:
  """A bar on a terminal, lines elsewhere."""
  return (Bar if out.is_terminal else Lines)(out, label, total, first)
