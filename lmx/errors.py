# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Messages a person can act on: what was passed, what is allowed, the nearest match, the fix."""

import difflib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class LmxError(Exception):
  """A mistake in the user's input. The command line prints its message without a traceback."""


class LmxWarning(UserWarning):
  """Something that doesn't stop lmx and that its user should know. The command line prints its message in one line."""


class LostProcessError(LmxError):
  """Another process of a run has ended or does not answer. Nothing that waits for it may be called afterwards."""


class DifferentProcessesError(LmxError):
  """The processes of a run were started with something that differs. Each of them raises it."""


class StorageError(LmxError):
  """A disk is full, read-only, or has lost files; the run can resume when that is fixed."""


class ConfigError(LmxError):
  """One or more problems in an experiment config; `problems` holds a message for each."""

  def __init__(self, problems: Iterable[str]):
    self.problems = list(problems)
    count = len(self.problems)
    head = "" if count == 1 else f"{count} problems:\n"
    super().__init__(head + "\n".join(f"- {p}" if count > 1 else p for p in self.problems))


def show_warnings_in_one_line() -> None:
  """Makes Python show an `LmxWarning` as "warning: TEXT", without a file, a line number and a line of source."""
  warnings.formatwarning = _format_warning


def _format_warning(
  message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
  if issubclass(category, LmxWarning):
    return f"warning: {message}\n"
  return _default_format(message, category, filename, lineno, line)


_default_format = warnings.formatwarning


def nearest(name: object, allowed: Iterable[object]) -> str | None:
  """The allowed name closest in spelling to `name`, or None when nothing is close."""
  matches = difflib.get_close_matches(str(name), [str(a) for a in allowed], n=1, cutoff=0.5)
  return matches[0] if matches else None


def near_multiples(size: int, unit: int) -> list[int]:
  """The multiples of `unit` next to a size that isn't one: the one below, if that isn't 0, and the one above."""
  below = size // unit * unit
  return [*([below] if below else []), below + unit]


_SHOWN = 500  # Characters of a value in a message.


def message(subject: str, *, got: object, allowed: Iterable[object] | str = (), fix: str = "") -> str:
  """The text of an error: one sentence per part, in the same order in all of lmx.

  Args:
    subject: usually the config key or the flag ("config.model.norm").
    got: the value that was passed.
    allowed: the values that would work, or a phrase describing them.
    fix: the line to change, as the user would type it.
  """
  shown = repr(got)
  parts = [f"{subject}: got {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + ' ...'}."]
  if isinstance(allowed, str):
    parts.append(f"Allowed: {allowed}." if allowed else "")
  else:
    options = list(allowed)
    close = nearest(got, options)
    parts.append(f"Allowed: {', '.join(map(str, options))}." if options else "")
    parts.append(f"Did you mean {close!r}?" if close else "")
  parts.append(f"Fix: {fix}" if fix else "")
  return " ".join(p for p in parts if p)


def choose(subject: str, name: str, table: Mapping[str, Any], fix: str = "") -> Any:
  """`table[name]`, or an `LmxError` that lists the table's names and the nearest one."""
  if name not in table:
    raise LmxError(message(subject, got=name, allowed=sorted(table), fix=fix))
  return table[name]


class Problems:
  """Collects messages, so that a check can report everything that is wrong at once."""

  def __init__(self) -> None:
    self.messages: list[str] = []

  def add(self, subject: str, *, got: object, allowed: Iterable[object] | str = (), fix: str = "") -> None:
    self.messages.append(message(subject, got=got, allowed=allowed, fix=fix))

  @contextmanager
  def collect(self) -> Iterator[None]:
    """Runs a block and records an `LmxError` raised in it, so that the next check can run."""
    try:
      yield
    except ConfigError as error:
      self.messages.extend(error.problems)
    except LmxError as error:
      self.messages.append(str(error))

  def raise_if_any(self) -> None:
    if self.messages:
      raise ConfigError(dict.fromkeys(self.messages))
