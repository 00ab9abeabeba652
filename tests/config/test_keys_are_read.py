# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Every key of configs/base.py is read, by section: an attribute of the same name elsewhere is no reading."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

from laws import assert_law_catches

from lmx.config.table import keys
from lmx.models import MODELS
from lmx.objectives import OBJECTIVES
from lmx.optim.optimizers import OPTIMIZERS
from lmx.shapes import AXES

ROOT = Path(__file__).resolve().parents[2] / "lmx"
READERS = ("experiment/*.py", "plan/*.py", "cli/train.py")  # Files that take a config apart.
# Sections that are handed over in records: the records, and the rooms that read their fields.
RECORDS = {
  "model": (tuple(row.spec.__name__ for row in MODELS.values()), ("nn", "models", "training", "experiment")),
  "data": (("DataSpec",), ("data",)),
  "tokenizer": (("TokenizerSpec",), ("data",)),
}
CHECKS = ("spec_check.py",)  # Checking a field is no use of it.
SHARED = ("StackSpec", "ReadOptions")  # Bases of records, and records that are made of them.


def sources(*patterns: str) -> list[str]:
  return [file.read_text() for pattern in patterns for file in sorted(ROOT.glob(pattern)) if file.name not in CHECKS]


def terminal(node: ast.AST) -> str:
  """The last name of an expression: "spec" of `self.spec`."""
  return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def functions(source: str) -> list[ast.AST]:
  return [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def section_of(node: ast.AST) -> str:
  """ "model" of `config.model`; "" of everything else."""
  known = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "config"
  return node.attr if known else ""


def aliases(function: ast.AST) -> dict[str, str]:
  """Variables of a function that stand for a section: `chosen = config.optimizer`."""
  found = {}
  for node in ast.walk(function):
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
      target, value = node.targets[0], node.value
      pairs = zip(target.elts, value.elts, strict=True) if isinstance(target, ast.Tuple) and isinstance(
        value, ast.Tuple) else [(target, value)]  # fmt: skip
      found |= {terminal(name): section_of(given) for name, given in pairs if section_of(given)}
  return found


def read_directly(source: str) -> set[str]:
  """Dotted keys that functions read of a variable `config`, of aliases of its sections, or name as text."""
  found: set[str] = set()
  for function in functions(source):
    local = aliases(function)
    texts = {n.value for n in ast.walk(function) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    found |= texts & set(keys())  # config["log.every"], steps("log.every")
    for node in ast.walk(function):
      if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        section = section_of(node.value) or local.get(terminal(node.value), "")
        if section:
          found.add(f"{section}.{node.attr}")
        elif isinstance(node.value, ast.Name) and node.value.id == "config":
          found.add(node.attr)
      if isinstance(node, ast.Subscript):  # chosen[key] for key in ("warmup", "decay")
        section = section_of(node.value) or local.get(terminal(node.value), "")
        found |= {f"{section}.{text}" for text in texts} if section else set()
  return found


def record_fields(records: Iterable[str], source: str) -> set[str]:
  """Fields that a source reads of a variable or attribute called spec (or options), or of self inside the records."""
  tree, found = ast.parse(source), set()
  names = {*records, *SHARED}
  inside = [n for c in ast.walk(tree) if isinstance(c, ast.ClassDef) and c.name in names for n in c.body
            if not (isinstance(n, ast.FunctionDef) and n.name == "__post_init__")]  # fmt: skip
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute) and terminal(node.value).lstrip("_") in ("spec", "options", "shape"):
      found.add(node.attr)
  for node in inside:
    for one in ast.walk(node):
      if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == "self":
        found.add(one.attr)
  return found


def parameters_used(function: Callable[..., object]) -> set[str]:
  """The keyword-only parameters of a function that its body uses."""
  node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
  used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
  return {argument.arg for argument in node.args.kwonlyargs} & used


def all_read(objectives=OBJECTIVES, optimizers=OPTIMIZERS) -> set[str]:
  """The dotted keys that are read."""
  found = set().union(*map(read_directly, sources(*READERS)))
  found |= {f"mesh.{axis}" for axis in AXES}
  for section, (records, rooms) in RECORDS.items():
    for source in sources(*(f"{room}/**/*.py" for room in rooms)):
      found |= {f"{section}.{name}" for name in record_fields(records, source)}
  for section, table in {"objective": objectives, "optimizer": optimizers}.items():
    found |= {f"{section}.{name}" for row in table.values() for name in parameters_used(row.make)}
  columns = {n.value for text in sources("objectives/*.py") for n in ast.walk(ast.parse(text))
             if isinstance(n, ast.Constant) and isinstance(n.value, str)}  # fmt: skip
  return found | {f"data.columns.{column}" for column in columns}


def unread(names: Iterable[str], read: set[str]) -> list[str]:
  return sorted(set(names) - read)


def test_every_key_of_base_is_read_in_its_own_section():
  read = all_read()

  def law(more: list[str]) -> None:
    assert unread([*keys(), *more], read) == []

  law([])
  for name in ("model.nobody_reads_this", "log.dtype", "evaluation.length", "mesh.heads", "data.columns.nobody",
               "objective.rank", "optimizer.mask_rate"):  # fmt: skip
    assert_law_catches(law, [name])


def test_an_option_that_a_rows_function_takes_and_does_not_use_is_unread():
  def idle(parameters, *, b1, unused_rate):
    return b1

  assert parameters_used(idle) == {"b1"}


def test_a_field_that_only_its_own_check_reads_is_unread():
  source = """
class DataSpec:
  def __post_init__(self):
    self.checked
  def cut(self):
    return self.used
def other(unrelated, spec):
  return unrelated.elsewhere, spec.handed
"""
  assert record_fields(["DataSpec"], source) == {"used", "handed"}


def test_reading_is_seen_through_aliases_texts_and_loops():
  source = """
def f(config):
  chosen, other = config.optimizer, config.train
  steps("log.every")
  return [chosen[key] for key in ("warmup", "decay")], other.duration, config.seed, elsewhere.tied
"""
  found = read_directly(source)
  assert found >= {"optimizer.warmup", "optimizer.decay", "train.duration", "log.every", "seed"}
  assert "model.tied" not in found
