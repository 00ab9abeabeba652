# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Rows of fixed length out of documents of any length, by random access.

A document of n ids is read as n + 2: bos, the text, eos. A row holds one or more windows into such documents. A window
that fills p places of a row has p + lookahead ids, because an objective that predicts the next token needs one id more
than the places it fills. Every place of every document lies in exactly one row of an epoch. (Rows of examples are in
example_rows.py, and those that go on from batch to batch in streams.py.)
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from lmx.data.cache.store import TokenStore
from lmx.data.digests import CacheWriteError, save_array
from lmx.data.sources.folders import cached
from lmx.errors import LmxError, choose

BLOCK = 1 << 16  # Pieces packed together; more would gain little room and need more memory.
_PLAN_FORMAT = 2


@dataclasses.dataclass(frozen=True)
class RowPlan:
  """Which pieces of documents make up each row.

  Attributes:
    document, start, length: of each piece: the document, its first place there, and how many places it fills.
    first: row r holds the pieces first[r] .. first[r + 1] - 1.
  """

  document: np.ndarray
  start: np.ndarray
  length: np.ndarray
  first: np.ndarray


class Piece(NamedTuple):
  """What fills some places of a row.

  Attributes:
    content: what an objective's `prepare` is given: a window of ids, int32, or the fields of an example.
    position: that of its first place; the others count on from there.
  """

  content: Any
  position: int = 0


class Rows(Protocol):
  """Rows by random access: `rows[i]` is a list of pieces.

  Attributes:
    targets: places filled in all rows together.
    bytes: UTF-8 bytes of the text in all rows together.
  """

  targets: int
  bytes: int

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> list[Piece]: ...


def cut_documents(places: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Cuts documents into pieces of at most `length` places; returns each piece's (document, start, length)."""
  counts = -(-np.maximum(places, 0) // length)
  document = np.repeat(np.arange(len(places)), counts)
  index = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
  start = index * length
  return document, start, np.minimum(length, places[document] - start).astype(np.int32)


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
  """Puts pieces into rows by best-fit decreasing; returns each piece's row.

  Longest first, each into the row with the least room that is enough. It wastes little room and never cuts a piece
  (https://arxiv.org/abs/2404.10830 shows that cutting fewer documents makes better models).
  """
  row_of = np.empty(len(lengths), np.int64)
  with_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # Rows by the room they have left.
  present = 0  # Bit r is set where with_room[r] is not empty: the least room that is enough is its lowest bit.
  rows = 0
  for piece in np.argsort(-lengths, kind="stable").tolist():
    size = int(lengths[piece])
    enough = present >> size
    if enough:
      room = size + (enough & -enough).bit_length() - 1
      row = with_room[room].pop()
      if not with_room[room]:
        present &= ~(1 << room)
    else:
      room, row, rows = capacity, rows, rows + 1
    row_of[piece] = row
    if room > size:
      with_room[room - size].append(row)
      present |= 1 << (room - size)
  return row_of


def fill_rows(sizes: np.ndarray, pack: Callable[[np.ndarray], np.ndarray], block: int) -> tuple[np.ndarray, np.ndarray]:
  """Packs `block` pieces at a time; returns the pieces in the order of their rows, and `RowPlan.first`."""
  row_of = np.empty(len(sizes), np.int64)
  rows = 0
  for begin in range(0, len(sizes), block):
    chosen = pack(sizes[begin : begin + block]) + rows
    row_of[begin : begin + block] = chosen
    rows = int(chosen.max()) + 1
  order = np.argsort(row_of, kind="stable")
  return order, np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=rows))])


def plan_packed(places: np.ndarray, length: int) -> RowPlan:
  """Whole documents side by side; those longer than a row are cut into rows, and what is left of them is packed."""
  document, start, size = cut_documents(places, length)
  order, first = fill_rows(size, lambda block: best_fit(block, length), BLOCK)
  return RowPlan(document[order], start[order], size[order], first)


def plan_padded(places: np.ndarray, length: int) -> RowPlan:
  """One document, or one piece of a longer one, in each row."""
  document, start, size = cut_documents(places, length)
  return RowPlan(document, start, size, np.arange(len(document) + 1))


class PlannedRows:
  """Rows made of whole documents and pieces of them, by a plan."""

  def __init__(self, store: TokenStore, plan: RowPlan, lookahead: int):
    self._store, self._plan, self._lookahead = store, plan, lookahead
    self.targets = int(plan.length.sum(dtype=np.int64))
    self.bytes = store.text_bytes

  def __len__(self) -> int:
    return len(self._plan.first) - 1

  def __getitem__(self, index: int) -> list[Piece]:
    plan, more = self._plan, self._lookahead
    pieces = slice(int(plan.first[index]), int(plan.first[index + 1]))
    chosen = zip(plan.document[pieces].tolist(), plan.start[pieces].tolist(), plan.length[pieces].tolist(), strict=True)
    return [Piece(self._store.extended(document, start, start + size + more)) for document, start, size in chosen]


class ConcatenatedRows:
  """All documents as one stream, cut every `length` places: text of several documents meets in one window.

  Between two documents stand eos and bos, or eos alone where they are the same id.
  """

  def __init__(self, store: TokenStore, length: int, lookahead: int):
    self._store, self._length, self._lookahead = store, length, lookahead
    self._marks = 1 if store.bos_id == store.eos_id else 2
    self._total = store.tokens + self._marks * store.documents + (2 - self._marks)
    self.targets = max(0, self._total - lookahead)
    self.bytes = store.text_bytes

  @functools.cached_property
  def _starts(self) -> np.ndarray:
    """Where in the stream each document's bos is, or the eos before it."""
    return self._store.offsets[:-1] + self._marks * np.arange(self._store.documents)

  def __len__(self) -> int:
    return -(-self.targets // self._length)

  def __getitem__(self, index: int) -> list[Piece]:
    begin = index * self._length
    end = min(begin + self._length + self._lookahead, self._total)
    parts, position = [], begin
    document = int(np.searchsorted(self._starts, begin, side="right")) - 1
    while position < end:
      origin = int(self._starts[document])
      size = int(self._store.offsets[document + 1] - self._store.offsets[document]) + 2
      stop = min(end, origin + size)
      if stop > position:
        parts.append(self._store.extended(document, position - origin, stop - origin))
        position = stop
      document += 1
    return [Piece(parts[0] if len(parts) == 1 else np.concatenate(parts))]


def _packed(store: TokenStore, length: int, lookahead: int) -> Rows:
  return PlannedRows(store, _stored_plan("packed", plan_packed, store, length, lookahead), lookahead)


def _padded(store: TokenStore, length: int, lookahead: int) -> Rows:
  return PlannedRows(store, _stored_plan("padded", plan_padded, store, length, lookahead), lookahead)


PACKINGS: dict[str, Callable[[TokenStore, int, int], Rows]] = {
  "packed": _packed,
  "concatenated": ConcatenatedRows,
  "padded": _padded,
}


def make_rows(store: TokenStore, *, packing: str, length: int, lookahead: int) -> Rows:
  """The rows of a store.

  Args:
    store: tokenized documents.
    packing: packed (each document a segment of its own) | concatenated (documents run on) | padded (one document, or
      one piece of a longer one, in each row).
    length: L, places of a row.
    lookahead: ids that a window has beyond the places it fills.

  Raises:
    LmxError: an unknown packing, or no place in any document.
  """
  make = choose("config.data.packing", packing, PACKINGS)
  rows = make(store, length, lookahead)
  if not len(rows):
    raise LmxError(f"{store.folder} has {store.documents} documents, which make no row of {length} tokens.")
  return rows


def _stored_plan(
  packing: str, make: Callable[[np.ndarray, int], RowPlan], store: TokenStore, length: int, lookahead: int
) -> RowPlan:
  """The plan of a store of documents, see `kept_plan`."""
  name = f"{packing}-{length}-{lookahead}"
  return kept_plan(store.folder, name, lambda: make(store.lengths() + 2 - lookahead, length))


def kept_plan(store: Path, name: str, make: Callable[[], RowPlan]) -> RowPlan:
  """The plan kept beside a store, made and kept if it is not there: packing 10M documents takes half a minute."""
  folder = store / f"rows-{_PLAN_FORMAT}-{name}"
  names = [field.name for field in dataclasses.fields(RowPlan)]

  def fill(partial: Path) -> dict[str, str]:
    plan = make()
    return {f"{name}.npy": save_array(partial / f"{name}.npy", getattr(plan, name)) for name in names}

  try:
    cached(folder, (), fill)
  except CacheWriteError:
    return make()  # A cache that may only be read.
  return RowPlan(**{name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names})
