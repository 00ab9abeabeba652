# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Entry point of the data room: from `config.data` and `config.tokenizer` to a tokenizer, a corpus and batches.

tokenizer = make_tokenizer(tokenizer_spec, data_spec)
requirements = DataRequirements(prepare, lookahead=1)
corpus = prepare_corpus(data_spec, tokenizer, encoder=requirements.encoder)
loader = make_loader(corpus, requirements, batch_size=32, seed=0)
batch = next(loader)
"""

import collections
import dataclasses
from collections.abc import Sequence

from lmx.data.batches.example_rows import make_example_rows
from lmx.data.batches.pipeline import BatchShape, EvalBatches, Loader
from lmx.data.batches.rows import Rows, make_rows
from lmx.data.batches.stateful import StatefulRows
from lmx.data.cache.content import CUT, CUT_TOKENS, UNKNOWN
from lmx.data.cache.encoding import DataRequirements, ExampleEncoder
from lmx.data.cache.prepare import TRAIN, VALIDATION, PreparedSource, Progress, Split, prepare_source
from lmx.data.cache.stats import EpochStats, Origin, SourceNotes, SourceStats, describe
from lmx.data.cache.store import ExampleStore, Store, TokenStore
from lmx.data.columns import column_values
from lmx.data.sources.sources import open_source
from lmx.data.spec import DataSpec
from lmx.data.tokenizer_training import check_same_tokenizer, make_tokenizer
from lmx.data.tokenizers.tokenizer import Tokenizer, TokenizerSpec
from lmx.errors import LmxError, message
from lmx.shapes import ALL_ROWS, RowShare

__all__ = [
  "Corpus",
  "DataRequirements",
  "DataSpec",
  "EpochStats",
  "TokenizerSpec",
  "check_same_tokenizer",
  "column_values",
  "epoch_stats",
  "make_eval_batches",
  "make_loader",
  "make_tokenizer",
  "prepare_corpus",
  "validation_text",
]


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Tokenized text or encoded examples: the stores of the training and the validation set.

  Attributes:
    spec: the `config.data` that it was prepared from.
    tokenizer: of the stores' ids.
    train, validation: one store per source, in the order of the sources; validation may be ().
    train_stats, validation_stats: one per store.
    train_origins, validation_origins: one per store.
    notes: one per source, those of config.data.heldout_sources last.
  """

  spec: DataSpec
  tokenizer: Tokenizer
  train: tuple[Store, ...]
  validation: tuple[Store, ...]
  train_stats: tuple[SourceStats, ...]
  validation_stats: tuple[SourceStats, ...]
  train_origins: tuple[Origin, ...]
  validation_origins: tuple[Origin, ...]
  notes: tuple[SourceNotes, ...]

  def describe(self) -> str:
    """One line for the start of a run: the sources, their sizes, and what was skipped or truncated."""
    return describe(self.train_stats, self.validation_stats, self.notes)


def prepare_corpus(
  spec: DataSpec, tokenizer: Tokenizer, progress: Progress | None = None, encoder: ExampleEncoder | None = None
) -> Corpus:
  """Tokenizes or encodes every source that isn't cached yet, and opens all of them.

  Safe to call from several processes at once. On a shared disk, call it in one process first to save the others the
  work.

  Args:
    spec: the sources and options.
    tokenizer: for the text.
    progress: called every few megabytes.
    encoder: turns rows of columns into examples; None: documents.

  Raises:
    LmxError: a source that doesn't exist or is empty, a bad document, a damaged cache.
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
      encoder=encoder,
    )
    _check_parts(one, split)
    prepared.append(one)
  train = prepared[: len(spec.sources)]
  if spec.heldout_sources:
    validation = [(one, one.train, TRAIN) for one in prepared[len(spec.sources) :]]
  else:
    validation = [(one, one.validation, VALIDATION) for one in train if one.validation is not None]
  return Corpus(
    spec=spec,
    tokenizer=tokenizer,
    train=tuple(one.train for one in train),
    validation=tuple(store for _, store, _ in validation),
    train_stats=tuple(_stats(one.name, one.train) for one in train),
    validation_stats=tuple(_stats(one.name, store) for one, store, _ in validation),
    train_origins=tuple(Origin(one.files, one.digests[TRAIN]) for one in train),
    validation_origins=tuple(Origin(one.files, one.digests[part]) for one, _, part in validation),
    notes=tuple(_notes(one) for one in prepared),
  )


def _check_parts(one: PreparedSource, split: Split) -> None:
  """Refuses an empty source, which would silently change the mixture, and an empty training or validation set."""
  documents = one.train.documents + (one.validation.documents if one.validation else 0)
  if not documents:
    why = "; ".join(one.examples.values()) or "it contains no text"
    unit = "examples" if isinstance(one.train, ExampleStore) else "documents"
    raise LmxError(f"config.data.sources: {one.name!r} has no {unit}: {why}.")
  if one.validation is not None and not (one.train.documents and one.validation.documents):
    side = "training" if not one.train.documents else "validation"
    other = "tail" if split.kind == "document" else "document"
    raise LmxError(
      f"config.data.heldout_fraction={split.fraction} leaves no {side} text of {one.name!r}, which has {documents} "
      f"document{'s' if documents > 1 else ''}. Fix: --config.data.heldout_split={other}, another fraction, or "
      "--config.data.heldout_sources."
    )


def _is_stateful(spec: DataSpec) -> bool:
  return spec.packing == "streams"


def _stats(name: str, store: Store) -> SourceStats:
  unit = "example" if isinstance(store, ExampleStore) else "document"
  return SourceStats(name, store.documents, store.tokens, store.text_bytes, unit)


def _notes(one: PreparedSource) -> SourceNotes:
  counts = collections.Counter(one.counts)
  return SourceNotes(
    name=one.name,
    skipped=one.skipped,
    examples=one.examples,
    unknown=counts[UNKNOWN],
    cut=counts[CUT],
    cut_tokens=counts[CUT_TOKENS],
    reused=one.reused,
    rows={what: count for what, count in one.counts.items() if what not in (UNKNOWN, CUT, CUT_TOKENS)},
  )


def _rows(
  stores: Sequence[Store],
  spec: DataSpec,
  requirements: DataRequirements,
  shape: BatchShape,
  *,
  drop_remainder: bool = True,
) -> list[Rows]:
  """The rows of each store; with stateful batching, one sequence of rows over all stores.

  Args:
    stores: tokenized documents or examples.
    spec: of the data.
    requirements: of the objective.
    shape: of the batches.
    drop_remainder: whether stateful rows drop the end of the text that doesn't fill a batch.

  Raises:
    LmxError: a packing that doesn't fit the objective, or a row that can't be made.
  """
  packing = spec.packing
  if requirements.per_row and packing != "padded":
    allowed = f"padded: the objective has one value per row ({', '.join(requirements.per_row)})"
    raise LmxError(message("config.data.packing", got=packing, allowed=allowed, fix="--config.data.packing=padded"))
  examples = [store for store in stores if isinstance(store, ExampleStore)]
  texts = [store for store in stores if isinstance(store, TokenStore)]
  length = requirements.window_length or shape.length
  if not _is_stateful(spec) or examples:
    return [
      *(make_example_rows(store, packing=packing, lengths=shape.lengths) for store in examples),
      *(make_rows(store, packing=packing, length=length, lookahead=requirements.lookahead) for store in texts),
    ]
  if spec.weights:
    allowed = "() with config.data.packing='streams', which reads the sources one after another"
    raise LmxError(message("config.data.weights", got=spec.weights, allowed=allowed))
  options = {"batch_size": shape.batch_size, "length": length, "lookahead": requirements.lookahead}
  return [StatefulRows(texts, **options, drop_remainder=drop_remainder)]


def epoch_stats(corpus: Corpus, requirements: DataRequirements, *, batch_size: int) -> EpochStats:
  """Rows and targets of one epoch, and bytes per target with the mixture's weights.

  Args:
    corpus: of `prepare_corpus`.
    requirements: of the objective.
    batch_size: rows over all processes; matters only for stateful batching, which drops what doesn't fill a batch.

  Raises:
    LmxError: as `make_loader`.
  """
  shape = _shape(corpus, batch_size, ALL_ROWS)
  sources = _rows(corpus.train, corpus.spec, requirements, shape)
  rows, targets = sum(map(len, sources)), sum(source.targets for source in sources)
  weights = corpus.spec.weights or [len(source) for source in sources]
  drawn_bytes = sum(w * source.bytes / len(source) for w, source in zip(weights, sources, strict=True))
  drawn_targets = sum(w * source.targets / len(source) for w, source in zip(weights, sources, strict=True))
  return EpochStats(
    rows=rows,
    targets=targets,
    fill=targets / (rows * (requirements.window_length or shape.length)),
    bytes_per_target=drawn_bytes / drawn_targets if drawn_bytes else None,
  )


def validation_text(corpus: Corpus) -> bytes:
  """The documents of the validation set in UTF-8, concatenated, for the baseline of `xz`; b"" for examples."""
  return b"".join(store.text() for store in corpus.validation)


def make_loader(
  corpus: Corpus,
  requirements: DataRequirements,
  *,
  batch_size: int,
  seed: int,
  share: RowShare = ALL_ROWS,
) -> Loader:
  """An infinite, resumable iterator of training batches.

  Args:
    corpus: of `prepare_corpus`.
    requirements: of the objective.
    batch_size: B, rows over all processes.
    seed: of the order of the rows and of the objective's random choices.
    share: the rows of each batch that this process makes; by default all.

  Raises:
    LmxError: batch_size isn't a multiple of the share's parts, a source is too short for one row, or an example is too
      long for one.
  """
  shape = _shape(corpus, batch_size, share)
  rows = _rows(corpus.train, corpus.spec, requirements, shape)
  return Loader(
    rows, requirements, shape, seed=seed, weights=corpus.spec.weights, shuffle=not _is_stateful(corpus.spec)
  )


def make_eval_batches(
  corpus: Corpus,
  requirements: DataRequirements,
  *,
  batch_size: int,
  max_rows: int | None = None,
  share: RowShare = ALL_ROWS,
) -> EvalBatches:
  """Batches of the validation set: every iteration yields all of them once.

  Args:
    corpus: of `prepare_corpus`.
    requirements: of the objective.
    batch_size: B, rows over all processes.
    max_rows: evaluate at most this many rows, spread evenly over all; None: all.
    share: the rows of each batch that this process makes; by default all.

  Raises:
    LmxError: there is no validation set, or as `make_loader`.
  """
  if not corpus.validation:
    raise LmxError(
      "There is no validation set. Fix: --config.data.heldout_fraction=0.05, or --config.data.heldout_sources=PATH"
    )
  shape = _shape(corpus, batch_size, share)
  rows = _rows(corpus.validation, corpus.spec, requirements, shape, drop_remainder=False)
  return EvalBatches(rows, requirements, shape, max_rows=max_rows, in_order=_is_stateful(corpus.spec))


def _shape(corpus: Corpus, batch_size: int, share: RowShare) -> BatchShape:
  return BatchShape(
    length=corpus.spec.length,
    encoder_length=corpus.spec.encoder_length or corpus.spec.length,
    batch_size=batch_size,
    share=share,
    pad_id=corpus.tokenizer.pad_id,
    vocab_size=corpus.tokenizer.vocab_size,
    pad_multiple=corpus.spec.pad_multiple,
    threads=corpus.spec.threads,
    prefetch=corpus.spec.prefetch_batches,
  )
