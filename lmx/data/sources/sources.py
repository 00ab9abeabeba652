# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Opens the sources named by `config.data.sources`."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmx.data.document import TEXT, BadDocuments, Document, ReadOptions, Record, RequiredColumns, Source
from lmx.data.sources.dataset_folders import find_files
from lmx.data.sources.files import FORMATS, FileSource
from lmx.data.sources.stdlib import StdlibSource
from lmx.data.sources.tfds import TfdsSource
from lmx.data.sources.token_files import SUFFIXES, TokenSource
from lmx.errors import LmxError, message

TOKENS = "tokens"


def open_source(spec: str, options: ReadOptions | None = None) -> Source:
  """Opens a source by its name.

  Args:
    spec: "stdlib"; "tfds:name/config:version"; or a file, folder or glob ("**" is recursive), read by its suffix, or as
      the prefix says that precedes it, a row of FORMATS or "tokens" ("jsonl:PATH").
    options: columns, separator, limits.

  Raises:
    LmxError: it doesn't exist, or an option doesn't fit.
  """
  options = options or ReadOptions()
  if options.separator == "":
    raise LmxError(message("config.data.separator", got="", allowed='None, or text such as "\\n"'))
  if spec == "stdlib":
    return StdlibSource()
  if spec.startswith("tfds:"):
    return TfdsSource(spec.removeprefix("tfds:"), options)
  prefix, colon, rest = spec.partition(":")
  reading = prefix if colon and prefix in (*FORMATS, TOKENS) else None
  paths = find_files(rest if reading else spec, options.cache_dir)
  shards = [path for path in paths if path.suffix.lower() in SUFFIXES]
  if reading == TOKENS or (reading is None and len(shards) == len(paths)):
    return TokenSource(spec, paths, reading == TOKENS, options.max_document_bytes)
  if reading is None and shards:
    raise LmxError(
      f"config.data.sources: {spec} holds token shards ({shards[0].name}) and other files. Fix: a glob for one of them."
    )
  return FileSource(spec, paths, reading, options)


@dataclasses.dataclass
class JoinedSource:
  """Several sources read one after another."""

  parts: list[Source]

  @property
  def name(self) -> str:
    return ", ".join(part.name for part in self.parts)

  @property
  def total_bytes(self) -> int | None:
    sizes = [part.total_bytes for part in self.parts]
    return None if None in sizes else sum(size for size in sizes if size is not None)

  @property
  def files(self) -> list[Path]:
    return [path for part in self.parts for path in part.files]

  def documents(self, bad: BadDocuments) -> Iterator[Document]:
    for part in self.parts:
      yield from part.documents(bad)

  def records(self, wanted: RequiredColumns, bad: BadDocuments) -> Iterator[Record]:
    for part in self.parts:
      yield from part.records(wanted, bad)

  def fingerprint(self, wanted: RequiredColumns = TEXT) -> dict:
    return {"kind": "joined", "parts": [part.fingerprint(wanted) for part in self.parts]}


def join_sources(specs: Sequence[str], options: ReadOptions) -> Source:
  """Opens several sources as one. Files that are read the same way become one list of files.

  Raises:
    LmxError: a source that doesn't exist, or token ids together with text.
  """
  parts = [open_source(spec, options) for spec in specs]
  if len(parts) == 1:
    return parts[0]
  shards = [part for part in parts if isinstance(part, TokenSource)]
  if len(shards) == len(parts):
    name = f"{parts[0].name} and {len(parts) - 1} more"
    return dataclasses.replace(shards[0], name=name, paths=[path for part in shards for path in part.paths])
  if shards:
    text = next(part for part in parts if not isinstance(part, TokenSource))
    raise LmxError(f"{shards[0].name} holds token ids, and {text.name} doesn't. Fix: pass them separately.")
  files = [part for part in parts if isinstance(part, FileSource)]
  if len(files) == len(parts) and len({part.reading for part in files}) == 1:
    paths = [path for part in files for path in part.paths]
    return FileSource(f"{parts[0].name} and {len(parts) - 1} more", paths, files[0].reading, options)
  return JoinedSource(parts)
