# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The data room's front door: from `config.data` and `config.tokenizer` to a tokenizer, a corpus and batches.

tokenizer = make_tokenizer(tokenizer_spec, data_spec)
corpus = prepare_corpus(data_spec, tokenizer)
loader = make_loader(corpus, objective.prepare, lookahead=1, batch_size=32, seed=0)
batch = next(loader)
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from lmx.data.document import BadDocuments, ReadOptions, Source
from lmx.data.folders import cache_name, replacing
from lmx.data.pipeline import BatchShape, EvalBatches, Loader, Prepare
from lmx.data.prepare import TRAIN, PreparedSource, Progress, Split, prepare_source, split_documents
from lmx.data.rows import Rows, make_rows
from lmx.data.sources import open_source
from lmx.data.store import TokenStore
from lmx.data.tokenizer import Tokenizer, TokenizerSpec, load_tokenizer, open_tokenizer, train_sentencepiece
from lmx.data.vocabulary import digest
from lmx.errors import LmxError, message

_SAMPLE_CHUNK = 4096  # Characters; the tokenizer's training sample is made of such chunks.
_TRAINING_FORMAT = 1  # Raised when training the same spec on the same text would give another tokenizer.


@dataclasses.dataclass(frozen=True)
class DataSpec:
  """`config.data`, checked. The fields are its keys."""

  sources: tuple[str, ...] = ("stdlib",)
  weights: tuple[float, ...] = ()
  columns: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"text": "text"})
  tfds_split: str = "train"
  tfds_dir: str | None = None
  separator: str | None = None
  heldout_sources: tuple[str, ...] = ()
  heldout_fraction: float = 0.05
  heldout_split: str = "document"
  length: int = 1024
  packing: str = "packed"
  bad_documents: str = "error"
  max_document_bytes: int = 50_000_000
  cache_dir: str = "~/.cache/lmx/tokens"
  prefetch_batches: int = 4
  threads: int = 2

  def __post_init__(self) -> None:
    if not self.sources:
      raise LmxError(message("config.data.sources", got=self.sources, allowed="at least one source"))
    if self.weights and len(self.weights) != len(self.sources):
      allowed = f"(), or one weight for each of the {len(self.sources)} sources"
      raise LmxError(message("config.data.weights", got=self.weights, allowed=allowed))
    if any(not weight > 0 for weight in self.weights):
      raise LmxError(
        message("config.data.weights", got=self.weights, allowed="weights over 0; drop the source instead")
      )
    if not 0 <= self.heldout_fraction < 1:
      raise LmxError(message("config.data.heldout_fraction", got=self.heldout_fraction, allowed="0 <= fraction < 1"))

  @property
  def read_options(self) -> ReadOptions:
    return ReadOptions(
      columns=self.columns,
      separator=self.separator,
      max_document_bytes=self.max_document_bytes,
      tfds_split=self.tfds_split,
      tfds_dir=self.tfds_dir,
    )

  @property
  def split(self) -> Split:
    return Split(self.heldout_split, 0.0 if self.heldout_sources else self.heldout_fraction)


@dataclasses.dataclass(frozen=True)
class PartFacts:
  """One source's training or held-out part: its size, what was left out, tokens that stand for unknown text.

  `tokens` counts ids of text, without bos and eos; `bytes` counts text in UTF-8.
  """

  name: str
  documents: int
  tokens: int
  bytes: int
  skipped: Mapping[str, int]
  examples: Mapping[str, str]
  unknown: int
  reused: bool

  @property
  def bytes_per_token(self) -> float:
    return self.bytes / self.tokens if self.tokens else 0.0


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Tokenized text: one store per source for training, and what is held out.

  Attributes:
    spec: what it was made by.
    tokenizer: its ids are those of the stores.
    train, heldout: stores, in the order of the sources; heldout may be ().
    train_facts, heldout_facts: one for each of them.
  """

  spec: DataSpec
  tokenizer: Tokenizer
  train: tuple[TokenStore, ...]
  heldout: tuple[TokenStore, ...]
  train_facts: tuple[PartFacts, ...]
  heldout_facts: tuple[PartFacts, ...]

  def train_rows(self, lookahead: int, length: int | None = None, packing: str | None = None) -> list[Rows]:
    return _rows(self.train, self.spec, lookahead, length, packing)

  def heldout_rows(self, lookahead: int, length: int | None = None, packing: str | None = None) -> list[Rows]:
    return _rows(self.heldout, self.spec, lookahead, length, packing)


@dataclasses.dataclass(frozen=True)
class EpochFacts:
  """What one pass over the training text is, and how a loss per target becomes bits per byte.

  Attributes:
    rows, targets: in one epoch.
    fill: share of the places of all rows that a document fills.
    bytes_per_target: UTF-8 bytes of text per target, weighted as the mixture draws. bits per byte =
      loss in nats per target / ln 2 / bytes_per_target.
  """

  rows: int
  targets: int
  fill: float
  bytes_per_target: float


def _rows(
  stores: tuple[TokenStore, ...], spec: DataSpec, lookahead: int, length: int | None, packing: str | None
) -> list[Rows]:
  return [
    make_rows(store, packing=packing or spec.packing, length=length or spec.length, lookahead=lookahead)
    for store in stores
  ]


def open_sources(spec: DataSpec) -> list[Source]:
  """The training sources.

  Raises:
    LmxError: a source that is not there.
  """
  return [open_source(source, spec.read_options) for source in spec.sources]


def make_tokenizer(spec: TokenizerSpec, data: DataSpec) -> Tokenizer:
  """The tokenizer that a config asks for: read from its path, or trained on the training part of the sources.

  A trained one is kept in data.cache_dir; the same sources and options give the same one again.

  Raises:
    LmxError: a file that is not there, no text, or a vocab_size that does not fit the text.
  """
  if not spec.needs_training:
    return open_tokenizer(spec.kind, spec.path)
  sources = open_sources(data)
  key = {
    "format": _TRAINING_FORMAT,
    "spec": dataclasses.asdict(spec),
    "sources": [source.fingerprint() for source in sources],
    "split": dataclasses.asdict(data.split),
    "options": [data.max_document_bytes, data.bad_documents],
  }
  name = cache_name("tokenizer", spec.model_type, str(spec.vocab_size), digest(json.dumps(key, sort_keys=True)))
  folder = Path(data.cache_dir).expanduser() / name
  if not folder.is_dir():
    tokenizer = train_tokenizer(spec, data, sources)
    with replacing(folder) as partial:
      tokenizer.save(partial)
  return load_tokenizer(folder)


def train_tokenizer(spec: TokenizerSpec, data: DataSpec, sources: list[Source]) -> Tokenizer:
  """Trains a SentencePiece on the training part of the sources, without looking in the cache.

  bpe and unigram see about `spec.train_bytes` of text, spread evenly. char sees every character of the sources, the
  held-out ones included, so that the vocabulary is that of the text, as in nanoGPT.
  """
  characters = spec.model_type == "char"
  split = Split() if characters else data.split

  def texts() -> Iterator[str]:
    bad = BadDocuments(data.bad_documents)
    for source in sources:
      yield from (text for part, text in split_documents(source, split, bad) if part == TRAIN)

  sample = texts() if characters else _spread(texts, spec.train_bytes)
  return train_sentencepiece(sample, vocab_size=spec.vocab_size, model_type=spec.model_type)


def _spread(texts, wanted: int) -> Iterator[str]:
  """About `wanted` characters of texts(), in chunks that lie evenly over all of it; everything if it is no more."""
  total = sum(len(text) for text in texts())
  share = min(1.0, wanted / max(total, 1))
  seen = 0
  for text in texts():
    for start in range(0, len(text), _SAMPLE_CHUNK):
      seen += 1
      if int(seen * share) > int((seen - 1) * share):
        yield text[start : start + _SAMPLE_CHUNK]


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
    train_facts=tuple(_facts(one, one.train) for one in train),
    heldout_facts=tuple(_facts(one, store) for one, store in heldout),
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


def _facts(one: PreparedSource, store: TokenStore) -> PartFacts:
  return PartFacts(
    name=one.name,
    documents=store.documents,
    tokens=store.tokens,
    bytes=store.text_bytes,
    skipped=one.skipped,
    examples=one.examples,
    unknown=one.unknown,
    reused=one.reused,
  )


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
