# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The text of Python's standard library: language reference, docstrings and sources.

A few megabytes of real English and code that need no download, enough to see a model learn. The documents are the same
for every complete installation of one Python version; files that distributions split off, patch or generate are
excluded.
"""

import importlib
import inspect
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path

from lmx.data.document import TEXT, BadDocuments, Document, Record, RequiredColumns, only_text
from lmx.data.tokenizers.vocabulary import digest

# Folders and files that differ between installations of one Python version: packages that distributions ship
# separately, files that they patch or generate, generated tables, and tests.
_SKIPPED_FOLDERS = {
  "__phello__", "__pycache__", "dist-packages", "distutils", "encodings", "ensurepip", "idlelib", "lib-dynload",
  "lib2to3", "macholib", "pydoc_data", "site-packages", "test", "tests", "tkinter", "turtledemo", "venv",
}  # fmt: skip
_SKIPPED_FILES = {
  "__hello__.py", "_aix_support.py", "_distutils_system_mod.py", "_osx_support.py", "locale.py", "site.py",
  "sitecustomize.py", "sysconfig.py", "turtle.py", "usercustomize.py",
}  # fmt: skip
_SKIPPED_PREFIXES = ("_sysconfigdata", "config-")
# Modules written in C that always exist; their docstrings are in no source file.
_C_MODULES = (
  "_bisect", "_codecs", "_collections", "_csv", "_datetime", "_functools", "_heapq", "_io", "_json", "_operator",
  "_random", "_struct", "_thread", "_weakref", "array", "atexit", "binascii", "builtins", "cmath", "gc", "itertools",
  "marshal", "math", "unicodedata",
)  # fmt: skip
_MIN_BYTES = 200  # Excludes empty package files.


def _topics() -> Iterator[Document]:
  """The language reference, as `help("for")` prints it."""
  try:
    from pydoc_data import topics
  except ImportError:
    return
  for name in sorted(topics.topics):
    yield Document(_clean(topics.topics[name]), f"topics/{name}")


def _docstrings() -> Iterator[Document]:
  """One document per C module: its docstring and those of its members."""
  for name in _C_MODULES:
    try:
      module = importlib.import_module(name)
    except ImportError:
      continue
    parts = [inspect.getdoc(module) or ""]
    for member, value in sorted(vars(module).items()):
      if not member.startswith("_"):
        parts.extend(_member_docs(f"{name.strip('_')}.{member}", value))
    yield Document(_clean("\n\n\n".join(part for part in parts if part)), f"docstrings/{name}")


def _member_docs(name: str, value: object) -> Iterator[str]:
  """The docstrings of a function, or of a class and its methods. Other values have none of their own."""
  if inspect.isclass(value):
    yield f"class {name}\n\n{inspect.cleandoc(value.__doc__ or '')}"
    for method, function in sorted(vars(value).items()):
      if not method.startswith("_") and inspect.isroutine(function):
        yield f"{name}.{method}\n\n{inspect.cleandoc(function.__doc__ or '')}"
  elif inspect.isroutine(value):
    yield f"{name}\n\n{inspect.cleandoc(value.__doc__ or '')}"


def _source_files(root: Path) -> list[Path]:
  def wanted(path: Path) -> bool:
    folders = path.relative_to(root).parts[:-1]
    skipped = _SKIPPED_FOLDERS.intersection(folders) or path.name in _SKIPPED_FILES
    return not skipped and not any(part.startswith(_SKIPPED_PREFIXES) for part in (*folders, path.name))

  files = [path for path in root.rglob("*.py") if wanted(path)]
  return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _sources() -> Iterator[Document]:
  """The standard library's Python files."""
  root = Path(sysconfig.get_paths()["stdlib"])
  for path in _source_files(root):
    try:
      with tokenize.open(path) as file:
        text = file.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
      continue  # A file with a deliberate syntax or encoding error.
    yield Document(_clean(text), f"sources/{path.relative_to(root).as_posix()}")


def _clean(text: str) -> str:
  return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n") + "\n"


class StdlibSource:
  """The documents of the standard library, in three folders: topics/, docstrings/ and sources/."""

  name = "stdlib"
  total_bytes: int | None = None

  @property
  def files(self) -> list[Path]:
    return []

  def documents(self, bad: BadDocuments) -> Iterator[Document]:
    for part in (_topics, _docstrings, _sources):
      for document in part():
        if len(document.text) >= _MIN_BYTES:
          yield document

  def records(self, wanted: RequiredColumns, bad: BadDocuments) -> Iterator[Record]:
    only_text(wanted, self.name)
    return (Record({"text": document.text}, document.where) for document in self.documents(bad))

  def fingerprint(self, wanted: RequiredColumns = TEXT) -> dict:
    """The Python version and a hash of every text, because distributions patch the standard library."""
    texts = [text for d in self.documents(BadDocuments()) for text in (d.where, d.text)]
    return {"kind": "stdlib", "python": ".".join(map(str, sys.version_info[:3])), "texts": digest(*texts)}
