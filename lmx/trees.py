# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Pytree paths as dotted names, and first-match regex rules over them.

A name is attribute and dictionary keys joined by dots ("layers.attention.query.kernel"), without the `value` that Flax
variables add at the end.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from flax import nnx

from lmx.errors import LmxError, nearest


def _key_name(key: Any) -> str:
  for attribute in ("name", "key", "idx"):
    if hasattr(key, attribute):
      return str(getattr(key, attribute))
  return str(key)


def path_name(path: Sequence[Any]) -> str:
  """A JAX key path as a dotted name."""
  names = [_key_name(k) for k in path]
  if names and names[-1] == "value":
    names.pop()
  return ".".join(names)


def is_variable(x: Any) -> bool:
  return isinstance(x, nnx.Variable)


def named_leaves(tree: Any) -> dict[str, Any]:
  """`{dotted path: leaf}` in tree order."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {path_name(path): leaf for path, leaf in leaves}


def map_variables(function: Callable[..., Any], tree: Any) -> Any:
  """Maps `function(name, leaf, axes)` over a tree; `axes`: the leaf's logical axes, or None outside a variable."""

  def visit(path: Any, node: Any) -> Any:
    axes = node.get_metadata("axes", None) if is_variable(node) else None
    return jax.tree.map(lambda leaf: function(path_name(path), leaf, axes), node)

  return jax.tree_util.tree_map_with_path(visit, tree, is_leaf=is_variable)


def count(tree: Any) -> int:
  """Number of elements over all leaves."""
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def match_rules(rules: Iterable[tuple[str, Any]], names: Iterable[str], *, subject: str) -> dict[str, Any]:
  """{name: the value of the first rule whose regex matches the full name}.

  Args:
    rules: (regex, value) pairs, tried in order.
    names: parameter names.
    subject: the config key the rules come from, for the message.

  Raises:
    LmxError: no rule matches a name, or a rule matches no name (a typo would otherwise be silent).
  """
  compiled = []
  for pattern, value in rules:
    try:
      compiled.append((re.compile(pattern), value))
    except re.error as error:
      raise LmxError(f"{subject}: {pattern!r} is not a regular expression ({error}).") from error
  names = list(names)
  matched, used = {}, set()
  for name in names:
    for index, (regex, value) in enumerate(compiled):
      if regex.fullmatch(name):
        matched[name] = value
        used.add(index)
        break
    else:
      raise LmxError(f"{subject}: no rule matches the parameter {name!r}. Fix: end the rules with ('.*', value).")
  for index, (regex, _) in enumerate(compiled):
    if index not in used and regex.pattern != ".*":
      close = nearest(regex.pattern, names)
      hint = f" Nearest parameter: {close!r}." if close else ""
      raise LmxError(
        f"{subject}: the rule {regex.pattern!r} is the first match of no parameter.{hint} Fix: correct it, "
        f"move it above the rule that hides it, or drop it."
      )
  return matched
