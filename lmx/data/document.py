# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A document, how sources read one, and what happens to one that is bad."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Protocol

from lmx.errors import LmxError

POLICIES = ("error", "skip")


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
  """One text, and where it was found, as "folder/file.txt" or "rows.jsonl:17"."""

  text: str
  where: str


@dataclasses.dataclass(frozen=True)
class ReadOptions:
  """How sources are read; the fields are keys of `config.data`."""

  columns: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"text": "text"})
  separator: str | None = None
  max_document_bytes: int = 50_000_000
  tfds_split: str = "train"
  tfds_dir: str | None = None

  @property
  def text_column(self) -> str:
    return self.columns["text"]


class BadDocuments:
  """What to do with a document that cannot be used: stop with its file and line, or skip it and count.

  Attributes:
    counts: documents skipped, by reason.
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

    Raises:
      LmxError: the policy is "error".
    """
    text = f"{where}: {reason}" + (f" ({detail})" if detail else "")
    if self.policy == "error":
      raise LmxError(f"{text}. Fix: repair it, or --config.data.bad_documents=skip to skip and count such documents.")
    self.counts[reason] += 1
    self.examples.setdefault(reason, text)

  def check_text(self, text: str, where: str) -> bool:
    """Whether a text can be a document: not empty, and free of lone surrogates, which UTF-8 cannot spell."""
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
    """UTF-8 bytes as text, or None after reporting what is wrong.

    Args:
      data: the bytes.
      where: the file.
      line: the line on which the bytes start, counted from 1; the report names the line of the first bad byte.
    """
    try:
      return data.decode()
    except UnicodeDecodeError as error:
      bad_line = (line or 1) + data.count(b"\n", 0, error.start)
      self.add(f"{where}:{bad_line}", "not UTF-8", f"byte 0x{data[error.start]:02x} at offset {error.start}")
      return None


class Source(Protocol):
  """Where documents come from."""

  @property
  def name(self) -> str:
    """For logs and folder names."""

  @property
  def total_bytes(self) -> int | None:
    """A guess for progress bars, or None."""

  def documents(self, bad: BadDocuments) -> Iterator[Document]:
    """The documents, always in the same order."""

  def fingerprint(self) -> dict:
    """What the documents are made from; a cache made from another fingerprint is not used."""
