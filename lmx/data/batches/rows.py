# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Rows of fixed length from documents of any length, by random access: packed, concatenated or padded.

A document of n ids is read as n + 2: bos, the text, eos. A row holds one or more windows into such documents. A window
that adds p tokens to a row has p + lookahead ids, because an objective that predicts the next token needs one id more
than it has targets. Every token of every document is in exactly one row of an epoch. (Rows of examples are in
example_rows.py, stateful rows in stateful.py.)

The packing is ours because Grain's (`grain.experimental.BestFitPackIterDataset`) is an iterator: its position is a
buffer of rows instead of one integer, and the rows depend on the number of processes.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from lmx.data.cache.folders import cached
from lmx.data.cache.store import TokenStore
from lmx.data.digests import CacheWriteError, save_array
from lmx.errors import LmxError, choose

BLOCK = 1 << 16  # Segments packed together; larger blocks hardly fill rows better and need more memory.
_PLAN_FORMAT = 2


@dataclasses.dataclass(frozen=True)
class RowPlan:
  """Which segments of documents make up each row. The fields are names of files in the cache.

  Attributes:
    document, start, length: (segments,) each: the document, the first token in it, and the number of tokens.
    first: (rows + 1,) row r holds segments first[r] .. first[r + 1] - 1.
  """

  document: np.ndarray
  start: np.ndarray
  length: np.ndarray
  first: np.ndarray


class Segment(NamedTuple):
  """Part of a row: a window of a document, or one example.

  Attributes:
    content: the argument of an objective's `prepare`: a window of ids, int32, or the fields of an example.
    position: of its first token; the following tokens count up from there.
  """

  content: Any
  position: int = 0


class Rows(Protocol):
  """Rows by random access: `rows[i]` is a list of segments.

  Attributes:
    targets: tokens in all rows, without padding.
    bytes: UTF-8 bytes of the text in all rows.
  """

  targets: int
  bytes: int

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> list[Segment]: ...


def split_documents(sizes: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Splits documents of `sizes` tokens into segments of at most `length`: (document, start, length) of each one."""
  counts = -(-np.maximum(sizes, 0) // length)  # Segments per document, rounded up; lookahead can make a size negative.
  document = np.repeat(np.arange(len(sizes)), counts)
  index = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)  # Of a segment within its document.
  start = index * length
  return document, start, np.minimum(length, sizes[document] - start).astype(np.int32)


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
  """Packs segments of `lengths` tokens into rows of `capacity` by best-fit decreasing; returns each segment's row.

  Longest first, each into the fullest row that has room for it. Rows end up nearly full and no segment is split
  (https://arxiv.org/abs/2404.10830: truncating fewer documents trains better models).
  """
  row_of = np.empty(len(lengths), np.int64)
  with_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # Rows by the number of tokens they have room for.
  # A bit set of the rooms that exist: bit r is set if with_room[r] isn't empty. After a shift by `size`, its lowest bit
  # is the smallest room that is large enough, found without a search.
  present = 0
  rows = 0
  for segment in np.argsort(-lengths, kind="stable").tolist():
    size = int(lengths[segment])
    enough = present >> size
    if enough:
      room = size + (enough & -enough).bit_length() - 1  # x & -x keeps the lowest set bit of x.
      row = with_room[room].pop()
      if not with_room[room]:
        present &= ~(1 << room)
    else:
      room, row, rows = capacity, rows, rows + 1
    row_of[segment] = row
    if room > size:
      with_room[room - size].append(row)
      present |= 1 << (room - size)
  return row_of


def fill_rows(sizes: np.ndarray, pack: Callable[[np.ndarray], np.ndarray], block: int) -> tuple[np.ndarray, np.ndarray]:
  """Packs segments block by block, so that memory and time per segment stay bounded.

  Args:
    sizes: (segments, ...) tokens.
    pack: sizes of a block -> each segment's row, counted from 0 in the block.
    block: segments packed together.

  Returns:
    (segments,) their indices in the order of the rows, and `RowPlan.first`.
  """
  row_of = np.empty(len(sizes), np.int64)
  rows = 0
  for begin in range(0, len(sizes), block):
    chosen = pack(sizes[begin : begin + block]) + rows
    row_of[begin : begin + block] = chosen
    rows = int(chosen.max()) + 1
  order = np.argsort(row_of, kind="stable")
  return order, np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=rows))])


def plan_packed(sizes: np.ndarray, length: int) -> RowPlan:
  """Several complete documents per row; longer ones are split into full rows, and their remainders are packed."""
  document, start, size = split_documents(sizes, length)
  order, first = fill_rows(size, lambda block: best_fit(block, length), BLOCK)
  return RowPlan(document[order], start[order], size[order], first)


def plan_padded(sizes: np.ndarray, length: int) -> RowPlan:
  """One document, or one segment of a longer document, per row."""
  document, start, size = split_documents(sizes, length)
  return RowPlan(document, start, size, np.arange(len(document) + 1))


class PlannedRows:
  """Rows of documents and segments of documents that follow a plan."""

  def __init__(self, store: TokenStore, plan: RowPlan, lookahead: int):
    """See the class.

    Args:
      store: tokenized documents.
      plan: made for this store and lookahead.
      lookahead: ids that a window has beyond the tokens it adds to a row.
    """
    self._store, self._plan, self._lookahead = store, plan, lookahead
    self.targets = int(plan.length.sum(dtype=np.int64))
    self.bytes = store.text_bytes

  def __len__(self) -> int:
    return len(self._plan.first) - 1

  def __getitem__(self, index: int) -> list[Segment]:
    plan, more = self._plan, self._lookahead
    here = slice(int(plan.first[index]), int(plan.first[index + 1]))
    chosen = zip(plan.document[here].tolist(), plan.start[here].tolist(), plan.length[here].tolist(), strict=True)
    return [Segment(self._store.extended(document, start, start + size + more)) for document, start, size in chosen]


class ConcatenatedRows:
  """All documents concatenated and split into chunks of `length` tokens, so one window can span several documents.

  Two documents are separated by eos and bos, or by a single id if the tokenizer uses the same one for both.
  """

  def __init__(self, store: TokenStore, length: int, lookahead: int):
    """See the class.

    Args:
      store: tokenized documents.
      length: L, tokens per row.
      lookahead: ids that a window has beyond the tokens it adds to a row.
    """
    self._store, self._length, self._lookahead = store, length, lookahead
    self._separators = 1 if store.bos_id == store.eos_id else 2  # Ids between two documents.
    # A single separator is the eos of one document and the bos of the next, so only the very first bos is extra.
    self._total = store.tokens + self._separators * store.documents + (2 - self._separators)
    self.targets = max(0, self._total - lookahead)
    self.bytes = store.text_bytes

  @functools.cached_property
  def _starts(self) -> np.ndarray:
    """(documents,) position of each document's bos, or of the separator before it, in the concatenated text."""
    return self._store.offsets[:-1] + self._separators * np.arange(self._store.documents)

  def __len__(self) -> int:
    return -(-self.targets // self._length)

  def __getitem__(self, index: int) -> list[Segment]:
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
    return [Segment(parts[0] if len(parts) == 1 else np.concatenate(parts))]


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
    packing: packed (each document its own segment) | concatenated (documents concatenated and chunked) | padded (one
      document, or one segment of a longer one, per row).
    length: L, tokens per row.
    lookahead: ids that a window has beyond the tokens it adds to a row.

  Raises:
    LmxError: an unknown packing, or a store without any token.
  """
  make = choose("config.data.packing", packing, PACKINGS)
  rows = make(store, length, lookahead)
  if not len(rows):
    raise LmxError(f"{store.folder} has {store.documents} documents, too little text for a row of {length} tokens.")
  return rows


def _stored_plan(
  packing: str, make: Callable[[np.ndarray, int], RowPlan], store: TokenStore, length: int, lookahead: int
) -> RowPlan:
  """The plan for a store of documents; see `cached_plan`."""
  name = f"{packing}-{length}-{lookahead}"
  return cached_plan(store.folder, name, lambda: make(store.lengths() + 2 - lookahead, length))


def cached_plan(store: Path, name: str, make: Callable[[], RowPlan]) -> RowPlan:
  """The plan in a store's folder, computed and saved if it isn't there: packing 10M documents takes half a minute.

  Args:
    store: folder of the store.
    name: of the plan; it holds everything besides the store that the plan depends on.
    make: computes the plan.
  """
  folder = store / f"rows-{_PLAN_FORMAT}-{name}"
  names = [field.name for field in dataclasses.fields(RowPlan)]

  def fill(partial: Path) -> dict[str, str]:
    plan = make()
    return {f"{name}.npy": save_array(partial / f"{name}.npy", getattr(plan, name)) for name in names}

  try:
    cached(folder, (), fill)
  except CacheWriteError:
    return make()  # The cache is read-only.
  return RowPlan(**{name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in names})
