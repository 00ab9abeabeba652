# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The tokenizer that a config asks for: read from a file, found in the cache, or trained on the sources."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lmx.data.cache.content import reader
from lmx.data.cache.prepare import TRAIN, Split, split_items
from lmx.data.digests import write_errors
from lmx.data.document import TEXT, BadDocuments, RequiredColumns, Source
from lmx.data.sources.folders import cache_name, cached
from lmx.data.spec import DataSpec, open_sources
from lmx.data.tokenizers.tokenizer import Tokenizer, TokenizerSpec, load_tokenizer, open_tokenizer, train_sentencepiece
from lmx.data.tokenizers.vocabulary import digest
from lmx.errors import LmxError, message

_SAMPLE_CHUNK = 4096  # Characters; the training sample is made of such chunks.
_TRAINING_FORMAT = 2  # Raised when training the same spec on the same text would give another tokenizer.


def make_tokenizer(spec: TokenizerSpec, data: DataSpec, wanted: RequiredColumns = TEXT) -> Tokenizer:
  """The tokenizer that a config asks for: read from its path, or trained on the training part of the sources.

  A trained one is kept in data.cache_dir; the same sources and options give the same one again. It has at least
  `spec.extra_ids` added ids: one that was saved with more keeps them.

  Args:
    spec: `config.tokenizer`.
    data: the sources.
    wanted: the columns whose text a trained one is trained on.

  Raises:
    LmxError: a file that is not there, no text, or a vocab_size that does not fit the text.
  """
  if not spec.needs_training:
    tokenizer = open_tokenizer(spec.kind, spec.path)
    return tokenizer.extended(max(spec.extra_ids, tokenizer.extra_ids))
  sources = open_sources(data)
  key = {
    "format": _TRAINING_FORMAT,
    "spec": dataclasses.asdict(dataclasses.replace(spec, extra_ids=0)),
    "sources": [source.fingerprint(wanted) for source in sources],
    "split": dataclasses.asdict(data.split),
    "options": [data.max_document_bytes, data.bad_documents],
  }
  name = cache_name("tokenizer", spec.model_type, str(spec.vocab_size), digest(json.dumps(key, sort_keys=True)))
  folder = Path(data.cache_dir).expanduser() / name

  def make(partial: Path) -> dict[str, str]:
    tokenizer = train_tokenizer(spec, data, sources, wanted)
    with write_errors(partial):
      tokenizer.save(partial)
    return {}

  cached(folder, (file for source in sources for file in source.files), make)
  return load_tokenizer(folder).extended(spec.extra_ids)


def check_same_tokenizer(own: Tokenizer, saved: TokenizerSpec, asked: TokenizerSpec, data: DataSpec, run: str) -> None:
  """Whether a config asks for the tokenizer that a run has, perhaps from another place.

  Args:
    own: the run's.
    saved: `config.tokenizer` of the run when it was started.
    asked: that of now.
    data: the sources.
    run: the run's folder, for the message.

  Raises:
    LmxError: it asks for another one.
  """
  changed = [name for name, value in dataclasses.asdict(saved).items() if getattr(asked, name) != value]
  if not changed or (not asked.needs_training and make_tokenizer(asked, data).fingerprint == own.fingerprint):
    return
  was = f"{getattr(saved, changed[0])!r}, as {run} was started with: a model reads only through its own tokenizer"
  fix = "--workdir=runs/<new name> for a run with another tokenizer"
  raise LmxError(message(f"config.tokenizer.{changed[0]}", got=getattr(asked, changed[0]), allowed=was, fix=fix))


def train_tokenizer(
  spec: TokenizerSpec, data: DataSpec, sources: list[Source], wanted: RequiredColumns = TEXT
) -> Tokenizer:
  """Trains a SentencePiece on the training part of the sources, without looking in the cache.

  bpe and unigram see about `spec.train_bytes` of text, spread evenly. char sees every character of the sources, the
  held-out ones included, so that the vocabulary is that of the text, as in nanoGPT.
  """
  characters = spec.model_type == "char"
  split = Split() if characters else data.split

  def texts() -> Iterator[str]:
    bad = BadDocuments(data.bad_documents)
    for source in sources:
      for part, item in split_items(reader(source, wanted), wanted == TEXT, split, bad):
        if part == TRAIN:
          yield from _strings(item.record.values)

  sample = texts() if characters else _spread(texts, spec.train_bytes)
  return train_sentencepiece(sample, vocab_size=spec.vocab_size, model_type=spec.model_type)


def _strings(value: Any) -> Iterator[str]:
  """The texts in a value, however deep."""
  if isinstance(value, str):
    yield value
  elif isinstance(value, dict | list):
    for part in value.values() if isinstance(value, dict) else value:
      yield from _strings(part)


def _spread(texts: Callable[[], Iterator[str]], wanted: int) -> Iterator[str]:
  """About `wanted` characters of texts(), in chunks that lie evenly over all of it; everything if it is no more."""
  total = sum(len(text) for text in texts())
  share = min(1.0, wanted / max(total, 1))
  seen = 0
  for text in texts():
    for start in range(0, len(text), _SAMPLE_CHUNK):
      seen += 1
      if int(seen * share) > int((seen - 1) * share):
        yield text[start : start + _SAMPLE_CHUNK]
