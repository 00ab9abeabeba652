# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What every tokenizer offers, and the simplest one: the bytes of the text."""

import abc
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lmx.errors import LmxError, message

DESCRIPTION_FILE = "lmx_tokenizer.json"
# Strings that break tokenizers that are nearly, but not quite, reversible.
PROBES = (
  "Plain words, and  two  spaces.",
  " leading\n\n\tand trailing \r\n",
  "caf\u00e9 e\u0301 \ufb01 \u2460 \u65e5\u672c\u8a9e \U0001f389 \ufeff\u2028",
  "<s> </s> <unk> <|endoftext|> \u2581 \x00\x7f",
)


class Tokenizer(abc.ABC):
  """Text to integer ids and back.

  Special ids (`bos_id`, `eos_id`) are never produced from text, and `decode` leaves them out.

  Attributes:
    kind: the row of `lmx.data.tokenizer.KINDS` that reads this tokenizer back.
    name: for people, as "sentencepiece bpe 4096".
    vocab_size: ids are 0 .. vocab_size - 1.
    bos_id, eos_id: start and end of a document; the same id where the tokenizer has only one.
    pad_id: fills the unused end of a row; never trained on.
    unk_id: what unknown text becomes, or None where every text has its own ids.
    lossless: whether decode(encode(text)) == text for every text.
    fingerprint: changes when any text could be tokenized otherwise.
  """

  kind: str
  name: str
  vocab_size: int
  bos_id: int
  eos_id: int
  pad_id: int
  unk_id: int | None = None
  lossless: bool
  fingerprint: str

  @abc.abstractmethod
  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    """The ids of each text, int32, without bos and eos. Uses all cores where the tokenizer's library can."""

  @abc.abstractmethod
  def decode(self, ids: Iterable[int]) -> str:
    """The text of the ids. Bytes that are not UTF-8 (a cut character) become U+FFFD."""

  @abc.abstractmethod
  def piece(self, token: int) -> str:
    """How to show one id to a person."""

  @abc.abstractmethod
  def save_files(self, directory: Path) -> None:
    """Writes the tokenizer's own files into an existing directory."""

  def encode(self, text: str) -> np.ndarray:
    """The ids of one text, int32, without bos and eos."""
    return self.encode_batch([text])[0]

  def save(self, directory: str | os.PathLike) -> None:
    """Writes all that `load_tokenizer` needs into a directory, which is made if it is not there."""
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    self.save_files(path)
    description = {
      "kind": self.kind,
      "name": self.name,
      "vocab_size": self.vocab_size,
      "bos_id": self.bos_id,
      "eos_id": self.eos_id,
      "fingerprint": self.fingerprint,
    }
    (path / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n")


def digest(*parts: bytes | str) -> str:
  """A short hash of byte strings and texts, their borders included."""
  state = hashlib.blake2b(digest_size=16)
  for part in parts:
    data = part.encode() if isinstance(part, str) else part
    state.update(len(data).to_bytes(8, "little"))
    state.update(data)
  return state.hexdigest()


def cpu_count() -> int:
  """Cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def round_trips(tokenizer: Tokenizer) -> bool:
  """Whether the tokenizer gives back every one of `PROBES`."""
  return all(tokenizer.decode(tokenizer.encode(text)) == text for text in PROBES)


def read_file(path: Path, subject: str) -> bytes:
  """The bytes of a tokenizer file, or an `LmxError` that says which key names a file that is not there."""
  if not path.is_file():
    raise LmxError(message(subject, got=str(path), allowed="a file that exists"))
  return path.read_bytes()


class ByteTokenizer(Tokenizer):
  """Ids 0 to 255 are the bytes of the text in UTF-8; 256 starts a document and 257 ends it."""

  kind = "bytes"
  name = "bytes"
  vocab_size = 258
  bos_id = 256
  eos_id = 257
  pad_id = 257
  lossless = True
  fingerprint = "bytes-1"

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]

  def decode(self, ids: Iterable[int]) -> str:
    return bytes(int(i) for i in ids if i < 256).decode(errors="replace")

  def piece(self, token: int) -> str:
    if token >= 256:
      return {256: "<s>", 257: "</s>"}.get(token, f"<{token}>")
    return chr(token) if 32 <= token < 127 or token in (9, 10) else f"<0x{token:02X}>"

  def save_files(self, directory: Path) -> None:
    pass
