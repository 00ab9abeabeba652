# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a corpus is made of, in numbers for people and for the loss."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmx.units import human, human_bytes


@dataclasses.dataclass(frozen=True)
class SourceStats:
  """The training or held-out part of one source.

  Attributes:
    name: of the source, as the user wrote it.
    documents: documents, or examples.
    tokens: ids of text, without bos and eos; those of an example as its encoder made it, all groups together.
    bytes: of text in UTF-8; of an example its columns, as JSON.
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
  """What proves the contents of one part.

  Attributes:
    files: [path, bytes, digest] of each file that its source was read from; those of the held-out part of a source are
      the source's.
    digest: of the ids or examples in it, and of their order.
  """

  files: Sequence[Sequence[Any]]
  digest: str


@dataclasses.dataclass(frozen=True)
class SourceNotes:
  """What happened when a source was prepared.

  Attributes:
    name: as the user wrote it.
    skipped: bad documents left out, by reason; `examples` has the first of each.
    unknown: tokens that stand for text the tokenizer cannot spell.
    cut, cut_tokens: examples that lost tokens to fit, and the tokens lost.
    reused: whether it was in the cache already.
    rows: what is to be said about its rows -> how many there are of them.
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
  """What one pass over the training text is, and how a loss per target becomes bits per byte.

  Attributes:
    rows, targets: in one epoch; targets of examples are their tokens.
    fill: share of the places of all rows that a document fills.
    bytes_per_target: UTF-8 bytes of text per target, weighted as the mixture draws. bits per byte =
      loss in nats per target / ln 2 / bytes_per_target. None for examples.
  """

  rows: int
  targets: int
  fill: float
  bytes_per_target: float | None


def describe(train: Iterable[SourceStats], heldout: Iterable[SourceStats], notes: Iterable[SourceNotes]) -> str:
  """One line for the start of a run: the sources, their sizes, what is held out, and what was left out."""
  train, heldout, notes = list(train), list(heldout), list(notes)
  text = f"{', '.join(part.name for part in train)}: {_sizes(train)}"
  text += f"; held out: {_sizes(heldout)}" if heldout else "; nothing held out"
  skipped: collections.Counter[str] = collections.Counter()
  for note in notes:
    skipped.update(note.skipped)
  if skipped:
    text += "; skipped: " + ", ".join(f"{count} ({reason})" for reason, count in skipped.items())
  if cut := sum(note.cut for note in notes):
    tokens = sum(note.cut_tokens for note in notes)
    text += f"; cut to fit: {cut:,} example{'s' * (cut != 1)}, which lost {tokens:,} token{'s' * (tokens != 1)}"
  rows: collections.Counter[str] = collections.Counter()
  for note in notes:
    rows.update(note.rows)
  text += "".join(f"; {count:,} {what}" for what, count in rows.items())
  unknown = sum(note.unknown for note in notes)
  return text + (f"; {unknown:,} unknown tokens" if unknown else "")


def _sizes(parts: list[SourceStats]) -> str:
  documents, tokens, size = (sum(getattr(part, name) for part in parts) for name in ("documents", "tokens", "bytes"))
  return f"{documents:,} {parts[0].unit}{'s' * (documents != 1)}, {human(tokens)} tokens, {human_bytes(size)}"
