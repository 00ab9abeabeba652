# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The data room's front door: from `config.data` and `config.tokenizer` to a tokenizer, a corpus and batches.

tokenizer = make_tokenizer(tokenizer_spec, data_spec)
needs = Needs(prepare, lookahead=1)
corpus = prepare_corpus(data_spec, tokenizer, encoder=needs.encoder)
loader = make_loader(corpus, needs, batch_size=32, seed=0)
batch = next(loader)
"""

import collections
import dataclasses
from collections.abc import Sequence

from lmx.data.batches.example_rows import make_example_rows
from lmx.data.batches.pipeline import BatchShape, EvalBatches, Loader
from lmx.data.batches.rows import Rows, make_rows
from lmx.data.batches.streams import StreamRows
from lmx.data.cache.content import CUT, CUT_TOKENS, UNKNOWN
from lmx.data.cache.encoding import DataRequirements, ExampleEncoder
from lmx.data.cache.prepare import HELDOUT, TRAIN, PreparedSource, Progress, Split, prepare_source
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
  "epoch_facts",
  "heldout_text",
  "make_eval_batches",
  "make_loader",
  "make_tokenizer",
  "prepare_corpus",
]

STREAMS = "streams"


@dataclasses.dataclass(frozen=True)
class Corpus:
  """Tokenized text or encoded examples: one store per source for training, and what is held out.

  Attributes:
    spec: what it was made by.
    tokenizer: its ids are those of the stores.
    train, heldout: stores, in the order of the sources; heldout may be ().
    train_facts, heldout_facts: one for each of them.
    train_origins, heldout_origins: one for each of them, too.
    notes: one for each source, held-out ones last.
  """

  spec: DataSpec
  tokenizer: Tokenizer
  train: tuple[Store, ...]
  heldout: tuple[Store, ...]
  train_facts: tuple[SourceStats, ...]
  heldout_facts: tuple[SourceStats, ...]
  train_origins: tuple[Origin, ...]
  heldout_origins: tuple[Origin, ...]
  notes: tuple[SourceNotes, ...]

  def describe(self) -> str:
    """One line for the start of a run: the sources, their sizes, what is held out, and what was left out or cut."""
    return describe(self.train_facts, self.heldout_facts, self.notes)


def prepare_corpus(
  spec: DataSpec, tokenizer: Tokenizer, progress: Progress | None = None, encoder: ExampleEncoder | None = None
) -> Corpus:
  """Tokenizes or encodes every source that is not in the cache yet, and opens all of them.

  Safe to call from several processes at once; on a shared disk, calling it in one of them first saves the others'
  work.

  Args:
    spec: the sources.
    tokenizer: of the text.
    progress: called after each few megabytes.
    encoder: makes examples of rows of columns; None: documents.

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
      encoder=encoder,
    )
    _check_parts(one, split)
    prepared.append(one)
  train = prepared[: len(spec.sources)]
  if spec.heldout_sources:
    heldout = [(one, one.train, TRAIN) for one in prepared[len(spec.sources) :]]
  else:
    heldout = [(one, one.heldout, HELDOUT) for one in train if one.heldout is not None]
  return Corpus(
    spec=spec,
    tokenizer=tokenizer,
    train=tuple(one.train for one in train),
    heldout=tuple(store for _, store, _ in heldout),
    train_facts=tuple(_facts(one.name, one.train) for one in train),
    heldout_facts=tuple(_facts(one.name, store) for one, store, _ in heldout),
    train_origins=tuple(Origin(one.files, one.digests[TRAIN]) for one in train),
    heldout_origins=tuple(Origin(one.files, one.digests[part]) for one, _, part in heldout),
    notes=tuple(_notes(one) for one in prepared),
  )


def _check_parts(one: PreparedSource, split: Split) -> None:
  """A source that yields nothing is an error, never a silently lighter mixture."""
  documents = one.train.documents + (one.heldout.documents if one.heldout else 0)
  if not documents:
    why = "; ".join(one.examples.values()) or "there is no text in it"
    unit = "examples" if isinstance(one.train, ExampleStore) else "documents"
    raise LmxError(f"config.data.sources: {one.name!r} has no {unit}: {why}.")
  if one.heldout is not None and not (one.train.documents and one.heldout.documents):
    side = "training" if not one.train.documents else "held-out"
    other = "tail" if split.kind == "document" else "document"
    raise LmxError(
      f"config.data.heldout_fraction={split.fraction} leaves no {side} text of {one.name!r}, which has {documents} "
      f"document{'s' if documents > 1 else ''}. Fix: --config.data.heldout_split={other}, another fraction, or "
      "--config.data.heldout_sources."
    )


def _facts(name: str, store: Store) -> SourceStats:
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
  needs: DataRequirements,
  shape: BatchShape,
  packing: str,
  *,
  whole: bool = False,
) -> list[Rows]:
  """The rows of each store, or of all of them together where they are streams.

  Args:
    stores: tokenized documents or examples.
    spec: of the data.
    needs: what the objective asks for.
    shape: of the batches.
    packing: how rows are filled.
    whole: streams drop nothing.

  Raises:
    LmxError: a packing that does not go with the objective, or a row that cannot be made.
  """
  if needs.per_row and packing != "padded":
    allowed = f"padded: the objective has values for a whole row ({', '.join(needs.per_row)})"
    raise LmxError(message("config.data.packing", got=packing, allowed=allowed, fix="--config.data.packing=padded"))
  examples = [store for store in stores if isinstance(store, ExampleStore)]
  texts = [store for store in stores if isinstance(store, TokenStore)]
  length = needs.window_length or shape.length
  if packing != STREAMS or examples:
    return [
      *(make_example_rows(store, packing=packing, lengths=shape.lengths) for store in examples),
      *(make_rows(store, packing=packing, length=length, lookahead=needs.lookahead) for store in texts),
    ]
  if spec.weights:
    allowed = "() with config.data.packing='streams', which reads the sources one after another"
    raise LmxError(message("config.data.weights", got=spec.weights, allowed=allowed))
  return [StreamRows(texts, batch_size=shape.batch_size, length=length, lookahead=needs.lookahead, whole=whole)]


def epoch_facts(
  corpus: Corpus, needs: DataRequirements, *, batch_size: int = 1, length: int | None = None, packing: str | None = None
) -> EpochStats:
  """Rows and targets of one pass, and bytes per target as the mixture draws.

  Args:
    corpus: see `prepare_corpus`.
    needs: what the objective asks for.
    batch_size: rows over all processes; it matters for streams only, which drop what does not fill a batch.
    length, packing: those of the corpus's spec unless given.
  """
  shape = _shape(corpus, batch_size, ALL_ROWS, length)
  sources = _rows(corpus.train, corpus.spec, needs, shape, packing or corpus.spec.packing)
  rows, targets = sum(map(len, sources)), sum(source.targets for source in sources)
  weights = corpus.spec.weights or [len(source) for source in sources]
  drawn_bytes = sum(w * source.bytes / len(source) for w, source in zip(weights, sources, strict=True))
  drawn_targets = sum(w * source.targets / len(source) for w, source in zip(weights, sources, strict=True))
  return EpochStats(
    rows=rows,
    targets=targets,
    fill=targets / (rows * (needs.window_length or shape.length)),
    bytes_per_target=drawn_bytes / drawn_targets if drawn_bytes else None,
  )


def heldout_text(corpus: Corpus) -> bytes:
  """The held-out documents in UTF-8, one after another: what `xz` is compared on. Examples have none."""
  return b"".join(store.text() for store in corpus.heldout)


def make_loader(
  corpus: Corpus,
  needs: DataRequirements,
  *,
  batch_size: int,
  seed: int,
  share: RowShare = ALL_ROWS,
  length: int | None = None,
  packing: str | None = None,
) -> Loader:
  """Training batches; `length` and `packing` are those of the corpus's spec unless given.

  Args:
    corpus: see `prepare_corpus`.
    needs: what the objective asks for.
    batch_size: rows over all processes.
    seed: order of rows, and the objective's random choices.
    share: which rows of every batch this process gets; the default: all.
    length: L, places of a row.
    packing: how rows are filled.

  Raises:
    LmxError: batch_size does not divide into the share's parts, a source is too short for one row, or an example is too
      long for one.
  """
  shape, packing = _shape(corpus, batch_size, share, length), packing or corpus.spec.packing
  rows = _rows(corpus.train, corpus.spec, needs, shape, packing)
  return Loader(rows, needs, shape, seed=seed, weights=corpus.spec.weights, shuffle=packing != STREAMS)


def make_eval_batches(
  corpus: Corpus,
  needs: DataRequirements,
  *,
  batch_size: int,
  max_rows: int | None = None,
  share: RowShare = ALL_ROWS,
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
  shape, packing = _shape(corpus, batch_size, share, length), packing or corpus.spec.packing
  rows = _rows(corpus.heldout, corpus.spec, needs, shape, packing, whole=True)
  return EvalBatches(rows, needs, shape, max_rows=max_rows, in_order=packing == STREAMS)


def _shape(corpus: Corpus, batch_size: int, share: RowShare, length: int | None) -> BatchShape:
  length = length or corpus.spec.length
  return BatchShape(
    length=length,
    encoder_length=corpus.spec.encoder_length or length,
    batch_size=batch_size,
    share=share,
    pad_id=corpus.tokenizer.pad_id,
    vocab_size=corpus.tokenizer.vocab_size,
    pad_multiple=corpus.spec.pad_multiple,
    threads=corpus.spec.threads,
    prefetch=corpus.spec.prefetch_batches,
  )
