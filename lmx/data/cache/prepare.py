# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The cache: a source is tokenized or encoded once, and what it was made from is written beside it.

A cache folder is named after everything that decides its contents. It is written under another name and renamed when
it is whole, so a preparation that was killed is never taken for one, and of two that run at once one wins.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lmx.data.cache.content import Content, Encodings, Item, make_content, text_item
from lmx.data.cache.encoding import ExampleEncoder
from lmx.data.cache.store import Store
from lmx.data.digests import digest_of, read_record, save_text
from lmx.data.document import BadDocuments, Source
from lmx.data.sources.folders import cache_name, cached
from lmx.data.tokenizers.vocabulary import Tokenizer, digest
from lmx.errors import LmxError, message

FORMAT = 3  # Raised when the meaning of a cache folder changes.
MANIFEST = "manifest.json"
SPLITS = ("document", "tail")
TRAIN, HELDOUT = "train", "heldout"
_BATCH_BYTES = 4 << 20  # Text encoded at once.

ReadItems = Callable[[BadDocuments], Iterator[Item]]
# (name of the source, bytes of text done, bytes in all or None)
Progress = Callable[[str, int, int | None], None]


@dataclasses.dataclass(frozen=True)
class Split:
  """How a source is divided into training and held-out items (documents, or rows of columns).

  Attributes:
    kind: "document": a hash of each item decides, so equal items fall on one side; "tail": the last part, in which
      case one document may be cut, between two characters. A row of columns is never cut.
    fraction: share held out, of items or of bytes; 0: nothing.
  """

  kind: str = "document"
  fraction: float = 0.0


@dataclasses.dataclass(frozen=True)
class PreparedSource:
  """A source in the cache.

  Attributes:
    name: as the user wrote it.
    train, heldout: the two parts; heldout is None when nothing is held out.
    skipped: bad documents left out, by reason, and the first of each.
    counts: see `lmx.data.cache.content.Encodings`.
    reused: whether it was in the cache already.
    files: [path, bytes, digest] of each file that it was made from.
    digests: part -> digest of what is in its store.
  """

  name: str
  train: Store
  heldout: Store | None
  skipped: dict[str, int]
  examples: dict[str, str]
  counts: dict[str, int]
  reused: bool
  files: list[list[Any]]
  digests: dict[str, str]


def split_items(read: ReadItems, divides: bool, split: Split, bad: BadDocuments) -> Iterator[tuple[str, Item]]:
  """(TRAIN or HELDOUT, item) for each document or row, in the order of `read`.

  Args:
    read: gives the items.
    divides: whether the tail may begin within one.
    split: what is held out.
    bad: what to do with bad ones.

  Raises:
    LmxError: an unknown kind of split, or a bad document under the policy "error".
  """
  if split.kind not in SPLITS:
    raise LmxError(message("config.data.heldout_split", got=split.kind, allowed=SPLITS))
  if not split.fraction:
    return ((TRAIN, item) for item in read(bad))
  if split.kind == "document":
    return _split_by_hash(read(bad), split.fraction)
  total = sum(len(item.data) for item in read(BadDocuments(bad.policy)))
  return _split_tail(read(bad), int(total * (1 - split.fraction)), divides)


def _split_by_hash(items: Iterable[Item], fraction: float) -> Iterator[tuple[str, Item]]:
  limit = int(fraction * 2**64)
  for item in items:
    value = int.from_bytes(hashlib.blake2b(item.data, digest_size=8).digest(), "little")
    yield HELDOUT if value < limit else TRAIN, item


def _split_tail(items: Iterable[Item], left: int, divides: bool) -> Iterator[tuple[str, Item]]:
  """The first `left` bytes are for training. The cut is moved back to the start of a character."""
  for item in items:
    data, size = item.data, len(item.data)
    if left >= size:
      yield TRAIN, item
    elif left <= 0 or not divides:
      left = 0
      yield HELDOUT, item
    else:
      while left and data[left] & 0xC0 == 0x80:
        left -= 1
      parts = ((TRAIN, data[:left]), (HELDOUT, data[left:]))
      yield from ((part, text_item(text.decode(), item.record.where)) for part, text in parts if text)
    left -= size


def prepare_source(
  source: Source,
  tokenizer: Tokenizer,
  *,
  split: Split,
  cache_dir: str | os.PathLike,
  bad_documents: str = "error",
  max_document_bytes: int = 50_000_000,
  progress: Progress | None = None,
  keep_text: bool = False,
  encoder: ExampleEncoder | None = None,
) -> PreparedSource:
  """The tokenized documents or the examples of a source, from the cache or made now.

  Args:
    source: where the text comes from.
    tokenizer: its fingerprint is part of the cache's name.
    split: what is held out.
    cache_dir: holds one folder per (source, tokenizer, encoder, options).
    bad_documents: error | skip.
    max_document_bytes: part of the options, for the record; the source applies it.
    progress: called after each few megabytes.
    keep_text: also keep the text of documents; that of a held-out part is always kept.
    encoder: makes examples of the source's rows; its fingerprint is part of the cache's name. None: documents.

  Raises:
    LmxError: a bad document, a source whose rows lack what some must have, a source or a side of the split without
      documents, or a cache folder that is damaged or made from something else.
  """
  options = {
    "heldout_split": split.kind if split.fraction else "none",
    "heldout_fraction": split.fraction,
    "bad_documents": bad_documents,
    "max_document_bytes": max_document_bytes,
    "keep_text": keep_text,
  }
  content = make_content(source, tokenizer, encoder)
  made_from = {
    "format": FORMAT,
    **content.fingerprint(source),
    "tokenizer": {"name": tokenizer.name, "fingerprint": tokenizer.fingerprint},
    "options": options,
  }
  made_from = json.loads(json.dumps(made_from))  # As it will be read back: tuples become lists.
  cache = Path(cache_dir).expanduser()
  folder = cache / cache_name(source.name, tokenizer.name, digest(json.dumps(made_from, sort_keys=True)))

  def make(partial: Path) -> dict[str, str]:
    bad = BadDocuments(bad_documents)
    with _Writers(partial, content, bool(split.fraction), keep_text) as writers:
      counts = _encode(source, content, split, bad, writers, progress)
    manifest = {"made_from": made_from, "skipped": dict(bad.counts), "examples": bad.examples, "counts": counts}
    return {**writers.digests, MANIFEST: save_text(partial / MANIFEST, json.dumps(manifest, indent=1) + "\n")}

  reused = cached(folder, source.files, make)
  return _open(folder, source.name, content, made_from, reused)


@dataclasses.dataclass
class _Batch:
  """Items waiting to be encoded together, and the part each belongs to."""

  parts: list[str] = dataclasses.field(default_factory=list)
  items: list[Item] = dataclasses.field(default_factory=list)
  size: int = 0

  def add(self, part: str, item: Item) -> None:
    self.parts.append(part)
    self.items.append(item)
    self.size += len(item.data)


def _batches(source: Source, content: Content, split: Split, bad: BadDocuments) -> Iterator[_Batch]:
  batch = _Batch()
  for part, item in split_items(lambda bad: content.items(source, bad), content.divides, split, bad):
    batch.add(part, item)
    if batch.size >= _BATCH_BYTES:
      yield batch
      batch = _Batch()
  if batch.items:
    yield batch


class _Writers:
  """The stores of the training and the held-out part.

  Attributes:
    digests: name -> digest of the files that were written, once the block has ended well.
  """

  def __init__(self, folder: Path, content: Content, heldout: bool, keep_text: bool):
    self._content = content
    self.digests: dict[str, str] = {}
    self._stores: dict[str, Any] = {TRAIN: content.writer(folder / TRAIN, keep_text)}
    if heldout:
      self._stores[HELDOUT] = content.writer(folder / HELDOUT, True)

  def add(self, batch: _Batch, values: Sequence[Any]) -> None:
    """Writes what became of a batch."""
    for name, store in self._stores.items():
      chosen = [i for i, part in enumerate(batch.parts) if part == name and values[i] is not None]
      self._content.write(store, [batch.items[i] for i in chosen], [values[i] for i in chosen])

  def __enter__(self) -> "_Writers":
    return self

  def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
    try:
      for part, store in self._stores.items() if kind is None else ():
        self.digests |= {f"{part}/{name}": digest for name, digest in store.close().items()}
    finally:
      for store in self._stores.values():
        store.abandon()


def _encode(
  source: Source, content: Content, split: Split, bad: BadDocuments, writers: _Writers, progress: Progress | None
) -> dict[str, int]:
  """Writes all items; returns the counts. A batch is read while the tokenizer works on the one before."""
  done = rows = 0
  counts: collections.Counter[str] = collections.Counter()
  doubts: collections.Counter[str] = collections.Counter()
  with ThreadPoolExecutor(1) as pool:
    waiting: tuple[_Batch, Future[Encodings]] | None = None
    for batch in itertools.chain(_batches(source, content, split, bad), [None]):
      encoded = pool.submit(content.encode, batch.items) if batch else None
      if waiting:
        result = waiting[1].result()
        for problem in result.problems:
          bad.add(*problem)
        writers.add(waiting[0], result.values)
        counts.update(result.counts)
        doubts.update(result.doubts)
        rows += sum(value is not None for value in result.values)
        done += waiting[0].size
        if progress:
          progress(source.name, done, source.total_bytes)
      waiting = (batch, encoded) if batch and encoded else None
  if sure := [doubt for doubt, count in doubts.items() if count == rows]:
    raise LmxError(f"config.data.sources: none of the {rows:,} rows of {source.name!r} has {' and '.join(sure)}.")
  return dict(counts)


def _open(folder: Path, name: str, content: Content, made_from: dict, reused: bool) -> PreparedSource:
  """The stores of a cache folder that was checked, once it is sure to be the right one."""
  manifest = json.loads((folder / MANIFEST).read_text())
  found = manifest["made_from"]
  if found != made_from:
    differing = [key for key in made_from if not isinstance(found, dict) or found.get(key) != made_from[key]]
    fix = f"Fix: remove {folder}; it will be made again."
    raise LmxError(f"The cache {folder} was made from another {' and '.join(differing) or 'lmx'}. {fix}")
  parts = {part: content.open(folder / part) for part in (TRAIN, HELDOUT) if (folder / part).is_dir()}
  record = read_record(folder)
  of_part = {part: [kept for name, kept in record["files"].items() if name.startswith(f"{part}/")] for part in parts}
  return PreparedSource(
    name=name,
    train=parts[TRAIN],
    heldout=parts.get(HELDOUT),
    skipped=manifest["skipped"],
    examples=manifest["examples"],
    counts=manifest["counts"],
    reused=reused,
    files=[[path, *kept] for path, kept in record["sources"].items()],
    digests={part: digest_of(*kept) for part, kept in of_part.items()},
  )
