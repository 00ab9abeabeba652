# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The shape of the code: which file may import which, how long files and functions are, and what is forbidden.

Each law is a function from a file's source to a list of violations, so that it can be shown to fail on a small text.
"""

import ast
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from laws import assert_law_catches

ROOT = Path(__file__).resolve().parent.parent
LICENCE = "# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0."
MAX_FILE, MAX_FUNCTION = 400, 60
TABLES = ("configs.base.keys",)  # One key a line, nothing to follow: its length is no burden.

# A file imports from rows above its own, or from files earlier in its own row. Rooms of a set never import each other.
ROWS: tuple[tuple[str, ...], ...] = (
  (
    "errors",
    "exits",
    "limits",
    "json_text",
    "shapes",
    "versions",
    "",
    "trees",
    "units",
    "paths",
    "storage",
    "uploads",
    "console",
  ),  # "" is lmx/__init__.py.
  ("config", "parallel"),
  ("nn", "data", "optim"),
  ("models", "objectives"),
  ("training", "inference", "evaluation", "hf"),
  ("experiment", "plan", "run", "api"),
  ("sweep", "launch", "cli", "__main__"),
)
APART = ({"nn", "data", "optim"}, {"models", "objectives"})
PLACE = {room: (row, column) for row, rooms in enumerate(ROWS) for column, room in enumerate(rooms)}
READS_CONFIGS = ("config", "experiment", "plan", "api", "sweep", "cli")
# Files that import lmx inside a function: the command line after parsing, the checks that a broken jax must not stop.
DEFERRED = ("lmx", "lmx.cli.main", "lmx.cli.doctor")
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def python_files(*folders: str) -> list[Path]:
  return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def room_of(module: str) -> str:
  """ "lmx.nn.layers.linear" -> "nn"; lmx itself -> ""."""
  return module.partition(".")[2].partition(".")[0]


def module_of(file: Path) -> str:
  parts = file.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> list[tuple[str, int]]:
  """(module, line) of every import, those by importlib.import_module("...") included, at any depth."""
  found: list[tuple[str, int]] = []
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      found += [(alias.name, node.lineno) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      base = "." * node.level + (node.module or "")
      inner = [f"{base}.{alias.name}" for alias in node.names]
      deeper = [name for name in inner if is_module(name)]
      found += [(name, node.lineno) for name in deeper or [base]]
    elif isinstance(node, ast.Call) and called_name(node) == "import_module":
      found += [(a.value, node.lineno) for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
  return found


def is_module(name: str) -> bool:
  path = ROOT / name.replace(".", "/")
  return path.is_dir() or path.with_suffix(".py").exists()


def called_name(node: ast.Call) -> str:
  function = node.func
  return function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""


# ---------------------------------------------------------------- laws: (module name, source) -> violations


def wrong_direction(module: str, source: str) -> list[str]:
  """Imports that point down, sideways between rooms kept apart, or are relative."""
  own = room_of(module)
  violations = []
  for name, line in imports(ast.parse(source)):
    if name.startswith("."):
      violations.append(f"{module}:{line} imports {name}: write the full name")
    if name.partition(".")[0] in ("configs", "experiments", "tests", "tools"):
      violations.append(f"{module}:{line} imports {name}, which is outside the package")
    if name.partition(".")[0] != "lmx" or name == "lmx":
      continue
    other = room_of(name)
    if own not in PLACE or other not in PLACE:
      violations.append(f"{module}:{line} imports {name}: one of the two has no place in ROWS")
    elif any(own in rooms and other in rooms and own != other for rooms in APART):
      violations.append(f"{module}:{line} imports {name}, and the two rooms are kept apart")
    elif own != other and PLACE[other] > PLACE[own]:
      violations.append(f"{module}:{line} imports {name}, which stands below it")
  return violations


def own_imports_in_functions(module: str, source: str) -> list[str]:
  """lmx imported inside a function hides the direction; `DEFERRED` lists the files that may, so that help is fast."""
  violations = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
      for inner in ast.walk(node):
        names = [n for n, _ in imports(inner)] if isinstance(inner, ast.Import | ast.ImportFrom) else []
        if isinstance(inner, ast.Call) and called_name(inner) == "import_module" and module not in DEFERRED:
          names = [ast.unparse(a).strip("f'\"") for a in inner.args]
        violations += [f"{module}:{inner.lineno} imports {n} inside a function" for n in names if n.startswith("lmx")]
  return violations


def too_long(module: str, source: str) -> list[str]:
  lines = len(source.splitlines())
  violations = [f"{module} has {lines} lines, more than {MAX_FILE}"] if lines > MAX_FILE else []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
      length = (node.end_lineno or node.lineno) - node.lineno + 1
      if length > MAX_FUNCTION and f"{module}.{node.name}" not in TABLES:
        violations.append(f"{module}:{node.lineno} {node.name} has {length} lines, more than {MAX_FUNCTION}")
  return violations


def no_licence_or_docstring(module: str, source: str) -> list[str]:
  if not source:
    return []  # An __init__.py that only marks a package.
  violations = [] if source.startswith(LICENCE + "\n") else [f"{module} doesn't start with the licence line"]
  return violations + ([] if ast.get_docstring(ast.parse(source)) else [f"{module} has no docstring"])


def unsafe(module: str, source: str) -> list[str]:
  """Modules and calls that run code from data."""
  tree = ast.parse(source)
  violations = [f"{module}:{line} imports {n}" for n, line in imports(tree) if n.partition(".")[0] in FORBIDDEN_MODULES]
  for node in ast.walk(tree):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
      violations.append(f"{module}:{node.lineno} calls {node.func.id}")
    if any(
      isinstance(k, ast.keyword) and k.arg == "allow_pickle" and k.value == ast.Constant(True) for k in ast.walk(node)
    ):
      violations.append(f"{module}:{getattr(node, 'lineno', '?')} allows pickle")
  return violations


def reads_config(module: str, source: str) -> list[str]:
  """Only a few rooms read experiment configs; below them arguments are explicit."""
  if room_of(module) in READS_CONFIGS or module == "lmx":
    return []
  return [f"{module}:{line} imports {name}" for name, line in imports(ast.parse(source))
          if name == "lmx.config.loading" or name.startswith("ml_collections")]  # fmt: skip


def hidden_defaults(module: str, source: str) -> list[str]:
  """`config.get(key, default)` hides a knob that base.py doesn't show; getattr(config, ..., default) does the same."""
  violations = []
  for node in ast.walk(ast.parse(source)):
    if not isinstance(node, ast.Call):
      continue
    text = ast.unparse(node.func) if called_name(node) == "get" else ""
    subject = ast.unparse(node.args[0]) if called_name(node) == "getattr" and node.args else text
    if (text or (called_name(node) == "getattr" and len(node.args) == 3)) and "config" in subject.split("(")[0]:
      violations.append(f"{module}:{node.lineno} {ast.unparse(node)}")
  return violations


LAWS: dict[Callable[[str, str], list[str]], tuple[tuple[str, ...], str, str]] = {
  # law: (folders it holds for, a module name and a source that break it)
  wrong_direction: (("lmx",), "lmx.nn.layers.linear", "def f():\n  from lmx.models import transformer\n"),
  own_imports_in_functions: (("lmx",), "lmx.nn.layers.linear", "def f():\n  import lmx.errors\n"),
  too_long: (("lmx", "configs", "tests", "tools"), "lmx.nn.layers.linear", "def f():\n" + "  x = 1\n" * MAX_FUNCTION),
  no_licence_or_docstring: (("lmx", "configs", "tests", "tools", "experiments"), "lmx.x", "# Copyright\n"),
  unsafe: (("lmx", "configs", "tools"), "lmx.x", "eval('1')\n"),
  reads_config: (("lmx",), "lmx.nn.layers.linear", "from lmx.config.loading import load\n"),
  hidden_defaults: (("lmx", "configs"), "lmx.experiment.build", "x = config.model.get('width', 3)\n"),
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_every_file_keeps_the_law(law):
  folders = LAWS[law][0]
  violations = [text for file in python_files(*folders) for text in law(module_of(file), file.read_text())]
  assert not violations, "\n".join(violations)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_law_notices_a_file_that_breaks_it(law):
  _, module, source = LAWS[law]

  def check(text: str) -> None:
    assert not law(module, text)

  check(f'{LICENCE}\n"""A fine file."""\n\nimport os\n')
  assert_law_catches(check, source)


@pytest.mark.parametrize(
  ("module", "source"),
  [
    ("lmx.data.sources.sources", "from lmx.nn import linear"),  # Apart, though later in the row.
    ("lmx.objectives.causal", "from lmx.models.transformer import Transformer"),
    ("lmx.errors", "from lmx.trees import count"),  # Later in its own row.
    ("lmx.parallel.mesh", "import importlib\nimportlib.import_module('lmx.run.loop')"),
    ("lmx.parallel.mesh", "from . import errors"),
    ("lmx.parallel.mesh", "from configs import base"),
    ("lmx.surprise", "import lmx.errors"),
  ],
)
def test_the_direction_of_imports_is_seen_in_every_form(module, source):
  assert wrong_direction(module, source)


def test_rooms_that_hold_together_may_import_upwards_and_within():
  assert not wrong_direction("lmx.cli.train", "import importlib\nimportlib.import_module('lmx.run.loop')")
  assert not wrong_direction("lmx.nn.block", "from lmx.nn.layers.linear import Linear\nfrom lmx.errors import choose")


def test_files_within_a_room_do_not_import_in_circles():
  graph: dict[str, set[str]] = {}
  for file in python_files("lmx"):
    graph[module_of(file)] = {name for name, _ in imports(ast.parse(file.read_text())) if name.startswith("lmx")}
  assert not list(circles(graph))
  assert list(circles({"lmx.nn.a": {"lmx.nn.b"}, "lmx.nn.b": {"lmx.nn.a"}}))


def circles(graph: dict[str, set[str]]) -> list[str]:
  """Modules that can be reached from themselves."""
  reach = {module: set(others) & set(graph) for module, others in graph.items()}
  for _ in graph:
    grown = {m: others.union(*(reach[o] for o in others)) for m, others in reach.items()}
    if grown == reach:
      break
    reach = grown
  return [module for module, others in reach.items() if module in others]


def test_every_room_has_a_row():
  rooms = {room_of(module_of(file)) for file in python_files("lmx")}
  assert rooms <= set(PLACE), sorted(rooms - set(PLACE))
  assert len(PLACE) == len(list(itertools.chain(*ROWS))), "a room has two places"


def rows_of_the_readme(text: str) -> list[set[str]]:
  """The rooms of each row of the map in README.md."""
  table = text.partition("| row | rooms |")[2].partition("\n\n")[0].splitlines()[2:]
  return [set(re.findall(r"`(\w+)/?`", line.split("|")[2])) for line in table]


def test_the_readmes_map_is_that_of_the_rooms():
  """Rooms that don't exist yet are in ROWS and not in the README."""
  there = {room_of(module_of(file)) for file in python_files("lmx")} - {"", "__main__"}

  def check(text: str) -> None:
    assert rows_of_the_readme(text) == [set(rooms) & there for rooms in ROWS]

  text = (ROOT / "README.md").read_text()
  check(text)
  assert_law_catches(check, text.replace("`nn/` ", ""))


def public_classes(module: str, source: str) -> list[tuple[str, str]]:
  """(name, module) of the classes at the top of a file that are for others."""
  return [(node.name, module) for node in ast.parse(source).body
          if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]  # fmt: skip


def test_no_two_public_classes_share_a_name():
  found = [pair for file in python_files("lmx") for pair in public_classes(module_of(file), file.read_text())]

  def check(classes: list[tuple[str, str]]) -> None:
    homes: dict[str, list[str]] = {}
    for name, module in classes:
      homes.setdefault(name, []).append(module)
    assert not {name: modules for name, modules in homes.items() if len(modules) > 1}

  check(found)
  assert_law_catches(check, [*found, (found[0][0], "lmx.another")])


def test_folders_of_tests_are_those_of_the_rooms():
  rooms = {room_of(module_of(file)) for file in python_files("lmx")} | {"tools"}

  def check(folders: set[str]) -> None:
    assert folders <= rooms

  found = {file.relative_to(ROOT / "tests").parts[0] for file in (ROOT / "tests").glob("*/**/test_*.py")}
  check(found)
  assert_law_catches(check, found | {"attention"})
