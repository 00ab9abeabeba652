# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Tokenized documents on disk: written once, then memory-mapped.

A store is a folder with `tokens.bin` (all documents' ids one after another, little-endian uint16 or uint32),
`offsets.npy` (documents + 1 positions in it) and `sizes.npy` (bytes of each document's text in UTF-8).
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

TOKENS, OFFSETS, SIZES, TEXT = "tokens.bin", "offsets.npy", "sizes.npy", "text.txt"


def token_dtype(vocab_size: int) -> np.dtype:
  """uint16 where every id fits, else uint32."""
  return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


class StoreWriter:
  """Appends documents to a new store."""

  def __init__(self, folder: Path, dtype: np.dtype, keep_text: bool = False):
    folder.mkdir(parents=True)
    self._folder, self._dtype = folder, dtype
    self._tokens: BinaryIO = (folder / TOKENS).open("wb")
    self._text: BinaryIO | None = (folder / TEXT).open("wb") if keep_text else None
    self._lengths: list[np.ndarray] = []
    self._sizes: list[np.ndarray] = []

  def add(self, documents: Sequence[np.ndarray], texts: Sequence[bytes]) -> None:
    """Appends documents given as ids and as UTF-8 text."""
    if not documents:
      return
    np.concatenate(documents).astype(self._dtype).tofile(self._tokens)
    self._lengths.append(np.array([len(ids) for ids in documents], np.int64))
    self._sizes.append(np.array([len(text) for text in texts], np.int64))
    if self._text is not None:
      self._text.writelines(texts)

  def close(self) -> None:
    """Ends the files; without it the store is not whole."""
    self._tokens.close()
    if self._text is not None:
      self._text.close()
    empty = np.zeros(0, np.int64)
    lengths = np.concatenate([empty, *self._lengths])
    np.save(self._folder / OFFSETS, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    np.save(self._folder / SIZES, np.concatenate([empty, *self._sizes]))


@dataclasses.dataclass(frozen=True)
class TokenStore:
  """Documents of a store, read by random access.

  Attributes:
    folder: where it lies.
    dtype: of the ids on disk.
    bos_id, eos_id: put around each document when it is read.
  """

  folder: Path
  dtype: np.dtype
  bos_id: int
  eos_id: int

  @functools.cached_property
  def _tokens(self) -> np.ndarray:
    file = self.folder / TOKENS
    # As a plain array over the mapped memory: slicing a memmap object takes several times as long.
    return np.asarray(np.memmap(file, self.dtype, mode="r")) if file.stat().st_size else np.zeros(0, self.dtype)

  @functools.cached_property
  def offsets(self) -> np.ndarray:
    """Where each document begins in the ids of text, int64; one more than documents."""
    return np.asarray(np.load(self.folder / OFFSETS, mmap_mode="r"))

  @functools.cached_property
  def sizes(self) -> np.ndarray:
    """Bytes of text per document, int64."""
    return np.load(self.folder / SIZES, mmap_mode="r")

  @property
  def documents(self) -> int:
    return len(self.offsets) - 1

  @property
  def tokens(self) -> int:
    """Ids of text, bos and eos not counted."""
    return int(self.offsets[-1])

  @property
  def text_bytes(self) -> int:
    """Bytes of text in UTF-8."""
    return int(self.sizes.sum())

  def lengths(self) -> np.ndarray:
    """Ids of each document, int64, bos and eos not counted."""
    return np.diff(self.offsets)

  def extended(self, document: int, start: int, stop: int) -> np.ndarray:
    """Ids start .. stop - 1, int32, of a document extended by bos before it and eos after it.

    The extended document of n ids has n + 2: bos at 0, eos at n + 1.
    """
    first, last = int(self.offsets[document]), int(self.offsets[document + 1])
    length = last - first
    out = np.empty(stop - start, np.int32)
    a, b = max(start, 1), min(stop, length + 1)
    out[a - start : b - start] = self._tokens[first + a - 1 : first + b - 1]
    if start == 0:
      out[0] = self.bos_id
    if stop == length + 2:
      out[-1] = self.eos_id
    return out

  def text(self) -> bytes:
    """The documents' text in UTF-8, one after another, where it was kept (held-out parts)."""
    return (self.folder / TEXT).read_bytes()

  def problem(self) -> str | None:
    """What is wrong with the files, or None when they fit each other."""
    for name in (TOKENS, OFFSETS, SIZES):
      if not (self.folder / name).is_file():
        return f"{self.folder / name} is not there"
    size = (self.folder / TOKENS).stat().st_size
    if size != self.tokens * self.dtype.itemsize or len(self.sizes) != self.documents:
      return f"{self.folder / TOKENS} has {size} bytes, {self.tokens * self.dtype.itemsize} were written"
    return None
