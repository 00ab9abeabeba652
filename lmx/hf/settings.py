# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The lines of a family's table of settings: the mapping between keys of its config.json and keys of config.model.

Each line works in both directions. Whatever config.model can't express is refused with the key and its value, never
ignored: a model that is nearly right is worse than none. The default of a key that a file leaves out is that of the
family's class in `transformers`.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Protocol

from lmx.errors import LmxError, message
from lmx.limits import raise_over
from lmx.models import MODELS

Keys = dict[str, Any]
REQUIRED: Any = object()  # The file must have the key.
_MISSING = object()
_LARGEST = 2**31 - 1  # Largest integer that a config.json may have.
_MAY_BE_ZERO = ("mlp_width", "token_types")
_KINDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text", dict: "an object",
          list: "a list"}  # fmt: skip


def is_a(kind: type, value: Any) -> bool:
  """Whether a JSON value is of a type. A bool is no number, 2.0 is no int, and NaN is no float."""
  if kind is float:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
  if kind is int:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST
  return isinstance(value, kind)


def same(value: Any, other: Any) -> bool:
  """Whether two values of JSON files are equal: 1 and 1.0 are, 1 and true are not."""
  return value == other and isinstance(value, bool) == isinstance(other, bool)


class HFConfig:
  """The keys of a config.json; records which of them were read."""

  def __init__(self, values: Mapping[str, Any], where: str, aliases: Mapping[str, str] | None = None):
    """Resolves the aliases.

    Args:
      values: the parsed file.
      where: its path, for messages.
      aliases: another name that files have for a key -> the key.

    Raises:
      LmxError: a file has a key under two names with different values.
    """
    self.values, self.where = dict(values), where
    self.used: set[str] = set()
    for alias, key in (aliases or {}).items():
      if alias in values:
        self.used.add(alias)
        if key in values and not same(values[key], values[alias]):
          raise self.refuse(alias, values[alias], f"{values[key]!r} as {key}, which means the same")
        self.values[key] = values[alias]

  def take(self, key: str, default: Any = REQUIRED, kind: type | None = None, *, nullable: bool = True) -> Any:
    """The value of a key, or the default where the file has none.

    Args:
      key: its name.
      default: returned where the file lacks the key; `REQUIRED`: the file must have it.
      kind: int | float | bool | str | dict | list, the type of the value; None: any.
      nullable: whether null is a value of that type, too.

    Raises:
      LmxError: a required key is missing, or the value has another type.
    """
    self.used.add(key)
    value = self.values.get(key, _MISSING)
    if value is _MISSING:
      if default is REQUIRED:
        raise LmxError(f"{self.where}: there is no key {key!r}. Is this the config.json of a model?")
      return default
    self.check(key, value, kind, nullable=nullable)
    return value

  def check(self, key: str, value: Any, kind: type | None, *, nullable: bool = True) -> None:
    """Checks the type of a value that is not read by `take`, such as one inside of an object.

    Args:
      key: its name, for the message.
      value: the value.
      kind, nullable: as in `take`.

    Raises:
      LmxError: it has another type.
    """
    if kind is None or is_a(kind, value) or (value is None and nullable):
      return
    allowed = _KINDS[kind] + (" or null" if nullable else "")
    raise LmxError(message(f"{self.where}: {key}", got=value, allowed=allowed, fix="correct the file"))

  def check_rest(self, off: Mapping[str, tuple[Any, ...]]) -> None:
    """Checks that the keys that weren't read have no effect.

    Args:
      off: a key that may be there -> its values without effect; (): all of them.

    Raises:
      LmxError: another key or value, by name.
    """
    for key in sorted(set(self.values) - self.used):
      if key not in off:
        raise LmxError(message(f"{self.where}: key", got=key, allowed=sorted(self.used | set(off)), fix="remove it"))
      if off[key] and not any(same(self.values[key], value) for value in off[key]):
        raise self.refuse(key, self.values[key], list(off[key]))

  def refuse(self, key: str, got: Any, allowed: Any) -> LmxError:
    """The error for a value that lmx can't express.

    Args:
      key: its name; a dot leads into an object.
      got: the value.
      allowed: values that lmx can express: a list, or a phrase.
    """
    return LmxError(message(f"{self.where}: {key}", got=got, allowed=allowed, fix="lmx can't run this model exactly"))


def _kinds_of_fields() -> dict[str, tuple[type | None, bool]]:
  """Key of config.model -> (type of its values, whether None is one), as the specs of the models declare them."""
  found: dict[str, tuple[type | None, bool]] = {}
  for row in MODELS.values():
    hints = typing.get_type_hints(row.spec)
    for field in dataclasses.fields(row.spec):
      hint = hints[field.name]
      parts = [part for part in typing.get_args(hint) if part is not types.NoneType] or [hint]
      found[field.name] = (parts[0] if parts[0] in _KINDS else None, field.default is None)
  return found


_FIELDS = _kinds_of_fields()


class Line(Protocol):
  """One line of a family's table of settings; families define further classes where the ones below don't suffice."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    """Puts keys of config.model into `ours`; raises LmxError for values that config.model can't express."""

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    """Puts keys of config.json into `theirs`; `ours` has every field of the spec, with derived sizes filled in."""


@dataclasses.dataclass(frozen=True)
class Same:
  """A key with the same meaning on both sides, under two names, perhaps with different words for its values.

  Attributes:
    theirs, ours: the names.
    default: their value where the file lacks the key.
    words: their value -> ours; None: values are equal. Where several stand for one of ours, the first is written.
    null: whether null is allowed although it isn't the default.
  """

  theirs: str
  ours: str
  default: Any = REQUIRED
  words: Mapping[Any, Any] | None = None
  null: bool = False

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    kind, nullable = _FIELDS[self.ours] if self.words is None else (None, True)
    nullable = nullable and (self.null or self.default is None)
    value = theirs.take(self.theirs, self.default, kind, nullable=nullable)
    if kind is int and value is not None and value < (0 if self.ours in _MAY_BE_ZERO else 1):
      raise theirs.refuse(self.theirs, value, "a positive whole number")
    if self.ours in ("layers", "encoder_layers"):
      raise_over("layers", value, f"{theirs.where}: {self.theirs}")
    if self.words is not None:
      found = [word for word in self.words if same(word, value)]
      if not found:
        raise theirs.refuse(self.theirs, value, list(self.words))
      value = self.words[found[0]]
    ours[self.ours] = value

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    value = ours[self.ours]
    if self.words is not None:
      word = next((theirs_value for theirs_value, ours_value in self.words.items() if ours_value == value), _MISSING)
      if word is _MISSING:
        allowed = list(dict.fromkeys(self.words.values()))
        subject = f"config.model.{self.ours}"
        raise LmxError(message(subject, got=value, allowed=allowed, fix=f"--{subject}={allowed[0]}"))
      value = word
    theirs[self.theirs] = value


@dataclasses.dataclass(frozen=True)
class Always:
  """Keys of config.model that every model of the family has, so its config.json has no key for them."""

  ours: Mapping[str, Any]

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    ours.update(self.ours)

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Only:
  """A key of theirs without a counterpart in lmx.

  Attributes:
    theirs: the key.
    allowed: the values that lmx computes; any other is refused. Exports write the first.
    default: their value where the file lacks the key; left out: the first of `allowed`.
  """

  theirs: str
  allowed: tuple[Any, ...]
  default: Any = _MISSING

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    value = theirs.take(self.theirs, self.allowed[0] if self.default is _MISSING else self.default)
    if not any(same(value, one) for one in self.allowed):
      raise theirs.refuse(self.theirs, value, list(self.allowed))

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs[self.theirs] = self.allowed[0]


@dataclasses.dataclass(frozen=True)
class Also:
  """A key that exports write for other programs and imports ignore, since it doesn't change a trained model's outputs.

  Attributes:
    theirs: their key.
    ours: the key of config.model whose value is written.
  """

  theirs: str
  ours: str

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    theirs.take(self.theirs, None, _FIELDS[self.ours][0])

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs[self.theirs] = ours[self.ours]
