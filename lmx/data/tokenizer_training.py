# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The tokenizer of a config: loaded from a file, found in the cache, or trained on the sources."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lmx.data.cache.content import reader
from lmx.data.cache.folders import cache_name, cached
from lmx.data.cache.prepare import TRAIN, Split, split_items
from lmx.data.digests import write_errors
from lmx.data.document import TEXT, BadDocuments, RequiredColumns, Source
from lmx.data.spec import DataSpec, open_sources
from lmx.data.tokenizers.tokenizer import Tokenizer, TokenizerSpec, load_tokenizer, open_tokenizer, train_sentencepiece
from lmx.data.tokenizers.vocabulary import digest
from lmx.errors import LmxError, message

_SAMPLE_CHUNK = 4096  # Characters per chunk of the training sample.
_TRAINING_FORMAT = 2  # Raised when training the same spec on the same text would result in another tokenizer.


def make_tokenizer(spec: TokenizerSpec, data: DataSpec, wanted: RequiredColumns = TEXT) -> Tokenizer:
  """The tokenizer of a config: loaded from its path, or trained on the training part of the sources.

  Trained tokenizers are cached in data.cache_dir by sources and options. The tokenizer has at least `spec.extra_ids`
  added ids: one that was saved with more keeps them.

  Args:
    spec: `config.tokenizer`.
    data: the sources.
    wanted: the columns to train on.

  Raises:
    LmxError: a file that doesn't exist, no text, or a vocab_size that doesn't fit the text.
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
  """Checks that a config names the tokenizer of a run, perhaps under another path.

  Args:
    own: the run's tokenizer.
    saved: `config.tokenizer` when the run was started.
    asked: `config.tokenizer` now.
    data: the sources.
    run: the run's folder, for the message.

  Raises:
    LmxError: the config names another tokenizer.
  """
  changed = [name for name, value in dataclasses.asdict(saved).items() if getattr(asked, name) != value]
  if not changed or (not asked.needs_training and make_tokenizer(asked, data).fingerprint == own.fingerprint):
    return
  was = f"{getattr(saved, changed[0])!r}, with which {run} was started, since a model works only with its own tokenizer"
  fix = "--workdir=runs/<new name> for a run with another tokenizer"
  raise LmxError(message(f"config.tokenizer.{changed[0]}", got=getattr(asked, changed[0]), allowed=was, fix=fix))


def train_tokenizer(
  spec: TokenizerSpec, data: DataSpec, sources: list[Source], wanted: RequiredColumns = TEXT
) -> Tokenizer:
  """Trains a SentencePiece model on the training part of the sources, without the cache.

  bpe and unigram are trained on a sample of about `spec.train_bytes` of text, spread evenly over the sources. char sees
  every character of the sources, validation set included, so that no character is unknown, as in nanoGPT.

  Args:
    spec: `config.tokenizer`.
    data: the split and the policy for bad documents.
    sources: opened.
    wanted: the columns to train on.

  Raises:
    LmxError: no text, or a vocab_size that doesn't fit the text.
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
  """The strings in a JSON value, at any depth."""
  if isinstance(value, str):
    yield value
  elif isinstance(value, dict | list):
    for part in value.values() if isinstance(value, dict) else value:
      yield from _strings(part)


def _spread(texts: Callable[[], Iterator[str]], wanted: int) -> Iterator[str]:
  """About `wanted` characters of texts(), in chunks spread evenly over all of it; everything if it isn't longer."""
  total = sum(len(text) for text in texts())
  share = min(1.0, wanted / max(total, 1))
  seen = 0
  for text in texts():
    for start in range(0, len(text), _SAMPLE_CHUNK):
      seen += 1
      if int(seen * share) > int((seen - 1) * share):  # Every 1 / share-th chunk.
        yield text[start : start + _SAMPLE_CHUNK]
