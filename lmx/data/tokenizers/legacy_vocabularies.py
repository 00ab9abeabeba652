# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Converts the vocabulary files that BERT and GPT-2 were published with to a tokenizer.json.

BERT: vocab.txt, one token per line (https://github.com/google-research/bert). GPT-2: encoder.json and vocab.bpe
(https://github.com/openai/gpt-2), which Hugging Face calls vocab.json and merges.txt.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from lmx.data.tokenizers.vocabulary import read_file
from lmx.errors import LmxError

_WORDS = "vocab.txt"
_PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
# Special tokens, if a vocabulary lists them.
_SPECIAL = (
  "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", "<pad>", "<unk>", "<mask>", "<|endoftext|>",
)  # fmt: skip
_LONGEST_WORD = 100  # Characters; BERT's tokenizer encodes a longer word as unknown.


@dataclasses.dataclass(frozen=True)
class LegacyVocabulary:
  """A vocabulary's file, and the function that converts it, given the values of tokenizer_config.json."""

  file: Path
  build: Callable[[Mapping[str, Any]], bytes]


def find_vocabulary(path: Path, newer: str) -> LegacyVocabulary | None:
  """The legacy vocabulary at a path: of a file by its name, or of a directory without the file `newer`; else None."""
  if not path.is_dir():
    return _of_file(path)
  if (path / newer).is_file():
    return None
  for name in (*(first for first, _ in _PAIRS), _WORDS):
    if (path / name).is_file():
      return _of_file(path / name)
  return None


def _of_file(file: Path) -> LegacyVocabulary | None:
  """A file's legacy vocabulary. The usual name may have a prefix: gpt2_encoder.json belongs to gpt2_vocab.bpe."""
  if file.name.endswith(_WORDS):
    return LegacyVocabulary(file, lambda config: word_pieces(read_file(file, "config.tokenizer.path"), config))
  for pair in _PAIRS:
    for name in pair:
      if file.name.endswith(name):
        first, second = (file.with_name(file.name.removesuffix(name) + other) for other in pair)
        return LegacyVocabulary(first, lambda config, a=first, b=second: byte_pairs(a, b))  # type: ignore[misc]
  return None


def _finish(tokenizer: Tokenizer, vocabulary: Iterable[str]) -> bytes:
  there = set(vocabulary)
  tokenizer.add_special_tokens([piece for piece in _SPECIAL if piece in there])
  return tokenizer.to_str().encode()


def word_pieces(data: bytes, config: Mapping[str, Any]) -> bytes:
  """BERT's WordPiece as a tokenizer.json: lower-cased without accents unless tokenizer_config.json says otherwise.

  Raises:
    LmxError: the vocabulary has no [UNK].
  """
  vocabulary = {piece: i for i, piece in enumerate(data.decode().rstrip("\r\n").replace("\r\n", "\n").split("\n"))}
  if "[UNK]" not in vocabulary:
    raise LmxError(f"{_WORDS} has no [UNK], so it isn't a WordPiece vocabulary, which has one token per line.")
  values = {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None, **config}
  tokenizer = Tokenizer(
    models.WordPiece(
      vocabulary, unk_token="[UNK]", continuing_subword_prefix="##", max_input_chars_per_word=_LONGEST_WORD
    )
  )
  tokenizer.normalizer = normalizers.BertNormalizer(
    clean_text=True,
    handle_chinese_chars=values["tokenize_chinese_chars"],
    strip_accents=values["strip_accents"],
    lowercase=values["do_lower_case"],
  )
  tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
  return _finish(tokenizer, vocabulary)


def byte_pairs(pieces: Path, merges: Path) -> bytes:
  """GPT-2's byte-level BPE as a tokenizer.json.

  Raises:
    LmxError: one of the two files is missing or damaged.
  """
  data = {file: read_file(file, f"config.tokenizer.path (needs {pieces.name} and {merges.name})") for file in
          (pieces, merges)}  # fmt: skip
  try:
    vocabulary = json.loads(data[pieces])
    lines = [line.split(" ") for line in data[merges].decode().splitlines() if line and not line.startswith("#version")]
    pairs = [(first, second) for first, second in lines]
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs))
  except Exception as error:  # The library raises a bare Exception for everything that it can't use.
    raise LmxError(f"{pieces} and {merges} are not a vocabulary and its merges: {error}") from error
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  return _finish(tokenizer, vocabulary)
