# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Contents of a cache: the tokens of a source's texts, or the examples that an objective makes from its rows."""

import collections
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lmx.data.cache.encoding import BadExampleError, Encoded, ExampleEncoder, check_ids, ids_fit
from lmx.data.cache.store import ExampleStore, ExampleWriter, Store, StoreWriter, TokenStore, token_dtype
from lmx.data.document import TEXT, BadDocuments, Record, RequiredColumns, Source, is_missing
from lmx.data.sources.token_files import TokenSource
from lmx.data.tokenizers.vocabulary import Tokenizer

# A row of several labels may have none. Objectives that need one refuse such rows themselves.
_MAY_BE_EMPTY = ("label",)
UNKNOWN, CUT, CUT_TOKENS = "unknown", "cut", "cut_tokens"
_IDS = "ids"


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
  """One document or row before it is encoded.

  Attributes:
    record: its columns.
    data: its contents in UTF-8, which decide its side of the split: the text, or the columns as JSON.
  """

  record: Record
  data: bytes


@dataclasses.dataclass
class Encodings:
  """The result of encoding a batch of items.

  Attributes:
    values: for each item its ids, or the fields of its examples; None if it can't be used.
    counts: UNKNOWN tokens, truncated examples (CUT), tokens they lost (CUT_TOKENS), and rows by their encoder's notes.
    problems: (where, reason, detail) of items that can't be used.
    doubts: rows by what they lack; an error only if every row of the source lacks it (see `Encoded`).
  """

  values: list[Any]
  counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
  problems: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
  doubts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


def text_item(text: str, where: str) -> Item:
  """A document as an item."""
  return Item(Record({"text": text}, where), text.encode())


def text_items(source: Source, bad: BadDocuments) -> Iterator[Item]:
  """The documents of a source."""
  return (text_item(document.text, document.where) for document in source.documents(bad))


def row_items(source: Source, wanted: RequiredColumns, bad: BadDocuments) -> Iterator[Item]:
  """The rows of a source whose required columns aren't empty.

  Args:
    source: of the rows.
    wanted: the columns to read.
    bad: receives rows with an empty column or invalid Unicode.
  """
  for record in source.records(wanted, bad):
    empty = next(
      (name for name in wanted.required if name not in _MAY_BE_EMPTY and _is_empty(record.values[name])), None
    )
    if empty:
      detail = f"the objective needs the column that config.data.columns.{empty} names"
      bad.add(record.where, f"empty column {empty!r}", detail)
      continue
    try:
      data = json.dumps(record.values, ensure_ascii=False, sort_keys=True).encode()
    except UnicodeEncodeError:
      bad.add(record.where, "not valid Unicode", "it has a lone surrogate")
      continue
    yield Item(record, data)


def reader(source: Source, wanted: RequiredColumns) -> Callable[[BadDocuments], Iterator[Item]]:
  """The function that reads the items of a source: documents if only text is wanted, else rows."""
  return functools.partial(text_items, source) if wanted == TEXT else functools.partial(row_items, source, wanted)


def _is_empty(value: Any) -> bool:
  """Whether a cell is empty. Whitespace is; 0 and False are not."""
  return not value.strip() if isinstance(value, str) else is_missing(value) or value == [] or value == {}


class Content(Protocol):
  """Reads the items of a source, encodes them, and writes them to a store.

  Attributes:
    divides: whether a split may divide one item into a training and a validation part.
  """

  divides: bool

  def fingerprint(self, source: Source) -> dict:
    """JSON values that identify the source and the encoder; part of the cache's name."""

  def items(self, source: Source, bad: BadDocuments) -> Iterator[Item]:
    """The items, always in the same order."""

  def encode(self, items: Sequence[Item]) -> Encodings:
    """Encodes a batch of items."""

  def writer(self, folder: Path, keep_text: bool) -> Any:
    """A new store in a folder; `keep_text` also stores the text of documents."""

  def write(self, writer: Any, items: Sequence[Item], values: Sequence[Any]) -> None:
    """Appends encoded items to a store.

    Args:
      writer: of the store.
      items: that could be encoded.
      values: one per item, from `Encodings.values`.
    """

  def open(self, folder: Path) -> Store:
    """The finished store."""


class TextContent:
  """Documents: the column "text", tokenized."""

  divides = True

  def __init__(self, tokenizer: Tokenizer):
    self._tokenizer = tokenizer
    self._dtype = token_dtype(tokenizer.vocab_size)

  def fingerprint(self, source: Source) -> dict:
    return {"source": source.fingerprint(TEXT), "encoder": "text"}

  def items(self, source: Source, bad: BadDocuments) -> Iterator[Item]:
    return text_items(source, bad)

  def encode(self, items: Sequence[Item]) -> Encodings:
    return self._counted(self._tokenizer.encode_batch([item.record.values["text"] for item in items]))

  def _counted(self, values: list[np.ndarray]) -> Encodings:
    """The ids of some documents, with the number of unknown tokens among them."""
    result = Encodings(values)
    if self._tokenizer.unk_id is not None and values:
      result.counts[UNKNOWN] = int(np.count_nonzero(np.concatenate(values) == self._tokenizer.unk_id))
    return result

  def writer(self, folder: Path, keep_text: bool) -> StoreWriter:
    return StoreWriter(folder, self._dtype, keep_text=keep_text)

  def write(self, writer: StoreWriter, items: Sequence[Item], values: Sequence[np.ndarray]) -> None:
    # One check for all documents is much faster than one per document; which of them is wrong matters only on failure.
    size = self._tokenizer.vocab_size
    if values and not ids_fit(np.concatenate(values), size):
      for item, ids in zip(items, values, strict=True):
        check_ids(ids, size, item.record.where)
    writer.add(values, [item.data for item in items])

  def open(self, folder: Path) -> TokenStore:
    return TokenStore(folder, self._dtype, self._tokenizer.bos_id, self._tokenizer.eos_id)


class TokenContent(TextContent):
  """Documents that are already ids. Their text, in which bits per byte are counted, is decoded from the ids."""

  divides = False

  def fingerprint(self, source: Source) -> dict:
    return {"source": source.fingerprint(TEXT), "encoder": "ids"}

  def items(self, source: Source, bad: BadDocuments) -> Iterator[Item]:
    assert isinstance(source, TokenSource)
    for ids, where in source.ids(self._tokenizer, bad):
      yield Item(Record({_IDS: ids}, where), self._tokenizer.decode(ids).encode())

  def encode(self, items: Sequence[Item]) -> Encodings:
    return self._counted([item.record.values[_IDS] for item in items])


class ExampleContent:
  """Rows of columns, encoded by an objective."""

  divides = False

  def __init__(self, tokenizer: Tokenizer, encoder: ExampleEncoder):
    self._encoder, self._unk_id = encoder, tokenizer.unk_id
    self._wanted = RequiredColumns(tuple(encoder.columns), tuple(encoder.optional))

  def fingerprint(self, source: Source) -> dict:
    return {"source": source.fingerprint(self._wanted), "encoder": self._encoder.fingerprint}

  def items(self, source: Source, bad: BadDocuments) -> Iterator[Item]:
    return row_items(source, self._wanted, bad)

  def encode(self, items: Sequence[Item]) -> Encodings:
    result = Encodings([])
    for item in items:
      try:
        encoded = self._encoder(item.record.values)
      except BadExampleError as error:
        result.problems.append((item.record.where, error.reason, error.detail))
        result.values.append(None)
        continue
      except Exception as error:
        error.add_note(f"while encoding {item.record.where}")
        raise
      examples = (encoded, *encoded.more)
      result.values.append([_fields(one) for one in examples])
      result.counts.update(encoded.notes)
      result.doubts.update(encoded.doubts)
      for one in examples:
        result.counts[CUT] += one.truncated > 0
        result.counts[CUT_TOKENS] += one.truncated
        if self._unk_id is not None:
          tokens = [array for name, array in one.fields.items() if name.endswith("tokens")]
          result.counts[UNKNOWN] += sum(int((array == self._unk_id).sum()) for array in tokens)
    return result

  def writer(self, folder: Path, keep_text: bool) -> ExampleWriter:
    return ExampleWriter(folder)

  def write(self, writer: ExampleWriter, items: Sequence[Item], values: Sequence[list[dict[str, np.ndarray]]]) -> None:
    # The bytes of a row are counted once, with the first of its examples.
    sizes = [[len(item.data), *[0] * (len(some) - 1)] for item, some in zip(items, values, strict=True)]
    writer.add(list(itertools.chain(*values)), itertools.chain(*sizes))

  def open(self, folder: Path) -> ExampleStore:
    return ExampleStore(folder)


def _fields(encoded: Encoded) -> dict[str, np.ndarray]:
  return {name: np.asarray(array) for name, array in encoded.fields.items()}


def make_content(source: Source, tokenizer: Tokenizer, encoder: ExampleEncoder | None) -> Content:
  """The content for a source: examples if there is an encoder, else ids if the source holds ids, else text.

  Args:
    source: that the cache is made from.
    tokenizer: for the text.
    encoder: turns rows into examples; None: documents.
  """
  if encoder is not None:
    return ExampleContent(tokenizer, encoder)
  return TokenContent(tokenizer) if isinstance(source, TokenSource) else TextContent(tokenizer)
