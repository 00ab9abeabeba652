# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Token shards: files of ids that another program tokenized, memory-mapped.

.bin of nanoGPT (data/openwebtext/prepare.py: 16-bit ids without a header), .bin of llm.c (dev/data/data_common.py: a
header of 256 32-bit integers, then the ids), and .npy (a one-dimensional array of integers).
"""

import dataclasses
import tokenize
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lmx.data.document import TEXT, BadDocuments, Document, Record, RequiredColumns
from lmx.data.sources.opening import decoded_head
from lmx.data.tokenizers.vocabulary import Tokenizer
from lmx.errors import LmxError

SUFFIXES = (".bin", ".npy")
_HEADER = 256  # 32-bit integers: magic number, version, number of ids, padding.
_LLM_C: dict[tuple[int, int], np.dtype] = {(20240520, 1): np.dtype("<u2"), (20240801, 7): np.dtype("<u4")}
_RAW = np.dtype("<u2")
_SCANNED = 1 << 22  # Ids scanned at a time.
_PROBED = 1 << 16  # Bytes of a file without a header that are checked for text.


@dataclasses.dataclass
class TokenSource:
  """Documents of ids, in the order of the files. A document ends at the tokenizer's bos or eos, or with its file."""

  name: str
  paths: list[Path]
  forced: bool
  max_document_bytes: int

  @property
  def total_bytes(self) -> int | None:
    return None

  @property
  def files(self) -> list[Path]:
    return self.paths

  def documents(self, bad: BadDocuments) -> Iterator[Document]:
    raise LmxError(
      f"{self.name} holds token ids, which need the tokenizer that made them. Fix: name it, as "
      "--config.tokenizer.kind=huggingface --config.tokenizer.path=PATH/tokenizer.json"
    )

  def records(self, wanted: RequiredColumns, bad: BadDocuments) -> Iterator[Record]:
    raise LmxError(
      f"{self.name} holds token ids, but the objective reads the columns {', '.join(wanted.required)}. "
      "Fix: an objective on text, as --config.objective.name=causal, or a source of rows."
    )

  def fingerprint(self, wanted: RequiredColumns = TEXT) -> dict:
    """Names, sizes and times of the files."""
    stats = [(str(path.resolve()), path.stat()) for path in self.paths]
    return {"kind": "tokens", "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]}

  def ids(self, tokenizer: Tokenizer, bad: BadDocuments) -> Iterator[tuple[np.ndarray, str]]:
    """(ids without bos and eos, location) of each document that isn't empty.

    Raises:
      LmxError: a file is damaged, or holds an id that the tokenizer doesn't have.
    """
    for path in self.paths:
      # `parts` are the chunks of a document that began `first` ids into the file and continues in the next chunk.
      tokens = open_tokens(path, tokenizer.own_size, forced=self.forced)
      first = 0
      parts: list[np.ndarray] = []
      for begin in range(0, len(tokens), _SCANNED):
        chunk = tokens[begin : begin + _SCANNED].astype(np.int64)
        _check_ids(path, chunk, begin, tokenizer)
        done = 0
        for end in np.flatnonzero((chunk == tokenizer.eos_id) | (chunk == tokenizer.bos_id)).tolist():
          yield from self._document([*parts, chunk[done:end]], path, first, bad)
          first, parts, done = begin + end + 1, [], end + 1
        parts.append(chunk[done:])
      yield from self._document(parts, path, first, bad)

  def _document(
    self, parts: list[np.ndarray], path: Path, first: int, bad: BadDocuments
  ) -> Iterator[tuple[np.ndarray, str]]:
    size = sum(map(len, parts))
    if size > self.max_document_bytes:
      detail = f"{size:,} ids without an end, config.data.max_document_bytes={self.max_document_bytes}"
      bad.add(f"{path}[{first}]", "document too long", detail)
    elif size:
      yield np.concatenate(parts).astype(np.int32), f"{path}[{first}]"


def open_tokens(path: Path, vocab_size: int, *, forced: bool = False) -> np.ndarray:
  """The ids of a file, memory-mapped: (n,) integers.

  Args:
    path: .npy if its first bytes say so, an llm.c shard if it has the header, else raw 16-bit ids.
    vocab_size: of the tokenizer; more than 2**16 ids don't fit into a raw file.
    forced: the user wrote tokens:PATH, so a file without a header is read even if it looks like text.

  Raises:
    LmxError: the file is in none of these formats, or is damaged.
  """
  with path.open("rb") as file:
    head = file.read(_PROBED)
  size = path.stat().st_size
  if head.startswith(b"\x93NUMPY"):
    return _numpy_array(path)
  header = np.frombuffer(head, "<i4", min(_HEADER, len(head) // 4))
  dtype = _LLM_C.get((int(header[0]), int(header[1]))) if len(header) == _HEADER else None
  if dtype is not None:
    count, there = int(header[2]), (size - _HEADER * 4) / dtype.itemsize
    if count != there:
      raise LmxError(f"{path}: its header says {count:,} ids, and {there:,.0f} follow it. Fix: write it again.")
    return np.memmap(path, dtype, "r", _HEADER * 4) if count else np.zeros(0, dtype)
  if path.suffix.lower() == ".npy":
    raise LmxError(f"{path}: not a NumPy array, by its first bytes. Fix: np.save writes one.")
  if size and not forced and _looks_like_text(head):
    raise LmxError(f"{path}: token ids or text? Fix: tokens:{path} reads it as 16-bit ids, text:{path} as text.")
  if not size or size % _RAW.itemsize:
    raise LmxError(f"{path}: {size:,} bytes are not 16-bit ids, and there is no header of llm.c. Fix: write it again.")
  if vocab_size > 1 << 16:
    raise LmxError(
      f"{path} holds 16-bit ids without a header, and the tokenizer has {vocab_size:,}. "
      "Fix: the tokenizer that made it, or ids of 32 bits saved by np.save as .npy."
    )
  return np.memmap(path, _RAW, "r")


def _numpy_array(path: Path) -> np.ndarray:
  try:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
  except (ValueError, EOFError, OSError, SyntaxError, tokenize.TokenError) as error:  # The header is a Python literal.
    raise LmxError(f"{path}: a broken NumPy array ({error}). Fix: write it again.") from error
  if array.ndim != 1 or array.dtype.kind not in "iu":
    raise LmxError(f"{path}: got {array.dtype} of shape {array.shape}. Allowed: integers in one dimension.")
  return array


def _looks_like_text(head: bytes) -> bool:
  text = decoded_head(head)
  return text is not None and all(character >= " " or character in "\t\r\n\f" for character in text)


def _check_ids(path: Path, ids: np.ndarray, begin: int, tokenizer: Tokenizer) -> None:
  outside = np.flatnonzero((ids < 0) | (ids >= tokenizer.own_size))
  if len(outside):
    raise LmxError(
      f"{path}[{begin + int(outside[0])}]: got id {int(ids[outside[0]])}, but {tokenizer.name} has ids 0 to "
      f"{tokenizer.own_size - 1}. Fix: --config.tokenizer.path of the tokenizer that made the file."
    )
