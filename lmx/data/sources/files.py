# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Records from files: the table of formats. Text formats may be compressed: .gz, .zst, .bz2, .xz.

Text formats are parsed here line by line and not by pandas or `datasets`, so that a bad document is named with its
line, can be skipped and counted, and never takes more memory than config.data.max_document_bytes.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from lmx.data.document import TEXT, BadDocuments, Document, ReadOptions, Record, RequiredColumns, only_text, texts_of
from lmx.data.sources.arrow_files import arrow_records, parquet_records
from lmx.data.sources.conll import conll_records
from lmx.data.sources.json_files import json_records
from lmx.data.sources.opening import BadFileError, bare_suffix, is_compressed, read_errors
from lmx.data.sources.raw_lines import location, text_records
from lmx.data.sources.tables import csv_records, tsv_records
from lmx.errors import LmxError


def _text_records(path: Path, wanted: RequiredColumns, options: ReadOptions, bad: BadDocuments) -> Iterator[Record]:
  only_text(wanted, str(path))
  for line, data in text_records(path, options, bad):
    text = bad.decode(data, str(path), line)
    if text is not None:
      yield Record({"text": text}, location(path, line))


Reader = Callable[[Path, RequiredColumns, ReadOptions, BadDocuments], Iterator[Record]]
FORMATS: dict[str, Reader] = {
  "text": _text_records,
  "jsonl": json_records,
  "tsv": tsv_records,
  "csv": csv_records,
  "conll": conll_records,
  "parquet": parquet_records,
  "arrow": arrow_records,
}
_SUFFIXES = {
  **dict.fromkeys((".jsonl", ".ndjson", ".json"), "jsonl"),
  ".tsv": "tsv",
  ".csv": "csv",
  **dict.fromkeys((".conll", ".conllu", ".iob", ".iob2", ".bio"), "conll"),
  **dict.fromkeys((".parquet", ".pq"), "parquet"),
  **dict.fromkeys((".arrow", ".feather", ".ipc"), "arrow"),
}
# Suffixes of files that hold no text, even if their first bytes look like it.
_BINARY = {
  ".npz", ".pt", ".pth", ".ckpt", ".safetensors", ".gguf", ".pkl", ".pickle", ".zip", ".tar", ".tgz", ".7z", ".rar",
  ".pdf", ".docx", ".xlsx", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".h5", ".hdf5", ".idx", ".db", ".sqlite",
  ".tfrecord", ".array_record", ".orc", ".avro", ".msgpack",
}  # fmt: skip
_VALUES = 2  # Raised when the values read from the same file change.


def format_of(path: Path) -> str:
  """The format by a file's suffix: text unless the suffix is known.

  Raises:
    BadFileError: the suffix is that of a binary format.
  """
  suffix = bare_suffix(path)
  if suffix in _BINARY:
    raise BadFileError("not text", f"its name ends in {suffix}; text:{path} reads it anyway")
  return _SUFFIXES.get(suffix, "text")


def read_records(
  path: Path, reading: str | None, wanted: RequiredColumns, options: ReadOptions, bad: BadDocuments
) -> Iterator[Record]:
  """The records of one file.

  Args:
    path: of the file.
    reading: a row of FORMATS; None: by the suffix.
    wanted: the columns to read.
    options: the columns' names in the file, the separator and the size limit.
    bad: the policy for bad documents; a truncated file is one.

  Raises:
    LmxError: a bad document under the policy "error", a column that doesn't exist, or a file that can't be read.
  """
  last = ""
  try:
    with read_errors(path):
      for record in FORMATS[reading or format_of(path)](path, wanted, options, bad):
        last = record.where
        yield record
  except BadFileError as error:
    reason, detail = error.args
    bad.add(str(path), reason, f"{detail}; the last complete document before it: {last}" if last else detail)
  except OSError as error:
    raise LmxError(f"{path} cannot be read: {error.strerror or error}") from error


@dataclasses.dataclass
class FileSource:
  """Records of files, in the order of the list."""

  name: str
  paths: list[Path]
  reading: str | None
  options: ReadOptions

  @property
  def total_bytes(self) -> int | None:
    """Bytes on disk; None if a file is compressed."""
    return None if any(map(is_compressed, self.paths)) else sum(p.stat().st_size for p in self.paths)

  @property
  def files(self) -> list[Path]:
    return self.paths

  def documents(self, bad: BadDocuments) -> Iterator[Document]:
    return texts_of(self.records(TEXT, bad), self.options.columns["text"], bad)

  def records(self, wanted: RequiredColumns, bad: BadDocuments) -> Iterator[Record]:
    for path in self.paths:
      yield from read_records(path, self.reading, wanted, self.options, bad)

  def fingerprint(self, wanted: RequiredColumns = TEXT) -> dict:
    """Names, sizes and times of the files, and the options that change what is read from them."""
    stats = [(str(path.resolve()), path.stat()) for path in self.paths]
    return {
      "kind": "files",
      "values": _VALUES,
      "reading": self.reading or "by name",
      "columns": dataclasses.asdict(self.options.resolve(wanted)),
      "separator": self.options.separator,
      "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
    }
