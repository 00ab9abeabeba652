# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Load, override, check, save and compare experiment configs. Imports no jax, so that a typo is reported at once.

A config is an `ml_collections.ConfigDict`. `configs/base.py` holds every key with its type; every other config file is
a short difference from it:

    from lmx.config.loading import base_config

    def get_config(size="small"):  # What follows the colon in --config=configs/mine.py:small
      config = base_config()
      config.name = f"mine_{size}"
      config.model.layers = 4
      return config
"""

import ast
import inspect
import json
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections.config_dict import ConfigDict

from lmx.config import checks as config_check
from lmx.config.checks import check_files
from lmx.config.key import Key
from lmx.config.other_names import other_name
from lmx.config.table import config_dir, import_file, keys
from lmx.config.unread import unread
from lmx.errors import ConfigError, LmxError, Problems, message, nearest
from lmx.limits import raise_over

__all__ = [
  "base_config",
  "change",
  "check",
  "check_files",
  "config_dir",
  "diff",
  "find_config_file",
  "flatten",
  "from_json",
  "from_values",
  "load",
  "to_json",
  "try_load",
]


def _fresh_base() -> ConfigDict:
  return import_file(config_dir() / "base.py").get_config().lock()


def base_config() -> ConfigDict:
  """A copy of base.py's config for a config file to change.

  Anything can be assigned to it: `load` compares the result with base.py and reports all wrong keys and types at once.
  """
  return ConfigDict(_fresh_base().to_dict(), type_safe=False)


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
  """The config of a file, with overrides.

  Args:
    path: "configs/x.py" or "configs/x.py:argument"; relative to here, or to lmx's own configs.
    overrides: "optimizer.peak_lr=3e-4", in order.

  Raises:
    ConfigError: with every unknown key, wrong type and bad file found. `check` checks values, not this.
  """
  config, problems = try_load(path, overrides)
  if problems:
    raise ConfigError(dict.fromkeys(problems))
  return config


def try_load(path: str, overrides: Sequence[str] = ()) -> tuple[ConfigDict, list[str]]:
  """Like `load`, but returns the problems; the config then has base.py's value where a value was wrong."""
  problems = Problems()
  config = _fresh_base()
  with problems.collect():
    for key, value in _leaves(_config_of_file(path), config):
      with problems.collect():
        _assign(config, key, value, f"{path}: config.{key}")
  for override in overrides:
    with problems.collect():
      _override(config, override)
  return config, list(dict.fromkeys(problems.messages))


def change(config: ConfigDict, changes: Mapping[str, Any]) -> list[str]:
  """Sets keys of a typed config from Python (a text as in a shell); returns every unknown key and wrong type."""
  problems = Problems()
  for key, value in changes.items():
    with problems.collect():
      if isinstance(value, str):
        _override(config, f"{key}={value}")
      else:
        _assign(config, key, value, f"config.{key}")
  return problems.messages


def check(config: ConfigDict) -> list[str]:
  """Everything that is wrong with the values of a well-typed config, without jax; [] when nothing is."""
  return [*config_check.check(config), *unread(flatten(config), flatten(_fresh_base()))]


# ---------------------------------------------------------------- config files


def find_config_file(name: str) -> Path:
  own = config_dir()
  for candidate in (Path(name).expanduser(), own.parent / name, own / name):
    if candidate.is_file():
      return candidate.resolve()
  names = [f"configs/{p.name}" for p in sorted(own.glob("*.py")) if not p.name.startswith("_")]
  raise LmxError(message("--config", got=name, allowed=names, fix="a path to a config file"))


def _config_of_file(path: str) -> ConfigDict:
  name, colon, argument = path.partition(".py:")
  name = name + ".py" if colon else path
  file = find_config_file(name)
  if file.suffix != ".py":
    raise LmxError(message("--config", got=path, allowed="a Python file that defines get_config()"))
  try:
    module = import_file(file)
    if not inspect.isfunction(vars(module).get("get_config")):
      raise LmxError(message("--config", got=path, allowed="a file that defines get_config()"))
    parameters = inspect.signature(module.get_config).parameters
    if colon and not parameters:
      raise LmxError(message("--config", got=path, allowed=f"{name}, which takes nothing after a colon"))
    if not colon and any(p.default is p.empty for p in parameters.values()):
      raise LmxError(message("--config", got=path, allowed=f"{name}:<{next(iter(parameters))}>"))
    config = module.get_config(argument) if colon else module.get_config()
  except LmxError:
    raise
  except Exception as error:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == file]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else "?"
    raise LmxError(f"{file}, line {line}: {type(error).__name__}: {error}") from error
  if not isinstance(config, ConfigDict):
    raise LmxError(f"{file}: get_config() returned {type(config).__name__}, not a ConfigDict.")
  return config


# ---------------------------------------------------------------- keys and values


def _is_section(value: Any) -> bool:
  return isinstance(value, ConfigDict | dict)


def _leaves(config: Any, base: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """(dotted key, value) of everything in `config`; descends into sections of it or of the base."""
  for name, value in config.items():
    known = base[name] if _is_section(base) and name in base else None
    if _is_section(value) and (known is None or _is_section(known)):
      yield from _leaves(value, known, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", value


def flatten(config: ConfigDict) -> dict[str, Any]:
  """`{"optimizer.peak_lr": 3e-4, ...}`, sorted."""
  return dict(_leaves(config, config))


def _nearest_key(config: ConfigDict, key: str) -> str:
  """ " Did you mean ...?": another program's name for a key, else the nearest key, section or last part; or ""."""
  known = list(flatten(config))
  close = other_name(key, flatten(config)) or nearest(key, [*known, *{k.partition(".")[0] for k in known}])
  if close is None:
    last = nearest(key.rpartition(".")[2], {k.rpartition(".")[2] for k in known})
    close = next((k for k in known if last and k.endswith(f".{last}")), None)
  return f" Did you mean config.{close}?" if close else ""


def _section_of(config: ConfigDict, key: str, subject: str) -> tuple[ConfigDict, str]:
  """The section that holds `key`, and the key's last part."""
  path, _, last = key.rpartition(".")
  section = config
  for part in path.split(".") if path else ():
    section = section[part] if _is_section(section) and part in section else None
  if not _is_section(section) or last not in section:
    hint = _nearest_key(config, key)
    raise LmxError(f"{subject}: no such key.{hint} Every key is in configs/base.py (lmx config show).")
  if _is_section(section[last]):
    names = ", ".join(section[last])
    raise LmxError(f"{subject}: this is a section. Allowed: one of its keys: {names}. Fix: --config.{key}.<key>=...")
  return section, last


def _assign(config: ConfigDict, key: str, value: Any, subject: str) -> None:
  """Sets a Python value after checking it against the type that base.py gives the key."""
  section, name = _section_of(config, key, subject)
  section[name] = _typed(value, keys()[key], subject)


def _typed(value: Any, key: Key, subject: str) -> Any:
  kind = key.kind
  if value is None and key.optional:
    return None
  if kind is tuple and isinstance(value, list | tuple):
    return tuple(_typed_item(item, key.items, subject) for item in value)
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
    return value
  raise LmxError(message(subject, got=value, allowed=_describe(key)))


def _typed_item(item: Any, kind: str, subject: str) -> Any:
  number = isinstance(item, int | float) and not isinstance(item, bool)
  if kind in ("str", "text") and isinstance(item, str):
    return item
  if kind == "float" and number:
    return float(item)
  if kind == "rule" and isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str):
    return (item[0], _typed_item(item[1], "float", subject))
  if kind == "triple" and isinstance(item, list | tuple) and len(item) == 3:
    return tuple(_typed_item(number, "float", subject) for number in item)
  raise LmxError(message(subject, got=item, allowed=f"items that are {_ITEMS[kind]}"))


_ITEMS = {
  "str": "text",
  "text": "text",
  "float": "numbers",
  "rule": '(regex, multiplier) pairs: ((".*", 1.0),)',
  "triple": "three numbers each: ((1.0, 0.15, 3.0),)",
}
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _describe(key: Key) -> str:
  text = f"a list whose items are {_ITEMS[key.items]}" if key.kind is tuple else _KINDS[key.kind]
  return f"{text}, or none" if key.optional else text


# ---------------------------------------------------------------- overrides, as typed in a shell


def _override(config: ConfigDict, override: str) -> None:
  key, equals, text = override.partition("=")
  subject = f"config.{key}"
  section, name = _section_of(config, key, subject)
  known = keys()[key]
  if not equals:
    raise LmxError(f"{subject}: no value. Allowed: {_describe(known)}. Fix: --{subject}=...")
  if known.optional and text in ("none", "None"):
    section[name] = None
    return
  if known.escapes and not _is_literal(text, known.kind):
    text = unescaped(text, subject)
  value = _parse_tuple(text, known.items) if known.kind is tuple else _parse(text, known.kind)
  section[name] = _typed(value, known, subject)


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.?))", re.DOTALL)


def unescaped(text: str, subject: str) -> str:
  r"""Characters as they are typed in a shell, which passes a backslash on: \n \t \r \\ \xHH \uHHHH \UHHHHHHHH.

  Raises:
    LmxError: another letter after a backslash, or a number that is no character.
  """

  def character(match: re.Match[str]) -> str:
    code, letter = match[1] or match[2] or match[3], match[4]
    if code is not None and int(code, 16) < 0x110000 and not 0xD800 <= int(code, 16) < 0xE000:
      return chr(int(code, 16))
    if code is None and letter in _ESCAPES:
      return _ESCAPES[letter]
    fix = "write \\\\ for a backslash itself"
    raise LmxError(message(subject, got=match[0], allowed="\\n, \\t, \\r, \\\\, \\x0A, \\u000A, \\U0000000A", fix=fix))

  return _ESCAPE.sub(character, text)


def _is_literal(text: str, kind: type) -> bool:
  """Whether a tuple is typed as Python writes it, whose strings have escapes already."""
  return kind is tuple and text.strip()[:1] in ("(", "[")


def _parse(text: str, kind: type) -> Any:
  """The value that a text stands for, or the text itself when it is not of that kind (then `_typed` raises)."""
  if kind is str:
    return text
  if kind is bool:
    return {"true": True, "false": False}.get(text.lower(), text)
  try:
    number = float(text)
    return int(number) if kind is int and number.is_integer() and abs(number) < 2**53 else number
  except ValueError:
    return text


def _parse_tuple(text: str, kind: str) -> Any:
  if _is_literal(text, tuple) or kind in ("rule", "triple"):
    try:
      return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
      return text
  if kind == "text":
    return (text,)
  parts = [part for part in text.split(",") if part]
  return tuple(_parse(part, float) for part in parts) if kind == "float" else tuple(parts)


# ---------------------------------------------------------------- files and comparisons


def to_json(config: ConfigDict) -> str:
  """The config as indented JSON; tuples become lists and come back as tuples."""
  return json.dumps(config.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


# Keys that came later than some runs -> (their objectives, or None for all; what those runs have where it isn't
# base.py's value).
_BEFORE: dict[str, tuple[tuple[str, ...] | None, Any]] = {
  "model.head_bias": (("classification", "regression"), True),
  "tokenizer.framing": (None, "document"),
}


def from_json(text: str) -> ConfigDict:
  """The config that `to_json` wrote. A key that a later lmx added gets base.py's value, or that of `_BEFORE`.

  Raises:
    ConfigError: not JSON, or a key or type that this version of lmx does not have.
  """
  problems = Problems()
  config = _fresh_base()
  try:
    values = json.loads(text)
  except (ValueError, RecursionError) as error:  # A number of too many digits is a ValueError.
    raise ConfigError([f"config.json is not JSON: {error}. Fix: it is written by lmx train; restore it."]) from error
  if not isinstance(values, dict):
    raise ConfigError([f"config.json holds a {type(values).__name__}, not a config. Fix: restore it."])
  leaves = dict(_leaves(values, config))
  for key, (objectives, value) in _BEFORE.items():
    if objectives is None or leaves.get("objective.name") in objectives:
      leaves.setdefault(key, value)
  for key, value in leaves.items():
    with problems.collect():
      _assign(config, key, value, f"config.json (another version of lmx?): config.{key}")
  for key in ("model.layers", "model.encoder_layers"):
    with problems.collect():
      raise_over("layers", config[key] or 0, f"config.json: config.{key}")
  problems.raise_if_any()
  return config


def from_values(values: Mapping[str, Any]) -> ConfigDict:
  """base.py's config with some keys set: {"model.width": 768, ...}.

  Raises:
    ConfigError: with every key or type that the config doesn't have.
  """
  problems, config = Problems(), _fresh_base()
  for key, value in values.items():
    with problems.collect():
      _assign(config, key, value, f"config.{key}")
  problems.raise_if_any()
  return config


def diff(a: ConfigDict, b: ConfigDict) -> list[tuple[str, Any, Any]]:
  """(key, value in a, value in b) of every key that differs."""
  other = flatten(b)
  return [(key, value, other[key]) for key, value in flatten(a).items() if other[key] != value]
