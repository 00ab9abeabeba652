# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""From what a user writes in `config.data.sources` to a source of documents."""

import dataclasses
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmx.data.document import TEXT, BadDocuments, Document, ReadOptions, Record, Source, Wanted
from lmx.data.files import FORMATS, FileSource
from lmx.data.stdlib import StdlibSource
from lmx.data.tfds import TfdsSource
from lmx.errors import LmxError, message

_WILDCARDS = "*?["


def open_source(spec: str, options: ReadOptions | None = None) -> Source:
  """The source that a spec names.

  Args:
    spec: "stdlib"; "tfds:name/config:version"; a file, folder or glob ("**" goes down), whose suffix says how it is
      read, or which follows "text:", "jsonl:", "tsv:" or "csv:".
    options: how documents are found in it.

  Raises:
    LmxError: nothing there, or an option that does not fit.
  """
  options = options or ReadOptions()
  if options.separator == "":
    raise LmxError(message("config.data.separator", got="", allowed='None, or text such as "\\n"'))
  if spec == "stdlib":
    return StdlibSource()
  if spec.startswith("tfds:"):
    return TfdsSource(spec.removeprefix("tfds:"), options)
  prefix, colon, rest = spec.partition(":")
  reading = prefix if colon and prefix in FORMATS else None
  return FileSource(spec, _find_files(rest if reading else spec), reading, options)


@dataclasses.dataclass
class JoinedSource:
  """Several sources as one, in their order."""

  parts: list[Source]

  @property
  def name(self) -> str:
    return ", ".join(part.name for part in self.parts)

  @property
  def total_bytes(self) -> int | None:
    sizes = [part.total_bytes for part in self.parts]
    return None if None in sizes else sum(size for size in sizes if size is not None)

  def documents(self, bad: BadDocuments) -> Iterator[Document]:
    for part in self.parts:
      yield from part.documents(bad)

  def records(self, wanted: Wanted, bad: BadDocuments) -> Iterator[Record]:
    for part in self.parts:
      yield from part.records(wanted, bad)

  def fingerprint(self, wanted: Wanted = TEXT) -> dict:
    return {"kind": "joined", "parts": [part.fingerprint(wanted) for part in self.parts]}


def join_sources(specs: Sequence[str], options: ReadOptions) -> Source:
  """One source of all that the specs name. Files that are read alike become one list of files.

  Raises:
    LmxError: a spec that names nothing.
  """
  parts = [open_source(spec, options) for spec in specs]
  if len(parts) == 1:
    return parts[0]
  files = [part for part in parts if isinstance(part, FileSource)]
  if len(files) == len(parts) and len({part.reading for part in files}) == 1:
    paths = [path for part in files for path in part.paths]
    return FileSource(f"{parts[0].name} and {len(parts) - 1} more", paths, files[0].reading, options)
  return JoinedSource(parts)


def _find_files(pattern: str) -> list[Path]:
  """The files of a path, folder or glob, sorted by name; hidden files and folders are passed over."""
  path = Path(pattern).expanduser()
  if path.is_file():
    return [path]
  if path.is_dir():
    files = [p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path))]
  elif any(c in pattern for c in _WILDCARDS):
    files = [Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file()]
  else:
    raise LmxError(
      message(
        "config.data.sources",
        got=pattern,
        allowed='"stdlib", "tfds:NAME", or a file, folder or glob that exists',
        fix=f"nothing is at {path.absolute()}; look for a typing error",
      )
    )
  if not files:
    raise LmxError(message("config.data.sources", got=pattern, allowed="a folder or glob with at least one file"))
  return sorted(files)


def _hidden(path: Path) -> bool:
  return any(part.startswith(".") for part in path.parts)
