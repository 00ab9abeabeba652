# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Tokenizer of Marian's translation models, as published: source.spm, target.spm and vocab.json.

Two SentencePiece models split source texts and translations into subwords; one vocabulary has the ids of both.
https://huggingface.co/docs/transformers/model_doc/marian
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from lmx.data.tokenizers.special_tokens import CONFIG_FILE, read_config, read_config_file
from lmx.data.tokenizers.vocabulary import Tokenizer, digest, read_file
from lmx.errors import LmxError, message
from lmx.json_text import parse_bounded

SOURCE_FILE, TARGET_FILE, PIECES_FILE = "source.spm", "target.spm", "vocab.json"
_SPACE = "\u2581"
_SPECIAL = ("</s>", "<unk>", "<pad>")


class MarianTokenizer(Tokenizer):
  """Two SentencePiece models with one vocabulary. A language code (">>fra<<") before a text is one token."""

  kind = "marian"
  lossless = False

  def __init__(
    self, source: bytes, target: bytes, pieces: bytes, config: bytes | None = None, where: str = "tokenizer"
  ):
    """Reads a tokenizer.

    Args:
      source, target: the contents of source.spm and target.spm.
      pieces: the contents of vocab.json, {piece: id}.
      config: the contents of tokenizer_config.json.
      where: the folder, for messages.

    Raises:
      LmxError: a file in another format, or an option that lmx doesn't support.
    """
    self._files = {SOURCE_FILE: source, TARGET_FILE: target, PIECES_FILE: pieces}
    self._config = config
    if {"separate_vocabs": False, **read_config(config, where)}["separate_vocabs"]:
      raise LmxError(message(f"{where}/{CONFIG_FILE}: separate_vocabs", got=True, allowed=[False]))
    self._source, self._target = (
      _processor(self._files[name], f"{where}/{name}") for name in (SOURCE_FILE, TARGET_FILE)
    )
    self._ids = _read_pieces(pieces, f"{where}/{PIECES_FILE}")
    self._pieces = {token: piece for piece, token in self._ids.items()}
    self.vocab_size = 1 + max(self._pieces)
    self.eos_id, self.unk_id, self.pad_id = (self._ids[piece] for piece in _SPECIAL)
    self.bos_id = self.cls_id = self.sep_id = self.eos_id
    self.name = f"marian {self.vocab_size}"
    self.fingerprint = digest("marian", source, target, pieces)

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [self._encode(self._source, text) for text in texts]

  def encode_targets(self, texts: Sequence[str]) -> list[np.ndarray]:
    """As `Tokenizer.encode_targets`, with the SentencePiece model of translations."""
    return [self._encode(self._target, text) for text in texts]

  def _encode(self, processor: sentencepiece.SentencePieceProcessor, text: str) -> np.ndarray:
    code, rest = _language_code(text)
    return self._numbers([*([code] if code else []), *processor.encode(rest, out_type=str)])

  def _numbers(self, pieces: Iterable[str]) -> np.ndarray:
    unknown = self._ids[_SPECIAL[1]]
    return np.array([self._ids.get(piece, unknown) for piece in pieces], np.int32)

  def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    code, rest = _language_code(text)
    found = self._source.encode(rest, return_type="proto").pieces
    data = rest.encode()
    places = [[len(code) + len(data[:byte].decode(errors="ignore")) for byte in (one.begin, one.end)] for one in found]
    pieces = [*([code] if code else []), *(one.piece for one in found)]
    offsets = [*([[0, len(code)]] if code else []), *places]
    return self._numbers(pieces), np.array(offsets, np.int32).reshape(-1, 2)

  def decode(self, ids: Iterable[int]) -> str:
    hidden = (self.eos_id, self.unk_id, self.pad_id)
    pieces = [self._pieces[int(i)] for i in ids if int(i) in self._pieces and i not in hidden]
    return self._source.decode_pieces(pieces).replace(_SPACE, " ").strip()

  def _own_piece(self, token: int) -> str:
    return self._pieces[token].replace(_SPACE, " ") if token in self._pieces else f"<{token}>"

  def _own_word_starts(self) -> np.ndarray:
    pieces = [self._own_piece(token) for token in range(self.own_size)]
    return np.array([piece.startswith((" ", ">>")) or piece in _SPECIAL for piece in pieces])

  def own_json(self) -> dict[str, Any]:
    raise LmxError(
      f"{self.name}: a tokenizer.json can't hold two SentencePiece models. Fix: export the model as marian"
    )

  def save_files(self, directory: Path) -> None:
    for name, data in self._files.items():
      (directory / name).write_bytes(data)
    usual = {"tokenizer_class": "MarianTokenizer", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (directory / CONFIG_FILE).write_bytes(self._config or json.dumps(usual, indent=2).encode())


def _language_code(text: str) -> tuple[str, str]:
  """(language code at the start of a text, or ""; the rest)."""
  stop = text.find("<<") + 2 if text.startswith(">>") else 0
  return (text[:stop], text[stop:]) if stop > 1 else ("", text)


def _processor(data: bytes, where: str) -> sentencepiece.SentencePieceProcessor:
  """A SentencePiece model."""
  processor = sentencepiece.SentencePieceProcessor()
  try:
    processor.load_from_serialized_proto(data)
  except (RuntimeError, ValueError, OSError) as error:
    raise LmxError(f"{where} is not a SentencePiece model: {error}") from error
  return processor


def _read_pieces(data: bytes, where: str) -> dict[str, int]:
  """{piece: id}, special pieces included."""
  ids = parse_bounded(data, where)
  good = isinstance(ids, dict) and all(isinstance(one, int) and 0 <= one < 2**31 for one in ids.values())
  missing = [piece for piece in _SPECIAL if good and piece not in ids]
  if not good or missing:
    got = f"no {missing[0]}" if missing else "something else"
    raise LmxError(message(where, got=got, allowed=f"an id for each piece, {', '.join(_SPECIAL)} among them"))
  return ids


def load_marian(path: Path, subject: str) -> MarianTokenizer:
  """Loads the tokenizer in a folder, or in the folder of a file.

  Raises:
    LmxError: a file doesn't exist, or is in another format.
  """
  folder = path if path.is_dir() else path.parent
  source, target, pieces = (read_file(folder / name, subject) for name in (SOURCE_FILE, TARGET_FILE, PIECES_FILE))
  return MarianTokenizer(source, target, pieces, read_config_file(folder), str(folder))
