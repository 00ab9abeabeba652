# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a sweep varies: values of keys, ranges, and the trials that a function in a Python file returns.

On the command line an axis is one flag:

    --sweep.optimizer.peak_lr=1e-4,3e-4,1e-3         values
    --sweep.model.layers+model.width=4:256,8:512     keys that change together
    --sweep.optimizer.peak_lr=log(1e-5,1e-2)         a range (also uniform, int, logint), for --search
"""

import ast
import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmx.errors import LmxError, message

RANGES = {"uniform": (False, False), "log": (True, False), "int": (False, True), "logint": (True, True)}
_RANGE = re.compile(r"([a-z]+)\(([^(),]+),([^(),]+)\)")
_OPEN, _CLOSE = "([{", ")]}"
Overrides = dict[str, str]  # Dotted key -> its value as text, as in --config.KEY=VALUE.


@dataclasses.dataclass(frozen=True)
class Choices:
  """Values of one key, or of several that change together.

  Attributes:
    keys: dotted.
    values: the choices, each with one text per key.
  """

  keys: tuple[str, ...]
  values: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Interval:
  """An interval that a search draws a key's values from.

  Attributes:
    key: dotted.
    low, high: both included.
    log: drawn uniformly on a logarithmic scale.
    whole: whole numbers only.
  """

  key: str
  low: float
  high: float
  log: bool = False
  whole: bool = False


Axis = Choices | Interval


def uniform(key: str, low: float, high: float) -> Interval:
  """A range on a linear scale."""
  return _checked(Interval(key, low, high))


def log_uniform(key: str, low: float, high: float) -> Interval:
  """A range on a logarithmic scale."""
  return _checked(Interval(key, low, high, log=True))


def integers(key: str, low: int, high: int, *, log: bool = False) -> Interval:
  """Whole numbers of a range."""
  return _checked(Interval(key, low, high, log=log, whole=True))


def choices(key: str, *values: Any) -> Choices:
  """Values of one key."""
  return Choices((key,), tuple((as_text(value),) for value in values))


def _checked(range_: Interval) -> Interval:
  subject = f"range of {range_.key}"
  if not range_.low < range_.high:
    raise LmxError(message(subject, got=(range_.low, range_.high), allowed="a lower end below the upper one"))
  if range_.log and range_.low <= 0:
    raise LmxError(message(subject, got=range_.low, allowed="a lower end above 0 on a logarithmic scale"))
  if range_.whole and not (float(range_.low).is_integer() and float(range_.high).is_integer()):
    raise LmxError(message(subject, got=(range_.low, range_.high), allowed="whole numbers"))
  return range_


def parse_axis(flag: str) -> Axis:
  """An axis from "KEY=VALUES", as described at the top.

  Raises:
    LmxError: it can't be read.
  """
  name, equals, text = flag.partition("=")
  subject = f"--sweep.{name}"
  if not equals or not text.strip():
    raise LmxError(f"{subject}: no values. Fix: {subject}=VALUE,VALUE or {subject}=log(LOW,HIGH)")
  keys = tuple(name.split("+"))
  found = _RANGE.fullmatch(text.strip())
  if found:
    return _parse_range(subject, keys, found)
  rows = []
  for item in split_outside(text, ","):
    parts = tuple(part.strip() for part in (split_outside(item, ":") if len(keys) > 1 else [item]))
    if len(parts) != len(keys) or not all(parts):
      fix = f"{subject}={','.join([':'.join(['VALUE'] * len(keys))] * 2)}"
      allowed = f"{len(keys)} values with colons between, one for each key" if len(keys) > 1 else "a value"
      raise LmxError(message(subject, got=item, allowed=allowed, fix=fix))
    rows.append(parts)
  return Choices(keys, tuple(rows))


def _parse_range(subject: str, keys: tuple[str, ...], found: re.Match[str]) -> Interval:
  kind, low, high = found.groups()
  if kind not in RANGES:
    raise LmxError(message(subject, got=kind, allowed=RANGES, fix=f"{subject}=log({low},{high})"))
  if len(keys) > 1:
    raise LmxError(f"{subject}: a range is of one key. Fix: one flag for each key.")
  try:
    ends = float(low), float(high)
  except ValueError:
    raise LmxError(message(subject, got=found[0], allowed=f"{kind}(NUMBER,NUMBER)")) from None
  log, whole = RANGES[kind]
  return _checked(Interval(keys[0], *ends, log=log, whole=whole))


def split_outside(text: str, separator: str) -> list[str]:
  """Splits a text at separators outside of brackets and quotes: '(1,2),"a,b"' has two parts."""
  parts, depth, quote = [""], 0, ""
  for character in text:
    if quote:
      quote = "" if character == quote else quote
    elif character in "'\"":
      quote = character
    elif character in _OPEN:
      depth += 1
    elif character in _CLOSE:
      depth -= 1
    elif character == separator and depth == 0:
      parts.append("")
      continue
    parts[-1] += character
  return parts


def as_text(value: Any) -> str:
  """A Python value as it is typed after --config.KEY=."""
  if value is None:
    return "none"
  if isinstance(value, bool):
    return str(value).lower()
  return value if isinstance(value, str) else repr(value)


def as_number(text: str) -> float | None:
  """The number that a value's text is; None: it is none."""
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return None
  return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def product(axes: Sequence[Axis]) -> list[Overrides]:
  """Every combination of the values of the axes, the last one changing fastest.

  Raises:
    LmxError: a key is in two axes, or there is a range, which has no end of values.
  """
  keys = all_keys(axes)
  for axis in axes:
    if isinstance(axis, Interval):
      raise LmxError(f"--sweep.{axis.key}: a range has no end of values. Fix: --search=random --trials=20")
  lists = [axis.values for axis in axes if isinstance(axis, Choices)]
  return [dict(zip(keys, itertools.chain(*row), strict=True)) for row in itertools.product(*lists)]


def all_keys(axes: Sequence[Axis]) -> list[str]:
  """The keys that the axes set, in order.

  Raises:
    LmxError: a key is in two axes.
  """
  keys = [key for axis in axes for key in keys_of(axis)]
  for key in keys:
    if keys.count(key) > 1:
      raise LmxError(f"--sweep.{key}: given twice. Fix: one flag for each key.")
  return keys


def keys_of(axis: Axis) -> tuple[str, ...]:
  """The keys that an axis sets."""
  return axis.keys if isinstance(axis, Choices) else (axis.key,)


def listed(trials: Any, where: str) -> list[Overrides]:
  """The trials that a `sweep()` returned: a list of {key: value}.

  Raises:
    LmxError: it is something else, empty, or has a trial twice.
  """
  if not isinstance(trials, Iterable) or isinstance(trials, str | Mapping):
    raise LmxError(
      message(f"{where}: sweep()", got=type(trials).__name__, allowed="a list of {key: value}, or of axes")
    )
  found: list[Overrides] = []
  for number, trial in enumerate(trials):
    if not isinstance(trial, Mapping) or not trial:
      raise LmxError(message(f"{where}: sweep(), trial {number}", got=trial, allowed='{"model.layers": 4, ...}'))
    overrides = {str(key): as_text(value) for key, value in trial.items()}
    if overrides in found:
      raise LmxError(f"{where}: sweep() has the trial {overrides} twice. Fix: remove one of them.")
    found.append(overrides)
  if not found:
    raise LmxError(f"{where}: sweep() returned no trials.")
  return found
