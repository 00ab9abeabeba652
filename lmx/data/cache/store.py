# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Stores: documents and examples on disk, written once, then memory-mapped.

A store is a folder. For each field it has `<field>.bin` (the values of all items, concatenated, little-endian) and
`<field>.offsets.npy` (items + 1 positions in it). `sizes.npy` has each item's bytes of text in UTF-8. Tokenized
documents have the field "tokens", of uint16 or uint32, and `text.txt` if their text was kept. Examples have the fields
of their encoder, of int32 or float32, which are listed in `fields.json`.
"""

import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lmx.data.digests import DigestFile, save_array, save_text

TOKENS, SIZES, TEXT, FIELDS = "tokens", "sizes.npy", "text.txt", "fields.json"


def token_dtype(vocab_size: int) -> np.dtype:
  """uint16 if every id fits, else uint32."""
  return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


class _FieldWriter:
  """Appends arrays of any length to a field. `close` finishes it; `file.abandon` gives it up."""

  def __init__(self, folder: Path, name: str, dtype: np.dtype):
    self._folder, self._name, self._dtype = folder, name, dtype
    self.file = DigestFile(folder / f"{name}.bin")
    self._lengths: list[np.ndarray] = []

  def add(self, arrays: Sequence[np.ndarray]) -> None:
    self.file.write(np.concatenate([array.ravel() for array in arrays]).astype(self._dtype).data)
    self._lengths.append(np.array([array.size for array in arrays], np.int64))

  def close(self) -> dict[str, str]:
    lengths = np.concatenate([np.zeros(1, np.int64), *self._lengths])
    offsets = f"{self._name}.offsets.npy"
    return {self.file.path.name: self.file.close(), offsets: save_array(self._folder / offsets, np.cumsum(lengths))}


@dataclasses.dataclass(frozen=True)
class Field:
  """Arrays of any length, read by random access."""

  folder: Path
  name: str
  dtype: np.dtype

  @property
  def _file(self) -> Path:
    return self.folder / f"{self.name}.bin"

  @functools.cached_property
  def values(self) -> np.ndarray:
    """The values of all items, concatenated."""
    # A plain array over the mapped memory, because slicing a memmap object takes several times as long.
    size = self._file.stat().st_size
    return np.asarray(np.memmap(self._file, self.dtype, mode="r")) if size else np.zeros(0, self.dtype)

  @functools.cached_property
  def offsets(self) -> np.ndarray:
    """(items + 1,) int64 positions where each item begins."""
    return np.asarray(np.load(self.folder / f"{self.name}.offsets.npy", mmap_mode="r"))

  def __getitem__(self, index: int) -> np.ndarray:
    return self.values[int(self.offsets[index]) : int(self.offsets[index + 1])]


class _Sizes:
  """Writes the bytes of text per item, for both kinds of store."""

  def __init__(self, folder: Path):
    folder.mkdir(parents=True)
    self.folder = folder
    self._sizes: list[np.ndarray] = []

  def add_sizes(self, sizes: Iterable[int]) -> None:
    self._sizes.append(np.array(list(sizes), np.int64))

  def write_sizes(self) -> dict[str, str]:
    return {SIZES: save_array(self.folder / SIZES, np.concatenate([np.zeros(0, np.int64), *self._sizes]))}


class StoreWriter(_Sizes):
  """Appends documents to a new store."""

  def __init__(self, folder: Path, dtype: np.dtype, keep_text: bool = False):
    """Creates the folder.

    Args:
      folder: must not exist.
      dtype: of the ids on disk, see `token_dtype`.
      keep_text: also store the text.
    """
    super().__init__(folder)
    self._tokens = _FieldWriter(folder, TOKENS, dtype)
    self._text = DigestFile(folder / TEXT) if keep_text else None

  def add(self, documents: Sequence[np.ndarray], texts: Sequence[bytes]) -> None:
    """Appends documents, as ids and as text in UTF-8."""
    if not documents:
      return
    self._tokens.add(documents)
    self.add_sizes(map(len, texts))
    if self._text is not None:
      self._text.write(b"".join(texts))

  def close(self) -> dict[str, str]:
    """Finishes the files; returns {name: digest}. Until then the store is incomplete."""
    text = {} if self._text is None else {TEXT: self._text.close()}
    return {**self._tokens.close(), **text, **self.write_sizes()}

  def abandon(self) -> None:
    """Closes the files of a store that won't be used."""
    self._tokens.file.abandon()
    if self._text is not None:
      self._text.abandon()


class ExampleWriter(_Sizes):
  """Appends examples to a new store. The first example defines the fields."""

  def __init__(self, folder: Path):
    super().__init__(folder)
    self._fields: dict[str, _FieldWriter] = {}
    self._shapes: dict[str, dict] = {}

  def add(self, examples: Sequence[dict[str, np.ndarray]], sizes: Iterable[int]) -> None:
    """Appends examples, each a dict of int32 or float32 arrays, and their bytes of text.

    Raises:
      ValueError: an example's fields or types differ from those of the first one.
    """
    if not examples:
      return
    if not self._shapes:
      self._shapes = {name: _described(array) for name, array in examples[0].items()}
      self._fields = {
        name: _FieldWriter(self.folder, name, np.dtype(shape["dtype"])) for name, shape in self._shapes.items()
      }
    for example in examples:
      if {name: _described(array) for name, array in example.items()} != self._shapes:
        raise ValueError(f"an encoder returned {example.keys()} and {self._shapes.keys()}, or fields of other types")
    for name, writer in self._fields.items():
      writer.add([example[name] for example in examples])
    self.add_sizes(sizes)

  def close(self) -> dict[str, str]:
    """Finishes the files; returns {name: digest}. Until then the store is incomplete."""
    digests = {FIELDS: save_text(self.folder / FIELDS, json.dumps(self._shapes)), **self.write_sizes()}
    for writer in self._fields.values():
      digests |= writer.close()
    return digests

  def abandon(self) -> None:
    """Closes the files of a store that won't be used."""
    for writer in self._fields.values():
      writer.file.abandon()


def _described(array: np.ndarray) -> dict:
  """What a field has in common in all examples: its type, and its shape after the first dimension."""
  if array.dtype not in (np.int32, np.float32):
    raise ValueError(f"an encoder returned {array.dtype}; fields are int32 or float32")
  return {"dtype": array.dtype.newbyteorder("<").str, "scalar": array.ndim == 0, "shape": list(array.shape[1:])}


@dataclasses.dataclass(frozen=True)
class _Store:
  """Common part of stores of documents and of examples."""

  folder: Path

  @functools.cached_property
  def sizes(self) -> np.ndarray:
    """(items,) int64 bytes of text."""
    return np.load(self.folder / SIZES, mmap_mode="r")

  @property
  def documents(self) -> int:
    """Number of documents or examples."""
    return len(self.sizes)

  @property
  def text_bytes(self) -> int:
    """Bytes of text in UTF-8."""
    return int(self.sizes.sum())

  def text(self) -> bytes:
    """The documents' text in UTF-8, concatenated; b"" if it wasn't kept (training documents, examples)."""
    file = self.folder / TEXT
    return file.read_bytes() if file.is_file() else b""


@dataclasses.dataclass(frozen=True)
class TokenStore(_Store):
  """A store of documents, read by random access.

  Attributes:
    dtype: of the ids on disk.
    bos_id, eos_id: added around each document when it is read.
  """

  dtype: np.dtype
  bos_id: int
  eos_id: int

  @functools.cached_property
  def _field(self) -> Field:
    return Field(self.folder, TOKENS, self.dtype)

  @property
  def offsets(self) -> np.ndarray:
    """(documents + 1,) int64 positions where each document begins in the ids of all documents."""
    return self._field.offsets

  @property
  def tokens(self) -> int:
    """Number of ids, without bos and eos."""
    return int(self.offsets[-1])

  def lengths(self) -> np.ndarray:
    """(documents,) int64 number of ids, without bos and eos."""
    return np.diff(self.offsets)

  def extended(self, document: int, start: int, stop: int) -> np.ndarray:
    """A window of a document with bos before and eos after it: of n ids it has n + 2, bos at 0 and eos at n + 1.

    Args:
      document: its index.
      start, stop: of the window, 0 <= start < stop <= n + 2.

    Returns:
      (stop - start,) int32.
    """
    first, last = int(self.offsets[document]), int(self.offsets[document + 1])
    length = last - first
    out = np.empty(stop - start, np.int32)
    a, b = max(start, 1), min(stop, length + 1)  # The part of the window that is text: without bos and eos.
    out[a - start : b - start] = self._field.values[first + a - 1 : first + b - 1]
    if start == 0:
      out[0] = self.bos_id
    if stop == length + 2:
      out[-1] = self.eos_id
    return out


@dataclasses.dataclass(frozen=True)
class ExampleStore(_Store):
  """A store of examples, read by random access."""

  @functools.cached_property
  def _shapes(self) -> dict[str, dict]:
    return json.loads((self.folder / FIELDS).read_text())

  @functools.cached_property
  def _fields(self) -> dict[str, Field]:
    return {name: Field(self.folder, name, np.dtype(shape["dtype"])) for name, shape in self._shapes.items()}

  @functools.cached_property
  def groups(self) -> tuple[str, ...]:
    """Prefixes P of the fields P + "tokens", whose lengths are the sizes for packing; "" is the first."""
    return tuple(sorted(name.removesuffix(TOKENS) for name in self._fields if name.endswith(TOKENS)))

  def lengths(self) -> np.ndarray:
    """(examples, groups) int64 number of tokens."""
    return np.stack([np.diff(self._fields[group + TOKENS].offsets) for group in self.groups], axis=1)

  @property
  def tokens(self) -> int:
    """Number of tokens of all groups."""
    return sum(int(self._fields[group + TOKENS].offsets[-1]) for group in self.groups) if self.documents else 0

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """The fields of one example, as its encoder returned them."""
    fields = {}
    for name, field in self._fields.items():
      shape = self._shapes[name]
      fields[name] = field[index].reshape(() if shape["scalar"] else (-1, *shape["shape"]))
    return fields


Store = TokenStore | ExampleStore
