# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The data room's front door: from `config.data` and `config.tokenizer` to a tokenizer, a corpus and batches.

tokenizer = make_tokenizer(tokenizer_spec, data_spec)
corpus = prepare_corpus(data_spec, tokenizer)
loader = make_loader(corpus, objective.prepare, lookahead=1, batch_size=32, seed=0)
batch = next(loader)
"""

import dataclasses

from lmx.data.facts import EpochFacts, PartFacts, SourceNotes, describe
from lmx.data.pipeline import BatchShape, EvalBatches, Loader, Prepare
from lmx.data.prepare import PreparedSource, Progress, Split, prepare_source
from lmx.data.rows import Rows, make_rows
from lmx.data.sources import open_source
from lmx.data.spec import DataSpec
from lmx.data.store import TokenStore
from lmx.data.tokenizer import Tokenizer, TokenizerSpec
from lmx.data.tokenizer_training import make_tokenizer
from lmx.errors import LmxError

__all__ = [
  "Corpus",
  "DataSpec",
  "EpochFacts",
  "TokenizerSpec",
  "epoch_facts",
  "heldout_text",
  "make_eval_batches",
  "make_loader",
  "make_tokenizer",
  "prepare_corpus",
]


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Tokenized text: one store per source for training, and what is held out.

  Attributes:
    spec: what it was made by.
    tokenizer: its ids are those of the stores.
    train, heldout: stores, in the order of the sources; heldout may be ().
    train_facts, heldout_facts: one for each of them.
    notes: one for each source, held-out ones last.
  """

  spec: DataSpec
  tokenizer: Tokenizer
  train: tuple[TokenStore, ...]
  heldout: tuple[TokenStore, ...]
  train_facts: tuple[PartFacts, ...]
  heldout_facts: tuple[PartFacts, ...]
  notes: tuple[SourceNotes, ...]

  def describe(self) -> str:
    """One line for the start of a run: the sources, their sizes, what is held out, and what was left out."""
    return describe(self.train_facts, self.heldout_facts, self.notes)

  def train_rows(self, lookahead: int, length: int | None = None, packing: str | None = None) -> list[Rows]:
    return _rows(self.train, self.spec, lookahead, length, packing)

  def heldout_rows(self, lookahead: int, length: int | None = None, packing: str | None = None) -> list[Rows]:
    return _rows(self.heldout, self.spec, lookahead, length, packing)


def _rows(
  stores: tuple[TokenStore, ...], spec: DataSpec, lookahead: int, length: int | None, packing: str | None
) -> list[Rows]:
  return [
    make_rows(store, packing=packing or spec.packing, length=length or spec.length, lookahead=lookahead)
    for store in stores
  ]


def prepare_corpus(spec: DataSpec, tokenizer: Tokenizer, progress: Progress | None = None) -> Corpus:
  """Tokenizes every source that is not in the cache yet, and opens all of them.

  Safe to call from several processes at once; on a shared disk, calling it in one of them first saves the others'
  work.

  Raises:
    LmxError: a source that is not there or yields nothing, a bad document, a damaged cache.
  """
  names = [*spec.sources, *spec.heldout_sources]
  splits = [spec.split] * len(spec.sources) + [Split()] * len(spec.heldout_sources)
  prepared = []
  for name, split in zip(names, splits, strict=True):
    source = open_source(name, spec.read_options)
    one = prepare_source(
      source,
      tokenizer,
      split=split,
      cache_dir=spec.cache_dir,
      bad_documents=spec.bad_documents,
      max_document_bytes=spec.max_document_bytes,
      progress=progress,
      keep_text=name in spec.heldout_sources,
    )
    _check_parts(one, split)
    prepared.append(one)
  train = prepared[: len(spec.sources)]
  if spec.heldout_sources:
    heldout = [(one, one.train) for one in prepared[len(spec.sources) :]]
  else:
    heldout = [(one, one.heldout) for one in train if one.heldout is not None]
  return Corpus(
    spec=spec,
    tokenizer=tokenizer,
    train=tuple(one.train for one in train),
    heldout=tuple(store for _, store in heldout),
    train_facts=tuple(_facts(one.name, one.train) for one in train),
    heldout_facts=tuple(_facts(one.name, store) for one, store in heldout),
    notes=tuple(_notes(one) for one in prepared),
  )


def _check_parts(one: PreparedSource, split: Split) -> None:
  """A source that yields nothing is an error, never a silently lighter mixture."""
  documents = one.train.documents + (one.heldout.documents if one.heldout else 0)
  if not documents:
    why = "; ".join(one.examples.values()) or "there is no text in it"
    raise LmxError(f"config.data.sources: {one.name!r} has no documents: {why}.")
  if one.heldout is not None and not (one.train.documents and one.heldout.documents):
    side = "training" if not one.train.documents else "held-out"
    other = "tail" if split.kind == "document" else "document"
    raise LmxError(
      f"config.data.heldout_fraction={split.fraction} leaves no {side} text of {one.name!r}, which has {documents} "
      f"document{'s' if documents > 1 else ''}. Fix: --config.data.heldout_split={other}, another fraction, or "
      "--config.data.heldout_sources."
    )


def _facts(name: str, store: TokenStore) -> PartFacts:
  return PartFacts(name=name, documents=store.documents, tokens=store.tokens, bytes=store.text_bytes)


def _notes(one: PreparedSource) -> SourceNotes:
  return SourceNotes(one.name, one.skipped, one.examples, one.unknown, one.reused)


def epoch_facts(corpus: Corpus, *, lookahead: int, length: int | None = None, packing: str | None = None) -> EpochFacts:
  """Rows and targets of one pass, and bytes per target as the mixture draws."""
  sources = corpus.train_rows(lookahead, length, packing)
  rows, targets = sum(map(len, sources)), sum(source.targets for source in sources)
  weights = corpus.spec.weights or [len(source) for source in sources]
  drawn_bytes = sum(w * source.bytes / len(source) for w, source in zip(weights, sources, strict=True))
  drawn_targets = sum(w * source.targets / len(source) for w, source in zip(weights, sources, strict=True))
  return EpochFacts(
    rows=rows,
    targets=targets,
    fill=targets / (rows * (length or corpus.spec.length)),
    bytes_per_target=drawn_bytes / drawn_targets,
  )


def heldout_text(corpus: Corpus) -> bytes:
  """The held-out documents in UTF-8, one after another: what `xz` is compared on."""
  return b"".join(store.text() for store in corpus.heldout)


def make_loader(
  corpus: Corpus,
  prepare: Prepare,
  *,
  lookahead: int,
  batch_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
  length: int | None = None,
  packing: str | None = None,
) -> Loader:
  """Training batches; `length` and `packing` are those of the corpus's spec unless given.

  Args:
    corpus: see `prepare_corpus`.
    prepare: the objective's half: (window of ids, random generator) -> dict of 1-D arrays.
    lookahead: how many ids a window has beyond the places it fills; 1 for next-token prediction.
    batch_size: rows over all processes.
    seed: order of rows, and the objective's random choices.
    process_index, process_count: which part of every batch this process gets.

  Raises:
    LmxError: batch_size does not divide over the processes, or a source is too short for one row.
  """
  shape = _shape(corpus, batch_size, process_index, process_count, length)
  rows = corpus.train_rows(lookahead, length, packing)
  return Loader(rows, prepare, shape, seed=seed, weights=corpus.spec.weights)


def make_eval_batches(
  corpus: Corpus,
  prepare: Prepare,
  *,
  lookahead: int,
  batch_size: int,
  max_rows: int | None = None,
  process_index: int = 0,
  process_count: int = 1,
  length: int | None = None,
  packing: str | None = None,
) -> EvalBatches:
  """The held-out text in batches, once each time it is iterated; the arguments are those of `make_loader`.

  Raises:
    LmxError: nothing is held out.
  """
  if not corpus.heldout:
    raise LmxError(
      "Nothing is held out for evaluation. "
      "Fix: --config.data.heldout_fraction=0.05, or --config.data.heldout_sources=PATH"
    )
  shape = _shape(corpus, batch_size, process_index, process_count, length)
  return EvalBatches(corpus.heldout_rows(lookahead, length, packing), prepare, shape, max_rows=max_rows)


def _shape(corpus: Corpus, batch_size: int, index: int, count: int, length: int | None) -> BatchShape:
  return BatchShape(
    length=length or corpus.spec.length,
    batch_size=batch_size,
    process_index=index,
    process_count=count,
    pad_id=corpus.tokenizer.pad_id,
    threads=corpus.spec.threads,
    prefetch=corpus.spec.prefetch_batches,
  )
