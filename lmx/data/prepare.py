# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The cache: a source is tokenized once, and what it was made from is written beside it.

A cache folder is named after everything that decides its contents. It is written under another name and renamed when
it is whole, so a preparation that was killed is never taken for one, and of two that run at once one wins.
"""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lmx.data.document import BadDocuments, Source
from lmx.data.folders import cache_name, replacing
from lmx.data.store import StoreWriter, TokenStore, token_dtype
from lmx.data.vocabulary import Tokenizer, digest
from lmx.errors import LmxError, message

FORMAT = 1  # Raised when the meaning of a cache folder changes.
MANIFEST = "manifest.json"
SPLITS = ("document", "tail")
TRAIN, HELDOUT = "train", "heldout"
_BATCH_BYTES = 4 << 20  # Text tokenized at once.

# (name of the source, bytes of text done, bytes in all or None)
Progress = Callable[[str, int, int | None], None]


@dataclasses.dataclass(frozen=True)
class Split:
  """How a source is divided into training and held-out text.

  Attributes:
    kind: "document": a hash of each document decides, so equal documents fall on one side; "tail": the last part of
      the text, in which case one document may be cut, between two characters.
    fraction: share held out, of documents or of bytes; 0: nothing.
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
    unknown: tokens that stand for text the tokenizer cannot spell.
    reused: whether it was in the cache already.
  """

  name: str
  train: TokenStore
  heldout: TokenStore | None
  skipped: dict[str, int]
  examples: dict[str, str]
  unknown: int
  reused: bool


def split_documents(source: Source, split: Split, bad: BadDocuments) -> Iterator[tuple[str, str]]:
  """(TRAIN or HELDOUT, text) for each document, in the source's order.

  Raises:
    LmxError: an unknown kind of split, or a bad document under the policy "error".
  """
  if split.kind not in SPLITS:
    raise LmxError(message("config.data.heldout_split", got=split.kind, allowed=SPLITS))
  if not split.fraction:
    return ((TRAIN, document.text) for document in source.documents(bad))
  return (_split_by_hash if split.kind == "document" else _split_tail)(source, split.fraction, bad)


def _split_by_hash(source: Source, fraction: float, bad: BadDocuments) -> Iterator[tuple[str, str]]:
  limit = int(fraction * 2**64)
  for document in source.documents(bad):
    value = int.from_bytes(hashlib.blake2b(document.text.encode(), digest_size=8).digest(), "little")
    yield HELDOUT if value < limit else TRAIN, document.text


def _split_tail(source: Source, fraction: float, bad: BadDocuments) -> Iterator[tuple[str, str]]:
  """Reads the source twice: once for its size. The cut is moved back to the start of a character."""
  total = sum(len(document.text.encode()) for document in source.documents(BadDocuments(bad.policy)))
  left = int(total * (1 - fraction))
  for document in source.documents(bad):
    data = document.text.encode()
    if left >= len(data):
      yield TRAIN, document.text
    elif left <= 0:
      yield HELDOUT, document.text
    else:
      while left and data[left] & 0xC0 == 0x80:
        left -= 1
      parts = ((TRAIN, data[:left]), (HELDOUT, data[left:]))
      yield from ((part, text.decode()) for part, text in parts if text)
    left -= len(data)


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
) -> PreparedSource:
  """The tokenized documents of a source, from the cache or made now.

  Args:
    source: where the text comes from.
    tokenizer: its fingerprint is part of the cache's name.
    split: what is held out.
    cache_dir: holds one folder per (source, tokenizer, options).
    bad_documents: error | skip.
    max_document_bytes: part of the options, for the record; the source applies it.
    progress: called after each few megabytes.
    keep_text: also keep the text of the documents; that of a held-out part is always kept.

  Raises:
    LmxError: a bad document, a source or a side of the split without documents, or a cache folder that is damaged or
      made from something else.
  """
  options = {
    "heldout_split": split.kind if split.fraction else "none",
    "heldout_fraction": split.fraction,
    "bad_documents": bad_documents,
    "max_document_bytes": max_document_bytes,
    "keep_text": keep_text,
  }
  made_from = {
    "format": FORMAT,
    "source": source.fingerprint(),
    "tokenizer": {"name": tokenizer.name, "fingerprint": tokenizer.fingerprint},
    "options": options,
  }
  made_from = json.loads(json.dumps(made_from))  # As it will be read back: tuples become lists.
  cache = Path(cache_dir).expanduser()
  folder = cache / cache_name(source.name, tokenizer.name, digest(json.dumps(made_from, sort_keys=True)))
  reused = folder.exists()
  if not reused:
    with replacing(folder) as partial:
      bad = BadDocuments(bad_documents)
      with _Writers(partial, tokenizer, bool(split.fraction), keep_text) as writers:
        unknown = _tokenize(source, tokenizer, split, bad, writers, progress)
      result = {"skipped": dict(bad.counts), "examples": bad.examples, "unknown": unknown}
      manifest = {"made_from": made_from, **result}
      (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
  return _open(folder, source.name, tokenizer, made_from, reused)


@dataclasses.dataclass
class _Batch:
  """Documents waiting to be tokenized together."""

  parts: list[str] = dataclasses.field(default_factory=list)
  texts: list[str] = dataclasses.field(default_factory=list)
  size: int = 0

  def add(self, part: str, text: str) -> None:
    self.parts.append(part)
    self.texts.append(text)
    self.size += len(text)


def _batches(source: Source, split: Split, bad: BadDocuments) -> Iterator[_Batch]:
  batch = _Batch()
  for part, text in split_documents(source, split, bad):
    batch.add(part, text)
    if batch.size >= _BATCH_BYTES:
      yield batch
      batch = _Batch()
  if batch.texts:
    yield batch


class _Writers:
  """The stores of the training and the held-out part."""

  def __init__(self, folder: Path, tokenizer: Tokenizer, heldout: bool, keep_text: bool):
    dtype = token_dtype(tokenizer.vocab_size)
    self._unk_id = tokenizer.unk_id
    self._stores = {TRAIN: StoreWriter(folder / TRAIN, dtype, keep_text=keep_text)}
    if heldout:
      self._stores[HELDOUT] = StoreWriter(folder / HELDOUT, dtype, keep_text=True)

  def add(self, batch: _Batch, ids: list[np.ndarray]) -> tuple[int, int]:
    """Writes a tokenized batch; returns its bytes of text and its unknown tokens."""
    texts = [text.encode() for text in batch.texts]
    for name, store in self._stores.items():
      chosen = [i for i, part in enumerate(batch.parts) if part == name]
      store.add([ids[i] for i in chosen], [texts[i] for i in chosen])
    unknown = 0 if self._unk_id is None else sum(int((one == self._unk_id).sum()) for one in ids)
    return sum(map(len, texts)), unknown

  def __enter__(self) -> "_Writers":
    return self

  def __exit__(self, *error) -> None:
    for store in self._stores.values():
      store.close()


def _tokenize(
  source: Source, tokenizer: Tokenizer, split: Split, bad: BadDocuments, writers: _Writers, progress: Progress | None
) -> int:
  """Writes all documents; returns the unknown tokens. A batch is read while the tokenizer works on the one before."""
  done = unknown = 0
  with ThreadPoolExecutor(1) as pool:
    waiting: tuple[_Batch, Future[list[np.ndarray]]] | None = None
    for batch in itertools.chain(_batches(source, split, bad), [None]):
      encoded = pool.submit(tokenizer.encode_batch, batch.texts) if batch else None
      if waiting:
        size, more = writers.add(waiting[0], waiting[1].result())
        done, unknown = done + size, unknown + more
        if progress:
          progress(source.name, done, source.total_bytes)
      waiting = (batch, encoded) if batch and encoded else None
  return unknown


def _open(folder: Path, name: str, tokenizer: Tokenizer, made_from: dict, reused: bool) -> PreparedSource:
  """The stores of a cache folder, after checking that it is whole and the right one."""
  fix = f"Fix: remove {folder}; it will be made again."
  try:
    manifest = json.loads((folder / MANIFEST).read_text())
  except (OSError, ValueError) as error:
    raise LmxError(f"The cache {folder} is damaged: {error}. {fix}") from error
  found = manifest.get("made_from")
  if found != made_from:
    differing = [key for key in made_from if not isinstance(found, dict) or found.get(key) != made_from[key]]
    raise LmxError(f"The cache {folder} was made from another {' and '.join(differing) or 'lmx'}. {fix}")
  dtype = token_dtype(tokenizer.vocab_size)
  parts = {
    part: TokenStore(folder / part, dtype, tokenizer.bos_id, tokenizer.eos_id)
    for part in (TRAIN, HELDOUT)
    if (folder / part).is_dir()
  }
  if TRAIN not in parts:
    raise LmxError(f"The cache {folder} is damaged: no {TRAIN} in it. {fix}")
  for store in parts.values():
    if problem := store.problem():
      raise LmxError(f"The cache {folder} is damaged: {problem}. {fix}")
  return PreparedSource(
    name=name,
    train=parts[TRAIN],
    heldout=parts.get(HELDOUT),
    skipped=manifest["skipped"],
    examples=manifest["examples"],
    unknown=manifest["unknown"],
    reused=reused,
  )
