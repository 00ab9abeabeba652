# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Token cache: tokenizes or encodes a source once, and records what the cache was made from.

The name of a cache folder contains a hash of everything that its contents depend on. The folder is written under a
temporary name and renamed once it is complete, so a killed preparation is never used, and if two run at the same time,
the first to finish wins.
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
from lmx.data.cache.folders import cache_name, cached
from lmx.data.cache.store import Store
from lmx.data.digests import digest_of, read_record, save_text
from lmx.data.document import BadDocuments, Source
from lmx.data.tokenizers.vocabulary import Tokenizer, digest
from lmx.errors import LmxError, message

FORMAT = 3  # Raised when the meaning of a cache folder changes.
MANIFEST = "manifest.json"
SPLITS = ("document", "tail")
TRAIN, VALIDATION = "train", "heldout"  # Names of folders in a cache, part of the format.
_BATCH_BYTES = 4 << 20  # Text encoded in one batch.

ReadItems = Callable[[BadDocuments], Iterator[Item]]
# (name of the source, bytes of text done, total bytes or None)
Progress = Callable[[str, int, int | None], None]


@dataclasses.dataclass(frozen=True)
class Split:
  """How the items of a source (documents, or rows of columns) are split into a training and a validation set.

  Attributes:
    kind: "document": by a hash of each item, so equal items are on the same side; "tail": the end of the source, where
      one document may be divided between two characters. A row of columns is never divided.
    fraction: share of the validation set, of items or of bytes; 0: none.
  """

  kind: str = "document"
  fraction: float = 0.0


@dataclasses.dataclass(frozen=True)
class PreparedSource:
  """A source in the cache.

  Attributes:
    name: as the user wrote it.
    train, validation: the two parts; validation is None without a split.
    skipped: number of bad documents that were skipped, by reason.
    examples: the first skipped document of each reason.
    counts: see `lmx.data.cache.content.Encodings`.
    reused: whether it was cached before.
    files: [path, bytes, digest] of each file that it was made from.
    digests: part -> digest of its store's contents.
  """

  name: str
  train: Store
  validation: Store | None
  skipped: dict[str, int]
  examples: dict[str, str]
  counts: dict[str, int]
  reused: bool
  files: list[list[Any]]
  digests: dict[str, str]


def split_items(read: ReadItems, divides: bool, split: Split, bad: BadDocuments) -> Iterator[tuple[str, Item]]:
  """(TRAIN or VALIDATION, item) for each document or row, in the order of `read`.

  Args:
    read: reads the items.
    divides: whether the tail may begin within an item.
    split: kind and size of the validation set.
    bad: the policy for bad documents.

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
    yield VALIDATION if value < limit else TRAIN, item


def _split_tail(items: Iterable[Item], left: int, divides: bool) -> Iterator[tuple[str, Item]]:
  """The first `left` bytes are for training; the boundary is moved back to the start of a character."""
  for item in items:
    data, size = item.data, len(item.data)
    if left >= size:
      yield TRAIN, item
    elif left <= 0 or not divides:
      left = 0
      yield VALIDATION, item
    else:
      while left and data[left] & 0xC0 == 0x80:  # A continuation byte of UTF-8.
        left -= 1
      parts = ((TRAIN, data[:left]), (VALIDATION, data[left:]))
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
  """The tokenized documents or encoded examples of a source, from the cache or prepared now.

  Args:
    source: of the text.
    tokenizer: its fingerprint is part of the cache's name.
    split: kind and size of the validation set.
    cache_dir: holds one folder per (source, tokenizer, encoder, options).
    bad_documents: error | skip.
    max_document_bytes: part of the cache's name; the source applies it.
    progress: called every few megabytes.
    keep_text: also store the text of training documents; that of validation documents is always stored.
    encoder: turns the source's rows into examples; its fingerprint is part of the cache's name. None: documents.

  Raises:
    LmxError: a bad document, a source all of whose rows lack what the encoder needs, or a cache folder that is damaged
      or was made from something else.
    CacheWriteError: the disk is full, or the cache is read-only.
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
  made_from = json.loads(json.dumps(made_from))  # As the manifest will be read back: tuples become lists.
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
  """Items to encode together, and the part of the split each belongs to; `size` is in bytes of text."""

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
  """The stores of the training and the validation part, as a context manager.

  Attributes:
    digests: name -> digest of the files that were written, after the block ended without an error.
  """

  def __init__(self, folder: Path, content: Content, validation: bool, keep_text: bool):
    self._content = content
    self.digests: dict[str, str] = {}
    self._stores: dict[str, Any] = {TRAIN: content.writer(folder / TRAIN, keep_text)}
    if validation:
      self._stores[VALIDATION] = content.writer(folder / VALIDATION, True)

  def add(self, batch: _Batch, values: Sequence[Any]) -> None:
    """Writes the encoded items of a batch; `values` has None for items that can't be used."""
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
  """Encodes and writes all items; returns the counts of `Encodings`.

  Batches are pipelined: while a thread encodes one (tokenizers release the GIL), this thread reads the next one and
  writes the one before.
  """
  done = rows = 0
  counts: collections.Counter[str] = collections.Counter()
  doubts: collections.Counter[str] = collections.Counter()
  with ThreadPoolExecutor(1) as pool:
    waiting: tuple[_Batch, Future[Encodings]] | None = None
    for batch in itertools.chain(_batches(source, content, split, bad), [None]):  # None: only the last result is left.
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
  if missing := [doubt for doubt, count in doubts.items() if count == rows]:
    raise LmxError(f"config.data.sources: none of the {rows:,} rows of {source.name!r} has {' and '.join(missing)}.")
  return dict(counts)


def _open(folder: Path, name: str, content: Content, made_from: dict, reused: bool) -> PreparedSource:
  """Opens the stores of a checked cache folder, after comparing what it was made from.

  Raises:
    LmxError: it was made from something else, as after a collision of names or a copied folder.
  """
  manifest = json.loads((folder / MANIFEST).read_text())
  found = manifest["made_from"]
  if found != made_from:
    differing = [key for key in made_from if not isinstance(found, dict) or found.get(key) != made_from[key]]
    fix = f"Fix: rm -r {folder}; lmx makes it again."
    raise LmxError(f"The cache {folder} was made from another {' and '.join(differing) or 'lmx'}. {fix}")
  parts = {part: content.open(folder / part) for part in (TRAIN, VALIDATION) if (folder / part).is_dir()}
  record = read_record(folder)
  of_part = {part: [kept for name, kept in record["files"].items() if name.startswith(f"{part}/")] for part in parts}
  return PreparedSource(
    name=name,
    train=parts[TRAIN],
    validation=parts.get(VALIDATION),
    skipped=manifest["skipped"],
    examples=manifest["examples"],
    counts=manifest["counts"],
    reused=reused,
    files=[[path, *kept] for path, kept in record["sources"].items()],
    digests={part: digest_of(*kept) for part, kept in of_part.items()},
  )
