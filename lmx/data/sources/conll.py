# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Records from CoNLL files: one word with its tags per line, and an empty line after each sentence.

https://www.clips.uantwerpen.be/conll2003/ner/ and https://universaldependencies.org/format.html (CoNLL-U).
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from lmx.data.document import BadDocuments, Columns, ReadOptions, Record, RequiredColumns
from lmx.data.sources.opening import bare_suffix, open_text
from lmx.data.sources.raw_lines import BOM, location, numbered_lines
from lmx.errors import LmxError, message

_CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_FIRST, _LAST = "tokens", "tags"  # Names for the columns of words and of tags, in any layout.


@dataclasses.dataclass(frozen=True)
class _Line:
  """A line that isn't blank: its location and its cells."""

  where: str
  cells: list[str]


def conll_records(path: Path, wanted: RequiredColumns, options: ReadOptions, bad: BadDocuments) -> Iterator[Record]:
  """The sentences, with each column as a list of strings.

  Columns are named by number, from 1, or in .conllu files by the names of that format. "tokens" is the first column and
  "tags" the last (in .conllu: form and upos). Cells are separated by tabs if the line has one, else by spaces.

  Args:
    path: of the file.
    wanted: the columns to read.
    options: the columns' names in the file, and the size limit of a line.
    bad: receives sentences that can't be used.

  Raises:
    LmxError: a column doesn't exist.
  """
  universal = bare_suffix(path) == ".conllu"
  columns = options.resolve(wanted)
  indices: dict[str, int] = {}
  width = 0
  for sentence in _sentences(path, universal, options, bad):
    if not indices:
      width = len(sentence[0].cells)
      indices = _indices(sentence[0], columns, universal)
    odd = next((line for line in sentence if len(line.cells) != width), None)
    if odd:
      bad.add(odd.where, "wrong number of columns", f"{len(odd.cells)} cells instead of {width} as the first word")
    else:
      values = {ours: [line.cells[index] for line in sentence] for ours, index in indices.items()}
      yield Record(values, sentence[0].where)


def _sentences(path: Path, universal: bool, options: ReadOptions, bad: BadDocuments) -> Iterator[list[_Line]]:
  sentence: list[_Line] = []
  broken = False
  with open_text(path) as file:
    for number, data in numbered_lines(file, options.max_document_bytes):
      where = location(path, number)
      if data is None:
        bad.add(where, "line too long", f"over config.data.max_document_bytes={options.max_document_bytes}")
      text = None if data is None else bad.decode(data.removeprefix(BOM), str(path), number)
      if text is None:
        broken = True
      elif not text.strip():
        if sentence and not broken:
          yield sentence
        sentence, broken = [], False
      elif not _is_not_a_word(text, universal, begins=not sentence):
        sentence.append(_Line(where, text.rstrip("\r\n").split("\t") if "\t" in text else text.split()))
  if sentence and not broken:
    yield sentence


def _is_not_a_word(text: str, universal: bool, *, begins: bool) -> bool:
  """Whether a line is a comment or the start of a document, or in CoNLL-U a range of words or an empty node."""
  if universal:
    number = text.partition("\t")[0]
    return text.startswith("#") or "-" in number or "." in number
  return text.startswith(("-DOCSTART-", "#begin document", "#end document")) or (begins and text.startswith("# id"))


def _indices(first: _Line, columns: Columns, universal: bool) -> dict[str, int]:
  """lmx's name -> index of the cell.

  Raises:
    LmxError: a column doesn't exist.
  """
  width = len(first.cells)
  names = {str(index + 1): index for index in range(width)}
  if universal:
    names |= {name: index for index, name in enumerate(_CONLLU[:width])}
  names[_FIRST] = min(1, width - 1) if universal else 0
  if width > 1:  # A single column can't hold both words and tags.
    names[_LAST] = 3 if universal and width > 3 else width - 1
  found: dict[str, int] = {}
  for ours, name in {**columns.optional, **columns.required}.items():
    if name in names:
      found[ours] = names[name]
    elif columns.must_exist(ours):
      subject = f"{first.where}: config.data.columns.{ours}"
      raise LmxError(message(subject, got=name, allowed=list(names)))
  return found
