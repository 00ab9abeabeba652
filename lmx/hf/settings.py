# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The lines of a family's table of settings: how keys of its config.json and of config.model stand for each other.

Each line works in both directions. What can't be said in config.model is refused, with the key and its value, and never
ignored: a model that is nearly right is worse than none. Defaults are those of the family's class in transformers, for
files that leave a key out.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from lmx.errors import LmxError, message

Keys = dict[str, Any]
REQUIRED: Any = object()  # The file must have the key.
_MISSING = object()


class Settings:
  """A config.json, remembering which keys were asked for."""

  def __init__(self, values: Mapping[str, Any], where: str):
    """Takes the parsed file; `where` is its path, for messages."""
    self.values, self.where = dict(values), where
    self.used: set[str] = set()

  def take(self, key: str, default: Any = REQUIRED) -> Any:
    """The value of a key, or the default where the file has none.

    Raises:
      LmxError: a key that must be there isn't.
    """
    self.used.add(key)
    value = self.values.get(key, _MISSING)
    if value is _MISSING:
      if default is REQUIRED:
        raise LmxError(f"{self.where}: there is no key {key!r}. Is this the config.json of a model?")
      return default
    return value

  def refuse(self, key: str, got: Any, allowed: Any) -> LmxError:
    """An error for a value that lmx can't express."""
    return LmxError(message(f"{self.where}: {key}", got=got, allowed=allowed, fix="lmx can't run this model exactly"))


class Line(Protocol):
  """One line of a family's table."""

  def read(self, theirs: Settings, ours: Keys) -> None:
    """Puts keys of config.model into `ours`; raises LmxError for what can't be expressed."""

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    """Puts keys of config.json into `theirs`; `ours` holds every field of a spec, resolved."""


@dataclasses.dataclass(frozen=True)
class Same:
  """A key that means the same in both, under two names, perhaps with other words for its values.

  Attributes:
    theirs, ours: the names.
    default: theirs, where the file leaves it out.
    words: their value -> ours; None: the values are the same. The first of several is the one that is written.
    also: another name that files have for theirs.
  """

  theirs: str
  ours: str
  default: Any = REQUIRED
  words: Mapping[Any, Any] | None = None
  also: str | None = None

  def read(self, theirs: Settings, ours: Keys) -> None:
    default = self.default if self.also is None else theirs.take(self.also, self.default)
    value = theirs.take(self.theirs, default)
    if self.words is not None:
      if value not in self.words:
        raise theirs.refuse(self.theirs, value, list(self.words))
      value = self.words[value]
    ours[self.ours] = value

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    value = ours[self.ours]
    if self.words is not None:
      value = next((theirs_value for theirs_value, ours_value in self.words.items() if ours_value == value), None)
    theirs[self.theirs] = value


@dataclasses.dataclass(frozen=True)
class Always:
  """What every model of the family has, so that its config.json doesn't say it."""

  ours: Mapping[str, Any]

  def read(self, theirs: Settings, ours: Keys) -> None:
    ours.update(self.ours)

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Only:
  """A key of theirs that lmx has no counterpart for: any value but these is refused. The first is written."""

  theirs: str
  allowed: tuple[Any, ...]
  default: Any = _MISSING

  def read(self, theirs: Settings, ours: Keys) -> None:
    value = theirs.take(self.theirs, self.allowed[0] if self.default is _MISSING else self.default)
    if value not in self.allowed:
      raise theirs.refuse(self.theirs, value, list(self.allowed))

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs[self.theirs] = self.allowed[0]


@dataclasses.dataclass(frozen=True)
class Also:
  """A key that is written for others to read, and not read: it doesn't change what a trained model computes.

  Attributes:
    theirs: their key.
    ours: the key of config.model whose value is written.
  """

  theirs: str
  ours: str

  def read(self, theirs: Settings, ours: Keys) -> None:
    theirs.take(self.theirs, None)

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs[self.theirs] = ours[self.ours]


@dataclasses.dataclass(frozen=True)
class Rope:
  """Rotary positions: the base, and how frequencies are changed for a longer context.

  Files have had two forms: rope_theta with rope_scaling, and since transformers 5 rope_parameters with both. The
  first is written: all versions read it.

  Attributes:
    theta: the family's default base.
  """

  theta: float = 10_000.0

  def read(self, theirs: Settings, ours: Keys) -> None:
    ours["position"] = "rotary"
    given = dict(theirs.take("rope_scaling", None) or {})
    given |= {k: v for k, v in (theirs.take("rope_parameters", None) or {}).items() if v is not None}
    theta = given.pop("rope_theta", None)
    ours["rope_theta"] = float(theirs.take("rope_theta", None) or theta or self.theta)
    read_rope_scaling(theirs, given, ours)

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs["rope_theta"] = ours["rope_theta"]
    theirs["rope_scaling"] = rope_scaling(ours)


_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}  # As Llama 3.1 has them; lmx has no others.


def read_rope_scaling(theirs: Settings, given: Mapping[str, Any], ours: Keys) -> None:
  """`rope_scaling` of config.model, and its numbers, from the object that describes it.

  Raises:
    LmxError: a kind that lmx lacks (yarn, longrope, dynamic), or other constants than Llama 3.1's.
  """
  given = dict(given)
  old, new = given.pop("type", None), given.pop("rope_type", None)
  kind = new or old or "default"
  words = {"default": "none", "linear": "linear", "llama3": "llama3"}
  if kind not in words:
    raise theirs.refuse("rope_scaling.rope_type", kind, list(words))
  share = given.pop("partial_rotary_factor", None)
  if share not in (None, 1, 1.0):
    raise theirs.refuse("rope_scaling.partial_rotary_factor", share, [1.0])
  ours["rope_scaling"] = words[kind]
  if kind == "default":
    return
  ours["rope_factor"] = float(given.pop("factor"))
  if kind == "llama3":
    ours["rope_original_context"] = int(given.pop("original_max_position_embeddings"))
    for key, value in _LLAMA3.items():
      if given.get(key, value) != value:
        raise theirs.refuse(f"rope_scaling.{key}", given[key], [value])


def rope_scaling(ours: Mapping[str, Any]) -> Keys | None:
  """The object that describes the scaling, or None; a kind that they lack gives an unknown word."""
  kind = ours["rope_scaling"]
  if kind == "none":
    return None
  described = {"rope_type": kind, "factor": ours["rope_factor"]}
  if kind == "llama3":
    described |= {"original_max_position_embeddings": ours["rope_original_context"], **_LLAMA3}
  return described


@dataclasses.dataclass(frozen=True)
class Windows:
  """Sliding windows in all layers, or in all but every n-th: `sliding_window` with `layer_types`.

  Attributes:
    switch: their key that must be true for the window to count, or None.
    layered: whether the family has layer_types; otherwise the window is every layer's.
    every: what lmx calls global_every where the file has no layer_types; None: no layer is global.
    pattern: their older key for it, or None.
    full_first: where the file has no layer_types: the first max_window_layers layers have no window, the others do.
    window: their default.
  """

  switch: str | None = None
  layered: bool = False
  every: int | None = None
  pattern: str | None = None
  full_first: bool = False
  window: int | None = None

  def read(self, theirs: Settings, ours: Keys) -> None:
    window = theirs.take("sliding_window", self.window)
    if self.switch is not None and not theirs.take(self.switch, False):
      window = None
    every = self.every if self.pattern is None else theirs.take(self.pattern, self.every)
    kinds = theirs.take("layer_types", None) if self.layered else None
    full = theirs.take("max_window_layers", 28) if self.full_first else 0
    if self.full_first and kinds is None:
      kinds = [_FULL if layer < full else _SLIDING for layer in range(ours["layers"])]
    if kinds is not None and window:
      every = _global_every(theirs, list(kinds), ours["layers"])
    window = None if every == 1 or not window else window
    ours |= {"window": window, "global_every": None if window is None else every}

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    window, every, layers = ours["window"], ours["global_every"], ours["layers"]
    theirs["sliding_window"] = window
    if self.switch is not None:
      theirs[self.switch] = window is not None
    if self.full_first:
      theirs["max_window_layers"] = layers if window is None else 0
    if self.layered:
      period = 1 if window is None else every
      theirs["layer_types"] = _kinds(period, layers)


_FULL, _SLIDING = "full_attention", "sliding_attention"


def _kinds(period: int | None, layers: int) -> list[str]:
  """layer_types with full attention in every so many layers."""
  return [_FULL if period is not None and (layer + 1) % period == 0 else _SLIDING for layer in range(layers)]


def _global_every(theirs: Settings, kinds: list[str], layers: int) -> int | None:
  """The period of the layers with full attention; None: there are none."""
  if set(kinds) - {_FULL, _SLIDING} or len(kinds) != layers:
    raise theirs.refuse("layer_types", kinds, f"{layers} of {_FULL} and {_SLIDING}")
  if _FULL not in kinds:
    return None
  period = kinds.index(_FULL) + 1
  if kinds != _kinds(period, layers):
    raise theirs.refuse("layer_types", kinds, f"{_FULL} in every {period}. layer, and in no other")
  return period
