# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Documents and examples on disk: written once, then memory-mapped.

A store is a folder. For each field it has `<field>.bin` (the values of all items one after another, little-endian)
and `<field>.offsets.npy` (items + 1 positions in it). `sizes.npy` has each item's bytes of text in UTF-8. Tokenized
documents have the field "tokens", of uint16 or uint32; `text.txt` is their text where it was kept. Examples have the
fields that their encoder makes, of int32 or float32, which `fields.json` names.
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
  """uint16 where every id fits, else uint32."""
  return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


class _FieldWriter:
  """Appends arrays of any length. Its file is open until `close`, and `file` for those who end it otherwise."""

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
    """Those of all items, one after another."""
    # As a plain array over the mapped memory: slicing a memmap object takes several times as long.
    size = self._file.stat().st_size
    return np.asarray(np.memmap(self._file, self.dtype, mode="r")) if size else np.zeros(0, self.dtype)

  @functools.cached_property
  def offsets(self) -> np.ndarray:
    """Where each item begins, int64; one more than items."""
    return np.asarray(np.load(self.folder / f"{self.name}.offsets.npy", mmap_mode="r"))

  def __getitem__(self, index: int) -> np.ndarray:
    return self.values[int(self.offsets[index]) : int(self.offsets[index + 1])]


class _Sizes:
  """Bytes of text per item, while a store is written."""

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
    super().__init__(folder)
    self._tokens = _FieldWriter(folder, TOKENS, dtype)
    self._text = DigestFile(folder / TEXT) if keep_text else None

  def add(self, documents: Sequence[np.ndarray], texts: Sequence[bytes]) -> None:
    """Appends documents given as ids and as UTF-8 text."""
    if not documents:
      return
    self._tokens.add(documents)
    self.add_sizes(map(len, texts))
    if self._text is not None:
      self._text.write(b"".join(texts))

  def close(self) -> dict[str, str]:
    """Ends the files, without which the store is not whole; returns {name: digest} of them."""
    text = {} if self._text is None else {TEXT: self._text.close()}
    return {**self._tokens.close(), **text, **self.write_sizes()}

  def abandon(self) -> None:
    """Closes the files of a store that will not be used."""
    self._tokens.file.abandon()
    if self._text is not None:
      self._text.abandon()


class ExampleWriter(_Sizes):
  """Appends examples to a new store. The first example says which fields there are."""

  def __init__(self, folder: Path):
    super().__init__(folder)
    self._fields: dict[str, _FieldWriter] = {}
    self._shapes: dict[str, dict] = {}

  def add(self, examples: Sequence[dict[str, np.ndarray]], sizes: Iterable[int]) -> None:
    """Appends examples, each a dict of int32 or float32 arrays, and their bytes of text.

    Raises:
      ValueError: an example has other fields or types than the first one.
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
        raise ValueError(f"an encoder made {example.keys()} and {self._shapes.keys()}, or fields of other types")
    for name, writer in self._fields.items():
      writer.add([example[name] for example in examples])
    self.add_sizes(sizes)

  def close(self) -> dict[str, str]:
    """Ends the files, without which the store is not whole; returns {name: digest} of them."""
    digests = {FIELDS: save_text(self.folder / FIELDS, json.dumps(self._shapes)), **self.write_sizes()}
    for writer in self._fields.values():
      digests |= writer.close()
    return digests

  def abandon(self) -> None:
    """Closes the files of a store that will not be used."""
    for writer in self._fields.values():
      writer.file.abandon()


def _described(array: np.ndarray) -> dict:
  """What is the same for a field of all examples: its type, and its shape after the first dimension."""
  if array.dtype not in (np.int32, np.float32):
    raise ValueError(f"an encoder made {array.dtype}; fields are int32 or float32")
  return {"dtype": array.dtype.newbyteorder("<").str, "scalar": array.ndim == 0, "shape": list(array.shape[1:])}


@dataclasses.dataclass(frozen=True)
class _Store:
  """What documents and examples have in common; `folder` is where they lie."""

  folder: Path

  @functools.cached_property
  def sizes(self) -> np.ndarray:
    """Bytes of text per item, int64."""
    return np.load(self.folder / SIZES, mmap_mode="r")

  @property
  def documents(self) -> int:
    """Documents, or examples."""
    return len(self.sizes)

  @property
  def text_bytes(self) -> int:
    """Bytes of text in UTF-8."""
    return int(self.sizes.sum())

  def text(self) -> bytes:
    """The documents' text in UTF-8, one after another, where it was kept (held-out documents)."""
    file = self.folder / TEXT
    return file.read_bytes() if file.is_file() else b""


@dataclasses.dataclass(frozen=True)
class TokenStore(_Store):
  """Documents of a store, read by random access.

  Attributes:
    dtype: of the ids on disk.
    bos_id, eos_id: put around each document when it is read.
  """

  dtype: np.dtype
  bos_id: int
  eos_id: int

  @functools.cached_property
  def _field(self) -> Field:
    return Field(self.folder, TOKENS, self.dtype)

  @property
  def offsets(self) -> np.ndarray:
    """Where each document begins in the ids of text, int64; one more than documents."""
    return self._field.offsets

  @property
  def tokens(self) -> int:
    """Ids of text, bos and eos not counted."""
    return int(self.offsets[-1])

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
    out[a - start : b - start] = self._field.values[first + a - 1 : first + b - 1]
    if start == 0:
      out[0] = self.bos_id
    if stop == length + 2:
      out[-1] = self.eos_id
    return out


@dataclasses.dataclass(frozen=True)
class ExampleStore(_Store):
  """Examples of a store, read by random access."""

  @functools.cached_property
  def _shapes(self) -> dict[str, dict]:
    return json.loads((self.folder / FIELDS).read_text())

  @functools.cached_property
  def _fields(self) -> dict[str, Field]:
    return {name: Field(self.folder, name, np.dtype(shape["dtype"])) for name, shape in self._shapes.items()}

  @functools.cached_property
  def groups(self) -> tuple[str, ...]:
    """Prefixes P of the fields P + "tokens", whose lengths packing goes by; "" is the first."""
    return tuple(sorted(name.removesuffix(TOKENS) for name in self._fields if name.endswith(TOKENS)))

  def lengths(self) -> np.ndarray:
    """(documents, groups) int64: tokens of each group of each example."""
    return np.stack([np.diff(self._fields[group + TOKENS].offsets) for group in self.groups], axis=1)

  @property
  def tokens(self) -> int:
    """Of all groups."""
    return sum(int(self._fields[group + TOKENS].offsets[-1]) for group in self.groups) if self.documents else 0

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """The fields of one example, as its encoder made them."""
    fields = {}
    for name, field in self._fields.items():
      shape = self._shapes[name]
      fields[name] = field[index].reshape(() if shape["scalar"] else (-1, *shape["shape"]))
    return fields


Store = TokenStore | ExampleStore
