# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Lines of a family's table of settings for rotary positions (RoPE) and sliding windows.

A config.json may have the same setting under several keys. A file where two of them disagree is refused, since some
programs read one and some the other.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lmx.hf.settings import HFConfig, Keys, same

_KINDS = {"default": "none", "linear": "linear", "llama3": "llama3"}
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}  # Those of Llama 3.1, the only ones that lmx supports.
_READ = ("type", "rope_type", "rope_theta", "factor", "original_max_position_embeddings", *_LLAMA3)


@dataclasses.dataclass(frozen=True)
class Rope:
  """Rotary positions: the base, and the scaling of frequencies for a longer context.

  There are two forms: rope_theta with rope_scaling, and since transformers 5 rope_parameters with both. That version
  replaces rope_parameters by rope_scaling where the latter isn't empty, and prefers a rope_theta inside of the object
  to one outside. Exports have both forms, for older and newer programs.

  Attributes:
    theta: the family's default base.
  """

  theta: float = 10_000.0

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    ours["position"] = "rotary"
    older, newer = (_object(theirs, key) for key in ("rope_scaling", "rope_parameters"))
    check_agreement(theirs, older, newer)
    chosen, name = (older, "rope_scaling") if older else (newer, "rope_parameters")
    given = {f"{name}.rope_theta": chosen.get("rope_theta"), "rope_theta": theirs.take("rope_theta", None, float)}
    if all(value is None for value in given.values()):  # transformers drops rope_parameters, and its base with it.
      given[f"the default with {name}"] = self.theta
    given["rope_parameters.rope_theta"] = newer.get("rope_theta")
    ours["rope_theta"] = one_theta(theirs, self.theta, given)
    read_rope_scaling(theirs, name, chosen, ours)

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs["rope_theta"] = ours["rope_theta"]
    theirs["rope_scaling"] = rope_scaling(ours)
    theirs["rope_parameters"] = {"rope_theta": ours["rope_theta"], **(rope_scaling(ours) or {"rope_type": "default"})}


def _object(theirs: HFConfig, key: str) -> Keys:
  """An object of the file without its nulls; {} if it is absent."""
  return {name: value for name, value in (theirs.take(key, None, dict) or {}).items() if value is not None}


def _kind(theirs: HFConfig, name: str, given: Mapping[str, Any]) -> str:
  """The kind of scaling, from the newer key or the older one."""
  new, old = given.get("rope_type"), given.get("type")
  if new is not None and old is not None and new != old:
    raise theirs.refuse(f"{name}.type", old, f"{new!r} as {name}.rope_type, which means the same")
  kind = new or old or "default"
  if not isinstance(kind, str) or kind not in _KINDS:
    raise theirs.refuse(f"{name}.rope_type", kind, list(_KINDS))
  return kind


def check_agreement(theirs: HFConfig, older: Mapping[str, Any], newer: Mapping[str, Any]) -> None:
  """Checks that rope_scaling and rope_parameters describe the same scaling.

  Args:
    theirs: the file, for messages.
    older, newer: the two objects, without nulls.

  Raises:
    LmxError: they differ.
  """
  if not older or not newer or _kind(theirs, "rope_parameters", newer) == "default":
    return
  for key in ("rope_type", *_READ[3:]):
    ours, other = (_kind(theirs, name, one) if key == "rope_type" else one.get(key)
                   for name, one in (("rope_scaling", older), ("rope_parameters", newer)))  # fmt: skip
    if not same(ours, other):
      raise theirs.refuse(f"rope_scaling.{key}", ours, f"{other!r} as in rope_parameters")


def one_theta(theirs: HFConfig, default: float, given: Mapping[str, Any]) -> float:
  """The base of the rotary angles.

  Args:
    theirs: the file, for messages.
    default: the base where no key has a value.
    given: key -> its value, or None, for every key that may hold the base.

  Raises:
    LmxError: two keys differ, or one isn't a positive number.
  """
  found = {key: value for key, value in given.items() if value is not None}
  for key, value in found.items():
    theirs.check(key, value, float)
    if value <= 0:
      raise theirs.refuse(key, value, "a number above 0")
  first = next(iter(found), None)
  for key, value in found.items():
    if first is not None and value != found[first]:
      raise theirs.refuse(key, value, f"{found[first]!r} as {first}, which means the same")
  return float(default if first is None else found[first])


def read_rope_scaling(theirs: HFConfig, name: str, given: Mapping[str, Any], ours: Keys) -> None:
  """Reads rope_scaling of config.model, and its numbers, from the object that describes it.

  Args:
    theirs: the file.
    name: the object's key, for messages.
    given: the object, without nulls.
    ours: the keys of config.model so far, `context` included; they are added here.

  Raises:
    LmxError: a kind that lmx lacks (yarn, longrope, dynamic), other constants than Llama 3.1's, or a number that is
      missing or that the kind doesn't use.
  """
  kind = _kind(theirs, name, given)
  outside = theirs.take("partial_rotary_factor", None, float)
  for key, share in ((f"{name}.partial_rotary_factor", given.get("partial_rotary_factor")),
                     ("partial_rotary_factor", outside)):  # fmt: skip
    if share is not None and not same(share, 1):
      raise theirs.refuse(key, share, [1.0])
  ours["rope_scaling"] = _KINDS[kind]
  used = _READ[:3] + {"default": (), "linear": ("factor",), "llama3": _READ[3:]}[kind] + ("partial_rotary_factor",)
  for key, value in given.items():
    if key not in used and not (kind != "llama3" and key == "original_max_position_embeddings"):
      raise theirs.refuse(f"{name}.{key}", value, f"nothing with rope_type {kind!r}")
  if kind == "default":
    return
  ours["rope_factor"] = _number(theirs, name, given, "factor")
  if kind == "llama3":
    ours["rope_original_context"] = _original_context(theirs, name, given, ours)
    for key, value in _LLAMA3.items():
      if _number(theirs, name, given, key) != value:
        raise theirs.refuse(f"{name}.{key}", given[key], [value])


def _number(theirs: HFConfig, name: str, given: Mapping[str, Any], key: str) -> float:
  """A required positive number."""
  if key not in given:
    raise theirs.refuse(f"{name}.{key}", None, f"a number, which rope_type {_kind(theirs, name, given)!r} needs")
  theirs.check(f"{name}.{key}", given[key], float, nullable=False)
  if given[key] <= 0:
    raise theirs.refuse(f"{name}.{key}", given[key], "a number above 0")
  return float(given[key])


def _original_context(theirs: HFConfig, name: str, given: Mapping[str, Any], ours: Keys) -> int:
  """The context before scaling; by default, as in transformers 5, that of the model."""
  key = "original_max_position_embeddings"
  inside, outside = given.get(key), theirs.take(key, None, int)
  theirs.check(f"{name}.{key}", inside, int)
  if inside is not None and outside is not None and inside != outside:
    raise theirs.refuse(f"{name}.{key}", inside, f"{outside!r} as {key} outside of it")
  return next(value for value in (inside, outside, ours["context"]) if value is not None)


def rope_scaling(ours: Mapping[str, Any]) -> Keys | None:
  """The object that describes the scaling, or None without any."""
  kind = ours["rope_scaling"]
  if kind == "none":
    return None
  described = {"rope_type": kind, "factor": ours["rope_factor"]}
  if kind == "llama3":
    described |= {"original_max_position_embeddings": ours["rope_original_context"], **_LLAMA3}
  return described


@dataclasses.dataclass(frozen=True)
class TwoRopes:
  """Two bases: one for layers with a sliding window, and one, with scaling, for global layers.

  Attributes:
    far, near: older keys of the bases of global layers and of layers with a window.
    far_theta, near_theta: the family's default bases.
    scaling: whether rope_scaling, the older key, applies to global layers; else it must be empty.
  """

  far: str
  near: str
  far_theta: float
  near_theta: float = 10_000.0
  scaling: bool = True

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    ours["position"] = "rotary"
    given = dict(theirs.take("rope_parameters", None, dict) or {})
    near, far = (self._layers(theirs, given, f"{kind}_attention") for kind in ("sliding", "full"))
    if given:
      raise theirs.refuse("rope_parameters", given, "full_attention and sliding_attention, with an object each")
    self._read_older_scaling(theirs, far)
    inside = "rope_parameters.{}_attention.rope_theta"
    outer = {self.far: theirs.take(self.far, None, float)}
    ours["rope_theta"] = one_theta(theirs, self.far_theta, {inside.format("full"): far.get("rope_theta")} | outer)
    outer = {self.near: theirs.take(self.near, None, float)}
    local = one_theta(theirs, self.near_theta, {inside.format("sliding"): near.get("rope_theta")} | outer)
    ours["rope_local_theta"] = local if ours["window"] else None
    if near.get("rope_type", "default") != "default":
      raise theirs.refuse("rope_parameters.sliding_attention.rope_type", near["rope_type"], ["default"])
    read_rope_scaling(theirs, "rope_parameters.full_attention", far, ours)

  def _read_older_scaling(self, theirs: HFConfig, far: Keys) -> None:
    """Merges rope_scaling into the newer object of global layers."""
    older = theirs.take("rope_scaling", None, dict) or {}
    if older and not self.scaling:
      raise theirs.refuse("rope_scaling", older, "null: this family has the scaling in rope_parameters")
    for key, value in older.items():
      if value is not None and not same(far.setdefault(key, value), value) and far.get("rope_type") != "default":
        raise theirs.refuse(f"rope_scaling.{key}", value, f"{far[key]!r} as in rope_parameters.full_attention")
      far |= {} if value is None else {key: value}

  @staticmethod
  def _layers(theirs: HFConfig, given: Keys, kind: str) -> Keys:
    """Removes the object of one kind of layers from rope_parameters, and returns it without nulls."""
    values = given.pop(kind, None)
    theirs.check(f"rope_parameters.{kind}", values, dict)
    return {name: value for name, value in (values or {}).items() if value is not None}

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    scaling = rope_scaling(ours)
    theirs[self.far] = ours["rope_theta"]
    theirs[self.near] = ours["rope_local_theta"] or self.near_theta
    theirs["rope_scaling"] = scaling if self.scaling else None
    theirs["rope_parameters"] = {
      "full_attention": {"rope_theta": ours["rope_theta"], **(scaling or {"rope_type": "default"})},
      "sliding_attention": {"rope_theta": theirs[self.near], "rope_type": "default"},
    }


@dataclasses.dataclass(frozen=True)
class Windows:
  """Sliding windows in all layers, or in all but every n-th: `sliding_window` and `layer_types`.

  Attributes:
    switch: their key that must be true for the window to apply; None: it always does.
    layered: whether the family has layer_types; otherwise every layer has the window.
    every: global_every of config.model where the file has no layer_types; None: no layer is global.
    pattern: their older key for `every`, or None.
    full_first: without layer_types, the first max_window_layers layers are global and all others have the window.
    full_last: without layer_types, layers from max_window_layers on are global.
    window: their default.
  """

  switch: str | None = None
  layered: bool = False
  every: int | None = None
  pattern: str | None = None
  full_first: bool = False
  full_last: bool = False
  window: int | None = None

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    window = theirs.take("sliding_window", self.window, int)
    if self.switch is not None and not theirs.take(self.switch, False, bool):
      window = None
    if window is not None and window < 1:
      raise theirs.refuse("sliding_window", window, "a positive number, or null")
    every = self.every if self.pattern is None else theirs.take(self.pattern, self.every, int, nullable=False)
    if every is not None and every < 1:
      raise theirs.refuse(str(self.pattern), every, "a positive number")
    kinds = theirs.take("layer_types", None, list)
    own = self._own_kinds(theirs, every, bool(window), ours["layers"])
    if kinds is None:
      kinds = own
    elif not self.layered and kinds != own:
      raise theirs.refuse("layer_types", kinds, f"{own[0]} in every layer, by sliding_window, or nothing")
    elif SLIDING in kinds and not window:
      raise theirs.refuse("layer_types", kinds, f"{FULL} in every layer, since there is no sliding window")
    every = _global_every(theirs, kinds, ours["layers"]) if window else None
    window = None if every == 1 or not window else window
    ours |= {"window": window, "global_every": None if window is None else every}

  def _own_kinds(self, theirs: HFConfig, every: int | None, window: bool, layers: int) -> list[str]:
    """layer_types of a file that lacks them."""
    most = theirs.take("max_window_layers", 28, int, nullable=False) if self.full_first or self.full_last else 0
    if not window:
      return [FULL] * layers
    if self.full_first:
      return [FULL if layer < most else SLIDING for layer in range(layers)]
    kinds = _kinds(every, layers)
    return kinds if not self.full_last else [kind if n < most else FULL for n, kind in enumerate(kinds)]

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    window, every, layers = ours["window"], ours["global_every"], ours["layers"]
    theirs["sliding_window"] = window
    if self.switch is not None:
      theirs[self.switch] = window is not None
    if self.full_first or self.full_last:
      theirs["max_window_layers"] = 0 if self.full_first and window is not None else layers
    if self.layered:
      period = 1 if window is None else every
      theirs["layer_types"] = _kinds(period, layers)


FULL, SLIDING = "full_attention", "sliding_attention"


def _kinds(period: int | None, layers: int) -> list[str]:
  """layer_types with full attention in every `period`-th layer; None: in none."""
  return [FULL if period is not None and (layer + 1) % period == 0 else SLIDING for layer in range(layers)]


def _global_every(theirs: HFConfig, kinds: list[str], layers: int) -> int | None:
  """The period of the layers with full attention; None: there are none.

  Raises:
    LmxError: they have no period.
  """
  if any(kind not in (FULL, SLIDING) for kind in kinds) or len(kinds) != layers:
    raise theirs.refuse("layer_types", kinds, f"{layers} of {FULL} and {SLIDING}")
  if FULL not in kinds:
    return None
  period = kinds.index(FULL) + 1
  if kinds != _kinds(period, layers):
    raise theirs.refuse("layer_types", kinds, f"{FULL} exactly once every {period} layers")
  return period
