# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Documents and records: the interface of sources, and the policy for bad documents."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from lmx.config.table import default
from lmx.errors import LmxError, nearest

POLICIES = ("error", "skip")
# Control characters that are rare in text; tabs, line ends, form feeds, backspaces and terminal escapes are not.
_CONTROLS = bytes({*range(32), 127} - {*b"\b\t\n\v\f\r\x1b"})
_MAX_CONTROLS = 0.02  # Their share of a document; a single NUL makes it binary data.


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
  """One text, and its location ("folder/file.txt" or "rows.jsonl:17")."""

  text: str
  where: str


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
  """One row of columns, and its location.

  Attributes:
    values: lmx's name of a column -> its value: a string from TSV, CSV and text, any JSON value from other formats.
    where: file and line, as "rows.jsonl:17".
  """

  values: dict[str, Any]
  where: str


def is_missing(value: Any) -> bool:
  """Whether a cell has no value: null, or the NaN that JSON and tables of numbers use for it."""
  return value is None or (isinstance(value, float) and math.isnan(value))


@dataclasses.dataclass(frozen=True)
class RequiredColumns:
  """Columns to read, by lmx's names (keys of config.data.columns); `optional` ones are read if a table has them."""

  required: tuple[str, ...]
  optional: tuple[str, ...] = ()


TEXT = RequiredColumns(("text",))
NO_COLUMN = "none"  # The value of config.data.columns.NAME for a column that doesn't exist.


@dataclasses.dataclass(frozen=True)
class Columns:
  """lmx's name -> the table's name, of the required and the optional columns."""

  required: dict[str, str]
  optional: dict[str, str]

  def must_exist(self, ours: str) -> bool:
    """Whether a table without this column is an error: it is required, or the config gives it another name."""
    return ours in self.required or self.optional[ours] != ours


@dataclasses.dataclass(frozen=True)
class ReadOptions:
  """How sources are read; the fields are keys of `config.data`."""

  columns: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"text": "text"})
  separator: str | None = default("data.separator")
  max_document_bytes: int = default("data.max_document_bytes")
  tfds_split: str = default("data.tfds_split")
  tfds_dir: str | None = default("data.tfds_dir")
  cache_dir: str = default("data.cache_dir")

  def resolve(self, wanted: RequiredColumns) -> Columns:
    """The table's names of the wanted columns; one that config.data.columns doesn't have is called as we call it.

    Raises:
      LmxError: the config says that a required column doesn't exist.
    """
    required = {name: self.columns.get(name, name) for name in wanted.required}
    for name, column in required.items():
      if column == NO_COLUMN:
        raise LmxError(f"config.data.columns.{name}: got {NO_COLUMN!r}, but the objective needs this column.")
    found = {name: self.columns.get(name, name) for name in wanted.optional}
    return Columns(required, {name: column for name, column in found.items() if column != NO_COLUMN})


class BadDocuments:
  """Policy for documents that can't be used: raise an error with file and line, or skip and count them.

  Attributes:
    counts: number of skipped documents, by reason.
    examples: the first skipped document of each reason, for the report.
  """

  def __init__(self, policy: str = "error"):
    if policy not in POLICIES:
      raise LmxError(f"config.data.bad_documents: got {policy!r}. Allowed: {', '.join(POLICIES)}.")
    self.policy = policy
    self.counts: collections.Counter[str] = collections.Counter()
    self.examples: dict[str, str] = {}

  def add(self, where: str, reason: str, detail: str = "") -> None:
    """Reports one bad document.

    Args:
      where: its file and line.
      reason: short, the same for all such documents, which are counted by it.
      detail: specific to this document.

    Raises:
      LmxError: the policy is "error".
    """
    text = f"{where}: {reason}" + (f" ({detail})" if detail else "")
    if self.policy == "error":
      raise LmxError(f"{text}. Fix: repair it, or --config.data.bad_documents=skip to skip and count such documents.")
    self.counts[reason] += 1
    self.examples.setdefault(reason, text)

  def check_text(self, text: str, where: str) -> bool:
    """Whether a text can be a document: not empty, and without lone surrogates, which UTF-8 can't encode."""
    if not text:
      self.add(where, "empty document")
      return False
    try:
      text.encode()
    except UnicodeEncodeError as error:
      self.add(where, "not valid Unicode", f"lone surrogate at character {error.start}")
      return False
    return True

  def decode(self, data: bytes, where: str, line: int | None = None) -> str | None:
    """UTF-8 bytes as text, or None after reporting the first bad byte.

    Args:
      data: the bytes.
      where: the file.
      line: the line on which the bytes start, from 1.
    """
    try:
      text = data.decode()
    except UnicodeDecodeError as error:
      reason, offset = "not UTF-8", error.start
    else:
      offset = data.find(b"\0")
      if offset < 0 and len(data) - len(data.translate(None, _CONTROLS)) > _MAX_CONTROLS * len(data):
        offset = next(i for i, byte in enumerate(data) if byte in _CONTROLS)
      if offset < 0:
        return text
      reason = "binary data"
    bad_line = (line or 1) + data.count(b"\n", 0, offset)
    self.add(f"{where}:{bad_line}", reason, f"byte 0x{data[offset]:02x} at offset {offset}")
    return None


def columns_hint(ours: str, column: str, present: Iterable[str], columns: Columns | None = None) -> str:
  """The columns of a table and the flag to type, for the message about a column that doesn't exist.

  A column that another key already reads is never suggested.

  Args:
    ours: lmx's name of the missing column.
    column: the name that was looked for.
    present: the table's columns.
    columns: all columns that are read from the table.
  """
  present = list(present)
  read = {} if columns is None else {**columns.optional, **columns.required}
  taken = {name for key, name in read.items() if key != ours}
  shown = [name if len(name) <= 30 else name[:27] + "..." for name in present]
  close = nearest(column, [name for name in present if name not in taken]) or "NAME"
  return f"there are {', '.join(shown) or 'none'}; try --config.data.columns.{ours}={close}"


def texts_of(records: Iterable[Record], column: str, bad: BadDocuments) -> Iterator[Document]:
  """The documents in the column "text" of records.

  Args:
    records: each with the column.
    column: the table's name of it, for messages.
    bad: receives values that aren't text.
  """
  for record in records:
    text = record.values["text"]
    if not isinstance(text, str):
      bad.add(record.where, f"column {column!r} is not text", f"it is {type(text).__name__}")
    elif bad.check_text(text, record.where):
      yield Document(text, record.where)


def only_text(wanted: RequiredColumns, where: str) -> None:
  """Checks that only text is read from a source of plain text.

  Raises:
    LmxError: other columns are required.
  """
  missing = [name for name in wanted.required if name != "text"]
  if missing:
    raise LmxError(
      f"{where} is plain text, but the objective reads the columns {', '.join(wanted.required)}. "
      "Fix: a .tsv, .csv or .jsonl file; tsv:PATH, csv:PATH or jsonl:PATH reads a file with another suffix."
    )


class Source(Protocol):
  """A source of documents: files, a TFDS data set, token shards, or the standard library."""

  @property
  def name(self) -> str:
    """For logs and folder names."""

  @property
  def total_bytes(self) -> int | None:
    """An estimate for progress bars, or None."""

  @property
  def files(self) -> list[Path]:
    """The files that the rows are read from; [] if `fingerprint` contains a digest of all contents."""

  def documents(self, bad: BadDocuments) -> Iterator[Document]:
    """The documents, always in the same order."""

  def records(self, wanted: RequiredColumns, bad: BadDocuments) -> Iterator[Record]:
    """The rows, always in the same order. A value may be empty or of any type.

    Raises:
      LmxError: a column doesn't exist.
    """

  def fingerprint(self, wanted: RequiredColumns = TEXT) -> dict:
    """JSON values that change whenever the rows could; part of a cache's name."""
