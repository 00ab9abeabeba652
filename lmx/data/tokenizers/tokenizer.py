# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table of tokenizers, and loading one from its files or from a run directory."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from lmx.config.run_config import RESTORE, read_written
from lmx.config.table import default
from lmx.data.tokenizers.huggingface_tokenizer import HuggingFaceTokenizer, load_huggingface
from lmx.data.tokenizers.marian_tokenizer import load_marian
from lmx.data.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer, load_sentencepiece, train_sentencepiece
from lmx.data.tokenizers.vocabulary import DESCRIPTION_FILE, TEMPLATE_FILE, ByteTokenizer, Tokenizer
from lmx.errors import LmxError, choose, message
from lmx.paths import any_path, local_copy

__all__ = [
  "KINDS",
  "ByteTokenizer",
  "HuggingFaceTokenizer",
  "SentencePieceTokenizer",
  "Tokenizer",
  "TokenizerSpec",
  "load_tokenizer",
  "open_tokenizer",
  "train_sentencepiece",
]


def _load_bytes(path: Path, subject: str) -> ByteTokenizer:
  return ByteTokenizer()


# kind -> loads from (path of a file or directory, config key for messages).
KINDS: dict[str, Callable[[Path, str], Tokenizer]] = {
  "bytes": _load_bytes,
  "sentencepiece": load_sentencepiece,
  "huggingface": load_huggingface,
  "marian": load_marian,
}


@dataclasses.dataclass(frozen=True)
class TokenizerSpec:
  """`config.tokenizer`, checked."""

  kind: str = default("tokenizer.kind")
  path: str | None = default("tokenizer.path")
  vocab_size: int = default("tokenizer.vocab_size")
  model_type: str = default("tokenizer.model_type")
  extra_ids: int = default("tokenizer.extra_ids")
  train_bytes: int = default("tokenizer.train_bytes")

  @property
  def needs_training(self) -> bool:
    return self.kind == "sentencepiece" and self.path is None


def open_tokenizer(kind: str, path: str | None, subject: str = "config.tokenizer.path") -> Tokenizer:
  """Loads a tokenizer from its files.

  Args:
    kind: a row of KINDS.
    path: a .model, tokenizer.json, vocab.txt (BERT), encoder.json or vocab.json (GPT-2), source.spm (Marian), or a
      directory with one of them; None is allowed only for "bytes". A directory that `Tokenizer.save` wrote also has
      the number of added ids.
    subject: the config key or flag, for messages.

  Raises:
    LmxError: an unknown kind, no path, or a file that doesn't exist or is of another kind.
  """
  load = choose("config.tokenizer.kind", kind, KINDS)
  if path is None and kind != "bytes":
    raise LmxError(message(subject, got=None, allowed=f"the path of a {kind} tokenizer"))
  file = local_copy(any_path(path or ".", subject))
  saved = file / DESCRIPTION_FILE
  return load(file, subject).extended(_read(saved)["extra_ids"] if path and saved.is_file() else 0)


_DESCRIBED = ("kind", "name", "vocab_size", "extra_ids", "bos_id", "eos_id", "fingerprint")


def _read(file: Path) -> dict:
  """A description written by `Tokenizer.save`; those of lmx 0.1 lack the added ids."""
  description = {"extra_ids": 0, **read_written(file, *(key for key in _DESCRIBED if key != "extra_ids"))}
  if not isinstance(description["extra_ids"], int):
    raise LmxError(f"{file} is damaged: extra_ids is {description['extra_ids']!r}.{RESTORE}")
  return description


def load_tokenizer(directory: str | os.PathLike) -> Tokenizer:
  """Loads the tokenizer that `Tokenizer.save` wrote into a directory.

  Raises:
    LmxError: there is no tokenizer, or its files were changed.
  """
  path = local_copy(any_path(directory, "tokenizer directory"))
  file = path / DESCRIPTION_FILE
  if not file.is_file():
    raise LmxError(message("tokenizer directory", got=str(path), allowed=f"a directory with {DESCRIPTION_FILE}"))
  description = _read(file)
  tokenizer = open_tokenizer(description["kind"], str(path), subject=str(path))
  if tokenizer.fingerprint != description["fingerprint"]:
    raise LmxError(
      f"The tokenizer in {path} is not the one that was saved there (its files were changed). "
      "A model works only with the tokenizer that it was trained with. Fix: restore the files."
    )
  for key, value in tokenizer.describe().items():
    if key != "name" and description[key] != value:  # Names are for people, and may change with lmx.
      raise LmxError(f"{file} is damaged: {key} is {description[key]!r}, and of the tokenizer {value!r}.{RESTORE}")
  template = path / TEMPLATE_FILE
  if template.is_file():
    tokenizer.chat_template = template.read_text(encoding="utf-8")
  return tokenizer
