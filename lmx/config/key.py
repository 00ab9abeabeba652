# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The notation of configs/base.py: a key's default, the values that it may have, and who reads it.

    model = config.model = Section(read_by="family")
    model.layers = key(12, ">= 1")  # Blocks.
    model.kv_heads = optional(int, ">= 1")  # Key-value heads; None: one per query head.
    model.position = key("learned", "learned | rotary | none")
    model.rope_theta = key(10_000.0, "> 0", read_by="position = rotary")  # Rotary base.

The comment of a key is its meaning. What may be allowed:

    "a | b | c"             one of these names; of a tuple: each item is one of them
    ">= 1", "> 0", ...      a number's range; "0 <= x < 1", "-1 or >= 1"
    "rows of NAME"          a row of the table NAME of `lmx`, looked up when the experiment is built
    a name of `_NAMED`      text, list, path, regex, duration, ...

and what may read a key, `read_by`, for a whole section or one key (then both must hold):

    "schedule = wsd"        read where config.<section>.schedule has this value, or one of several, "a | b"
    "window"                read where config.<section>.window isn't its default
    "a = b and c"           where both hold
    "name"                  of a key whose values are rows of a table: read where the chosen row names the key
"""

import dataclasses
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import config_dict

from lmx.errors import LmxError, message
from lmx.limits import LIMITS, limit, variable
from lmx.units import parse_duration

# ---------------------------------------------------------------- which values are allowed


@dataclasses.dataclass(frozen=True)
class Allowed:
  """The values that a key may have.

  Attributes:
    check: (subject, value) -> None, or an LmxError.
    choices: the names, where these are all; else ().
    phrase: for people.
  """

  check: Callable[[str, Any], None]
  choices: tuple[str, ...] = ()
  phrase: str = ""


def _passes(test: Callable[[Any], bool], phrase: str) -> Allowed:
  def check(subject: str, value: Any) -> None:
    if not test(value):
      raise LmxError(message(subject, got=value, allowed=phrase))

  return Allowed(check, phrase=phrase)


_NUMBER = r"-?[\d.]+(?:e[+-]?\d+)?"
_RANGE = re.compile(rf"(?:(?P<extra>{_NUMBER}) or )?(?:(?P<low>{_NUMBER}) (?P<above><=?) x (?P<below><=?) "
                    rf"(?P<high>{_NUMBER})|(?P<from>>=?) (?P<bound>{_NUMBER}))")  # fmt: skip
_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def _range(text: str, kind: type) -> Allowed | None:
  """ "0 <= x < 1" as a rule, or None where the text is no range."""
  match = _RANGE.fullmatch(text)
  if match is None:
    return None
  word, extra = "a whole number" if kind is int else "a number", match["extra"]
  if match["bound"]:
    bound, order = float(match["bound"]), _ORDER[match["from"]]
    phrase = f"{word} {'of at least' if match['from'] == '>=' else 'above'} {match['bound']}"

    def inside(x: float) -> bool:
      return order(x, bound)

  else:
    low, high, above, below = float(match["low"]), float(match["high"]), _ORDER[match["above"]], _ORDER[match["below"]]
    closed = (match["above"], match["below"])
    phrase = {
      ("<=", "<="): f"{word} from {match['low']} to {match['high']}",
      ("<=", "<"): f"{word} from {match['low']} up to, not including, {match['high']}",
      ("<", "<"): f"{word} between {match['low']} and {match['high']}",
      ("<", "<="): f"{word} above {match['low']}, at most {match['high']}",
    }[closed]

    def inside(x: float) -> bool:
      return above(low, x) and below(x, high)

  phrase += f", or {extra}" if extra else ""
  return _passes(lambda x: math.isfinite(x) and (inside(x) or (bool(extra) and x == float(extra or 0))), phrase)


def _choices(text: str, kind: type) -> Allowed:
  names = tuple(name.strip() for name in text.split("|"))

  def check(subject: str, value: Any) -> None:
    for name in value if kind is tuple else (value,):
      if name not in names:
        raise LmxError(message(subject, got=name, allowed=names))

  return Allowed(check, names, " | ".join(names))


def _duration(*, zero: bool = False, percent: bool = True) -> Allowed:
  """A duration in text: above 0; with `zero`, from 0 to 100% of the run; without `percent`, no share of the run."""
  phrase = "a duration from 0 to 100% of the run" if zero else "a duration above 0"
  if not percent:
    phrase = "a positive number of steps, tokens, examples or epochs (percent has nothing to refer to)"

  def check(subject: str, text: str) -> None:
    number, unit = parse_duration(text, subject)
    if zero and unit == "percent" and number > 100:
      raise LmxError(message(subject, got=text, allowed="0% to 100% of the run"))
    if not zero and number <= 0:
      raise LmxError(message(subject, got=text, allowed=phrase))
    if unit == "percent" and not percent:
      raise LmxError(message(subject, got=text, allowed=phrase, fix=f'--{subject}="10000 steps"'))

  return Allowed(check, phrase=phrase)


def _regex(subject: str, pattern: str) -> None:
  try:
    re.compile(pattern)
  except re.error as error:
    raise LmxError(message(subject, got=pattern, allowed=f"a regular expression ({error})")) from error


def _regexes(subject: str, rules: tuple[tuple[str, float], ...]) -> None:
  if not rules:
    raise LmxError(message(subject, got=rules, allowed="at least one (regex, multiplier) pair"))
  for pattern, multiplier in rules:
    _regex(subject, pattern)
    if not (math.isfinite(multiplier) and multiplier >= 0):
      raise LmxError(message(subject, got=multiplier, allowed="a multiplier of at least 0"))


def _denoisers(subject: str, triples: tuple[tuple[float, float, float], ...]) -> None:
  for weight, share, span in triples:
    if not (weight > 0 and 0 < share < 1 and (span == 0 or span >= 1)):
      allowed = "(a weight above 0, a share between 0 and 1, a length of 0 or from 1)"
      raise LmxError(message(subject, got=(weight, share, span), allowed=allowed))
  if not triples:
    raise LmxError(message(subject, got=triples, allowed="at least one"))


_FOLDER = "letters, digits, and any of . _ + = , @ -, as it names a folder"
_DAY = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_NAMED: dict[str, Allowed] = {
  "": Allowed(lambda subject, value: None),
  "text": _passes(lambda x: len(x) > 0, "at least one character"),
  "list": _passes(lambda x: len(x) > 0 and all(x), "at least one item, none of them empty"),
  "list or nothing": _passes(all, "items that are not empty, or ()"),
  "weights": _passes(lambda x: all(math.isfinite(w) and w > 0 for w in x), "numbers above 0; leave the source out"),
  "folder name": _passes(lambda x: bool(re.fullmatch(r"[\w.+=,@-]+", x)) and x.strip(".") != "", _FOLDER),
  "denoisers": Allowed(_denoisers, phrase="(a weight above 0, a share between 0 and 1, a length of 0 or from 1)"),
  "day": _passes(lambda x: bool(re.fullmatch(_DAY, x)), "a day, as 2024-07-26"),
  "path": _passes(lambda x: len(x) > 0, "a path that exists"),  # lmx.config.checks.check_files looks for it.
  "layers": _passes(lambda x: 1 <= x <= limit("layers"),
                    f"at least 1, at most {variable('layers')} ({LIMITS['layers'][0]:,})"),
  "duration": _duration(),
  "duration from 0": _duration(zero=True),
  "duration without percent": _duration(percent=False),
  "regex": Allowed(_regex, phrase="a regular expression"),
  "regex rules": Allowed(_regexes, phrase="(regex, multiplier) pairs, multipliers of at least 0"),
}  # fmt: skip


def allowed_values(text: str, kind: type) -> Allowed:
  """What the text next to a key allows; see the module.

  Args:
    text: of the key.
    kind: of its values.

  Raises:
    ValueError: the text is none of the notation.
  """
  if text in _NAMED:
    return _NAMED[text]
  if text.startswith("rows of "):
    return Allowed(_NAMED[""].check, phrase=f"a row of {text.removeprefix('rows of ')}")
  found = _range(text, kind) or (_choices(text, kind) if re.fullmatch(r"[\w | ]+", text) and "|" in text else None)
  if found is None:
    raise ValueError(f"configs/base.py: {text!r} describes no allowed values; see lmx/config/key.py")
  return found


# ---------------------------------------------------------------- keys and sections


@dataclasses.dataclass(frozen=True)
class Reader:
  """A condition for a key to be read.

  Attributes:
    chooser: the dotted key that decides.
    values: with which values; (): see `ChosenBy`.
    by_row: whether the chooser's values are rows of a table, which name the keys that they read.
  """

  chooser: str
  values: tuple[str, ...] = ()
  by_row: bool = False

  def reads(self, flat: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
    """Whether it holds in a config, by the values of dotted keys there and in base.py. Rows are not asked here."""
    if self.values or self.by_row:
      return self.by_row or flat[self.chooser] in self.values
    return bool(flat[self.chooser] != base[self.chooser])

  def described(self) -> str:
    """For people: "optimizer.schedule = wsd"."""
    if self.by_row:
      return f"the {self.chooser} whose row names it"
    return f"{self.chooser} = {' | '.join(self.values)}" if self.values else f"{self.chooser} set"


@dataclasses.dataclass(frozen=True)
class Key:
  """One key of an experiment.

  Attributes:
    default: its value where nobody sets it.
    kind: the type of its values: int, float, bool, str or tuple.
    optional: whether None is a value.
    text: the values that it may have, in the notation of this module.
    items: of a tuple: str (may be typed as a comma list) | text (may contain commas) | float | rule ((regex, number)
      pairs) | triple (of numbers).
    escapes: whether it holds characters rather than a name or a path: typed in a shell, \\n is a newline.
    readers: conditions for it to be read, which all must hold; (): it always is.
    meaning: its comment.
  """

  default: Any
  kind: type
  optional: bool = False
  text: str = ""
  items: str = ""
  escapes: bool = False
  read_by: str = ""
  readers: tuple[Reader, ...] = ()
  meaning: str = ""
  allowed: Allowed = _NAMED[""]

  @property
  def table(self) -> str:
    """ "lmx.optim.OPTIMIZERS" where its values are the rows of a table; else ""."""
    return self.text.removeprefix("rows of ") if self.text.startswith("rows of ") else ""

  def described(self) -> str:
    """Its meaning, allowed values and the values of other keys with which it is read, in a line for people."""
    conditions = " and ".join(reader.described() for reader in self.readers if not reader.by_row)
    allowed = self.text if re.search(r"[<>|]", self.text) else self.allowed.phrase
    allowed += " or None" if allowed and self.optional else ""
    parts = [self.meaning, f"Allowed: {allowed}." if allowed else "",
             f"Read with {conditions}." if conditions else ""]  # fmt: skip
    return " ".join(part for part in parts if part)

  def check(self, subject: str, value: Any) -> None:
    """Checks one value of the right type.

    Raises:
      LmxError: the key may not have it.
    """
    if not (value is None and self.optional):
      self.allowed.check(subject, value)


def key(default: Any, allowed: str = "", *, read_by: str = "", items: str = "", escapes: bool = False) -> Any:
  """A key with a default.

  Args:
    default: its type is the key's.
    allowed: which values, in the notation of this module; "": every one of the type.
    read_by: who reads it; "": whoever reads the section.
    items: what a tuple holds, see `Key`.
    escapes: see `Key`.
  """
  return Key(default, type(default), False, allowed, items, escapes, read_by,
             allowed=allowed_values(allowed, type(default)))  # fmt: skip


def optional(kind: type, allowed: str = "", *, read_by: str = "", escapes: bool = False) -> Any:
  """A key that is None until it is set; `kind` is the type of its other values, the rest as for `key`."""
  return Key(None, kind, True, allowed, "", escapes, read_by, allowed=allowed_values(allowed, kind))


class Section:
  """Keys and sections by name, in the order in which they are assigned.

  Assigning the same section to a variable and to an attribute, as base.py does, gives its keys a short name.
  """

  def __init__(self, read_by: str = ""):
    self.__dict__["_read_by"], self.__dict__["_entries"] = read_by, {}

  def __setattr__(self, name: str, entry: Any) -> None:
    if not isinstance(entry, Section | Key):
      raise TypeError(f"configs/base.py: {name} = {entry!r}: write key({entry!r}), see lmx/config/key.py")
    self._entries[name] = entry

  def __getattr__(self, name: str) -> Any:
    raise AttributeError(f"configs/base.py: the section has no {name}")

  def config(self) -> config_dict.ConfigDict:
    """The section with every key at its default."""
    made = config_dict.ConfigDict()
    for name, entry in self._entries.items():
      if isinstance(entry, Section):
        made[name] = entry.config()
      else:
        made[name] = config_dict.placeholder(entry.kind) if entry.optional else entry.default
    return made

  def keys(self, meanings: Mapping[str, str]) -> dict[str, Key]:
    """Every key by its dotted name, with its readers resolved.

    Args:
      meanings: of keys, by dotted name.

    Raises:
      ValueError: a reader that is no key.
    """
    flat = dict(self._walk("", ()))
    tables = {name for name, (entry, _) in flat.items() if entry.table}
    found = {}
    for name, (entry, conditions) in flat.items():
      section = name.rpartition(".")[0]
      own = [(condition, section) for condition in entry.read_by.split(" and ") if condition]
      readers = tuple(_reader(text, where, flat, tables) for text, where in [*conditions, *own])
      meaning = meanings.get(name, "")
      # The key that chooses a row is no business of the row.
      found[name] = dataclasses.replace(entry, readers=tuple(r for r in readers if r.chooser != name), meaning=meaning)
    return found

  def _walk(self, prefix: str, above: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, Any]]:
    conditions = (*above, (self._read_by, prefix.rstrip("."))) if self._read_by else above
    for name, entry in self._entries.items():
      if isinstance(entry, Section):
        yield from entry._walk(f"{prefix}{name}.", conditions)
      else:
        yield prefix + name, (entry, conditions)


def _reader(text: str, section: str, known: Mapping[str, Any], tables: set[str]) -> Reader:
  name, _, values = (part.strip() for part in text.partition("="))
  chooser = name if "." in name or not section else f"{section}.{name}"
  if chooser not in known:
    raise ValueError(f"configs/base.py: read_by={text!r} names config.{chooser}, which is no key")
  names = tuple(value.strip() for value in values.split("|")) if values else ()
  return Reader(chooser, names, by_row=chooser in tables and not names)
