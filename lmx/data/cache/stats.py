# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Statistics of a corpus: sizes, skipped documents, and the factor from loss to bits per byte."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmx.units import human, human_bytes


@dataclasses.dataclass(frozen=True)
class SourceStats:
  """Sizes of the training or validation part of one source.

  Attributes:
    name: of the source, as the user wrote it.
    documents: documents, or examples.
    tokens: ids of text, without bos and eos; of examples those of all groups.
    bytes: of text in UTF-8; of examples those of their columns as JSON.
    unit: "document" | "example".
  """

  name: str
  documents: int
  tokens: int
  bytes: int
  unit: str = "document"

  @property
  def bytes_per_token(self) -> float:
    return self.bytes / self.tokens if self.tokens else 0.0


@dataclasses.dataclass(frozen=True)
class Origin:
  """Digests of one part's contents and of the files that it was read from.

  Attributes:
    files: [path, bytes, digest] of each file of the source; the same for both parts of a split source.
    digest: of the ids or examples of the part, in order.
  """

  files: Sequence[Sequence[Any]]
  digest: str


@dataclasses.dataclass(frozen=True)
class SourceNotes:
  """Report on the preparation of a source.

  Attributes:
    name: as the user wrote it.
    skipped: number of bad documents that were skipped, by reason.
    examples: the first skipped document of each reason.
    unknown: tokens of text that isn't in the vocabulary.
    cut, cut_tokens: number of truncated examples, and of the tokens they lost.
    reused: whether it was cached before.
    rows: remark of the encoder -> number of rows that it was made about.
  """

  name: str
  skipped: Mapping[str, int]
  examples: Mapping[str, str]
  unknown: int
  cut: int
  cut_tokens: int
  reused: bool
  rows: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class EpochStats:
  """One epoch of the training set in numbers.

  Attributes:
    rows, targets: per epoch; targets of examples are their tokens.
    fill: share of tokens in all rows that aren't padding.
    bytes_per_target: UTF-8 bytes of text per target, with the mixture's weights. bits per byte =
      loss in nats per target / ln 2 / bytes_per_target. None for examples.
  """

  rows: int
  targets: int
  fill: float
  bytes_per_target: float | None


def describe(train: Iterable[SourceStats], validation: Iterable[SourceStats], notes: Iterable[SourceNotes]) -> str:
  """One line for the start of a run: the sources, their sizes, and what was skipped or truncated.

  Args:
    train, validation: one per store.
    notes: one per source.
  """
  train, validation, notes = list(train), list(validation), list(notes)
  text = f"{', '.join(part.name for part in train)}: {_sizes(train)}"
  text += f"; validation: {_sizes(validation)}" if validation else "; no validation set"
  skipped: collections.Counter[str] = collections.Counter()
  for note in notes:
    skipped.update(note.skipped)
  if skipped:
    text += "; skipped: " + ", ".join(f"{count} ({reason})" for reason, count in skipped.items())
  if cut := sum(note.cut for note in notes):
    tokens = sum(note.cut_tokens for note in notes)
    text += f"; truncated: {cut:,} example{'s' * (cut != 1)}, by {tokens:,} token{'s' * (tokens != 1)}"
  rows: collections.Counter[str] = collections.Counter()
  for note in notes:
    rows.update(note.rows)
  text += "".join(f"; {count:,} {what}" for what, count in rows.items())
  unknown = sum(note.unknown for note in notes)
  return text + (f"; {unknown:,} unknown tokens" if unknown else "")


def _sizes(parts: list[SourceStats]) -> str:
  documents, tokens, size = (sum(getattr(part, name) for part in parts) for name in ("documents", "tokens", "bytes"))
  return f"{documents:,} {parts[0].unit}{'s' * (documents != 1)}, {human(tokens)} tokens, {human_bytes(size)}"
