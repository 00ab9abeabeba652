# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table of config keys, as configs/base.py writes it: defaults, allowed values, readers, meanings. No jax."""

import ast
import functools
import importlib.util
import inspect
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lmx.config.key import Key, Section
from lmx.errors import LmxError, Problems, message


def config_dir() -> Path:
  """The folder of lmx's own configs: inside an installed package, or at the root of a clone."""
  package = Path(__file__).resolve().parents[1]
  return next((d for d in (package / "configs", package.parent / "configs") if (d / "base.py").exists()), package)


def import_file(path: Path) -> ModuleType:
  """A config file as a module, under a name that no other module has.

  Raises:
    LmxError: it is no Python file.
  """
  spec = importlib.util.spec_from_file_location(f"lmx_config_{path.stem}", path)
  if spec is None or spec.loader is None:
    raise LmxError(message("--config", got=str(path), allowed="a Python file that defines get_config()"))
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def keys() -> Mapping[str, Key]:
  """{dotted name: key} of configs/base.py, in its order."""
  return _keys_of(config_dir() / "base.py")


@functools.cache
def _keys_of(file: Path) -> dict[str, Key]:
  section: Section = import_file(file).keys()
  return section.keys(meanings(file.read_text(encoding="utf-8")))


def check_values(section: str, values: Mapping[str, Any]) -> None:
  """Checks arguments that are keys of a section by base.py's allowed values, for functions that no config calls.

  Args:
    section: "model", "objective", ...
    values: name -> value, of the right type; names that the section doesn't have are left out, and so are arrays,
      whose values were checked before they were traced.

  Raises:
    ConfigError: with every value that isn't allowed.
  """
  known, problems = keys(), Problems()
  for name, value in values.items():
    if (dotted := f"{section}.{name}") in known and not hasattr(value, "dtype"):
      with problems.collect():
        known[dotted].check(f"config.{dotted}", value)
  problems.raise_if_any()


def keys_taken(function: Callable[..., Any]) -> tuple[str, ...]:
  """The keys that a function of a table's row takes by name: its keyword-only parameters."""
  parameters = inspect.signature(function).parameters.values()
  return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


def default(name: str) -> Any:
  """base.py's default of a key, by its dotted name, for records that functions other than a config's make."""
  return keys()[name].default


def defaults(section: str, names: Iterable[str]) -> dict[str, Any]:
  """{name: base.py's default} of some keys of a section."""
  return {name: keys()[f"{section}.{name}"].default for name in names}


def meanings(source: str) -> dict[str, str]:
  """{dotted name: comment} of base.py's keys: the comment at the end of an assignment, else the lines above it."""
  comments = {token.start[0]: token.string.removeprefix("#").strip()
              for token in tokenize.generate_tokens(io.StringIO(source).readline)
              if token.type == tokenize.COMMENT}  # fmt: skip
  lines = source.splitlines()
  function = next(n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == "keys")
  sections, found = {"config": ""}, {}
  for statement in function.body:
    if not isinstance(statement, ast.Assign):
      continue
    attributes = [target for target in statement.targets if isinstance(target, ast.Attribute)]
    variables = [target.id for target in statement.targets if isinstance(target, ast.Name)]
    for target in attributes:
      dotted = sections[ast.unparse(target.value)] + target.attr
      sections |= dict.fromkeys(variables, f"{dotted}.")
      found[dotted] = _comment(statement, comments, lines)
  return found


def _comment(statement: ast.Assign, comments: Mapping[int, str], lines: list[str]) -> str:
  """The comment of an assignment."""
  last = statement.end_lineno or statement.lineno
  if last in comments:
    return comments[last]
  above: list[str] = []
  for line in range(statement.lineno - 1, 0, -1):
    if line not in comments or not lines[line - 1].lstrip().startswith("#") or re.match(r"-{3}", comments[line]):
      break
    above.insert(0, comments[line])
  return " ".join(above)
