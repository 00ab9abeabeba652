# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What every tokenizer offers, and the simplest one: the bytes of the text."""

import abc
import copy
import functools
import hashlib
import json
import os
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers

from lmx.data.tokenizers.framing import Framing
from lmx.data.tokenizers.tokenizer_json import byte_level, with_added
from lmx.data.tokenizers.written_tokens import written, written_pattern
from lmx.errors import LmxError, message
from lmx.json_text import read_bounded

DESCRIPTION_FILE = "lmx_tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"
_CACHED = ("starts_word", "_written_tokens")  # Properties that depend on the added ids.
# Strings that break tokenizers that are nearly, but not quite, reversible.
PROBES = (
  "Plain words, and  two  spaces.",
  " leading\n\n\tand trailing \r\n",
  "caf\u00e9 e\u0301 \ufb01 \u2460 \u65e5\u672c\u8a9e \U0001f389 \ufeff\u2028",
  "<s> </s> <unk> <|endoftext|> \u2581 \x00\x7f",
)


class Tokenizer(abc.ABC):
  """Text to integer ids and back.

  Special ids (`bos_id`, `eos_id`, sentinels, ...) are never produced from text, and `decode` leaves out those of bos,
  eos and the added ones.

  Attributes:
    kind: the row of `lmx.data.tokenizers.tokenizer.KINDS` that reads this tokenizer back.
    name: for people, as "sentencepiece bpe 4096".
    vocab_size: V, added ids included; ids are 0 .. vocab_size - 1.
    extra_ids: ids added at the end of the vocabulary; see `extended`.
    bos_id, eos_id: start and end of a document; the same id where the tokenizer has only one.
    cls_id, sep_id: what BERT puts before a text and after each of a pair: its own tokens, else bos and eos.
    pad_id: fills the unused end of a row; never trained on.
    unknown_id: the token for unknown text, whether or not a text has any; None: there is none.
    unk_id: what unknown text becomes, or None where every text has its own ids.
    chat_template: the Jinja template that came with the tokenizer, or None.
    own_settings: the contents of the tokenizer_config.json that it came with, or {}.
    prefixes_space: whether a text is read as if a space stood before it.
    own_framing: the special tokens that its own files put around texts, or None where they say nothing about it.
    lossless: whether decode(encode(text)) == text for every text.
    fingerprint: changes when any text could be tokenized otherwise.
  """

  kind: str
  name: str
  vocab_size: int
  extra_ids: int = 0
  bos_id: int
  eos_id: int
  cls_id: int
  sep_id: int
  pad_id: int
  unknown_id: int | None = None
  unk_id: int | None = None
  chat_template: str | None = None
  own_settings: Mapping[str, Any] = types.MappingProxyType({})
  own_framing: Framing | None = None
  prefixes_space: bool = False
  lossless: bool
  fingerprint: str
  _own_mask_id: int | None = None
  _own_sentinels: tuple[int, ...] = ()

  @abc.abstractmethod
  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    """The ids of each text, int32, without bos and eos. Uses all cores where the tokenizer's library can."""

  @abc.abstractmethod
  def decode(self, ids: Iterable[int]) -> str:
    """The text of the ids. Bytes that are not UTF-8 (a cut character) become U+FFFD."""

  @abc.abstractmethod
  def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    """The ids of one text (n,), as `encode` gives them, and the characters each stands for: (n, 2), start and end.

    Ids that spell one character together share its offsets; one that stands for nothing in the text has start = end.
    """

  @abc.abstractmethod
  def _own_piece(self, token: int) -> str:
    """How to show one id that was not added."""

  @abc.abstractmethod
  def _own_word_starts(self) -> np.ndarray:
    """(own_size,) bool, see `starts_word`."""

  @abc.abstractmethod
  def own_json(self) -> dict[str, Any]:
    """The contents of a tokenizer.json that gives the same ids, without the added ones.

    Raises:
      LmxError: the format can't say what this tokenizer does.
    """

  @abc.abstractmethod
  def save_files(self, directory: Path) -> None:
    """Writes the tokenizer's own files into an existing directory."""

  def encode(self, text: str) -> np.ndarray:
    """The ids of one text, int32, without bos and eos."""
    return self.encode_batch([text])[0]

  def encode_targets(self, texts: Sequence[str]) -> list[np.ndarray]:
    """As `encode_batch`, for texts that a model writes in answer to others: translations may be cut in another way."""
    return self.encode_batch(texts)

  def piece(self, token: int) -> str:
    """How to show one id to a person."""
    if token < self.own_size:
      return self._own_piece(int(token))
    return f"<extra_id_{self.vocab_size - 1 - token}>" if token < self.vocab_size else f"<{token}>"

  @property
  def own_size(self) -> int:
    """Ids that the tokenizer's own files know."""
    return self.vocab_size - self.extra_ids

  def extended(self, extra_ids: int) -> Self:
    """The tokenizer with so many ids after its own ones (in all, not in addition to those added before)."""
    if extra_ids == self.extra_ids:
      return self
    if extra_ids < 0:
      raise LmxError(message("config.tokenizer.extra_ids", got=extra_ids, allowed="0 or more"))
    other = copy.copy(self)
    for name in _CACHED:
      vars(other).pop(name, None)
    other.extra_ids = extra_ids
    other.vocab_size = self.own_size + extra_ids
    own = self.fingerprint.partition("+")[0]
    other.fingerprint = f"{own}+{extra_ids}" if extra_ids else own
    return other

  @property
  def mask_id(self) -> int | None:
    """What a hidden token becomes: the tokenizer's own mask, else the first added id, else None."""
    if self._own_mask_id is not None:
      return self._own_mask_id
    return self.own_size if self.extra_ids else None

  @property
  def sentinels(self) -> int:
    """How many ids can stand for a span that was taken out."""
    return len(self._own_sentinels) or self.extra_ids

  def sentinel(self, index: int) -> int:
    """The id of <extra_id_index>: the tokenizer's own, else the last ids downward, so that 0 is the last id (T5)."""
    if not 0 <= index < self.sentinels:
      allowed = f"0 to {self.sentinels - 1}" if self.sentinels else "none, this tokenizer has no sentinels"
      raise LmxError(
        message("sentinel", got=index, allowed=allowed, fix=f"--config.tokenizer.extra_ids={max(100, index + 1)}")
      )
    return self._own_sentinels[index] if self._own_sentinels else self.vocab_size - 1 - index

  @property
  def special_tokens(self) -> dict[str, int]:
    """How a chat template writes the ids that no text becomes ("</s>", "<|im_end|>", ...) -> those ids."""
    around = (self.bos_id, self.eos_id, self.cls_id, self.sep_id)
    return {self.piece(token): token for token in (*around, *range(self.own_size, self.vocab_size))}

  @property
  def named_tokens(self) -> dict[str, str]:
    """What a chat template calls the special tokens: {"bos_token": "<s>", ...}."""
    ids = {"bos_token": self.bos_id, "eos_token": self.eos_id, "pad_token": self.pad_id}
    return {name: self.piece(token) for name, token in ids.items()}

  def encode_written(self, text: str, plain: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a text in which special tokens are written out (n,), and the characters each stands for (n, 2).

    Args:
      text: a rendered chat.
      plain: places within special tokens that are to be read as plain text, since a person typed them.

    Raises:
      ValueError: the tokenizer can't read one of those as plain text.
    """
    special = {name: token for name, token in self.special_tokens.items() if name.strip()}
    ids: list[np.ndarray] = [np.zeros(0, np.int32)]
    offsets: list[np.ndarray] = [np.zeros((0, 2), np.int32)]
    done = 0

    def add_text(end: int) -> None:
      if end > done:
        part, places = self._encode_part(text[done:end], first=done == 0)
        ids.append(part)
        offsets.append(done + places)

    for found in written(written_pattern(special), text, plain):
      add_text(found.start())
      ids.append(np.array([special[found[0]]], np.int32))
      offsets.append(np.array([found.span()], np.int32))
      done = found.end()
    add_text(len(text))
    return np.concatenate(ids), np.concatenate(offsets).astype(np.int32)

  def _encode_part(self, text: str, *, first: bool) -> tuple[np.ndarray, np.ndarray]:
    """As `encode_with_offsets`, of the start of a text or of what follows a special token."""
    del first
    return self.encode_with_offsets(text)

  @functools.cached_property
  def starts_word(self) -> np.ndarray:
    """(V,) bool: whether a word begins with the id. A word goes on where it is False (BERT's ##, no space before)."""
    return np.concatenate([self._own_word_starts(), np.ones(self.extra_ids, bool)])

  @property
  def json_is_exact(self) -> bool:
    """Whether `as_json` gives the same ids for every text, not only but for equally likely ways to write it."""
    return True

  def as_json(self) -> dict[str, Any]:
    """The contents of a tokenizer.json that gives the same ids, added ones included.

    Raises:
      LmxError: the format can't say what this tokenizer does; it names a text that would get other ids.
    """
    added = [self.piece(token) for token in range(self.own_size, self.vocab_size)]
    values = with_added(self.own_json(), added, self.own_size, self.name)
    other = tokenizers.Tokenizer.from_str(json.dumps(values))
    other.encode_special_tokens = True
    for text in PROBES if self.lossless else PROBES[:-1]:  # The last one spells the names of special tokens.
      ids = other.encode(text, add_special_tokens=False).ids
      if ids != self.encode(text).tolist():
        raise LmxError(
          f"{self.name}: no tokenizer.json gives the ids of this tokenizer; the text {text!r} would get others."
        )
    return values

  def describe(self) -> dict[str, Any]:
    """What `save` writes about the tokenizer beside its files."""
    return {
      "kind": self.kind,
      "name": self.name,
      "vocab_size": self.vocab_size,
      "extra_ids": self.extra_ids,
      "bos_id": self.bos_id,
      "eos_id": self.eos_id,
      "fingerprint": self.fingerprint,
    }

  def save(self, directory: str | os.PathLike) -> None:
    """Writes all that `load_tokenizer` needs into a directory, which is made if it is not there."""
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    self.save_files(path)
    if self.chat_template is not None:
      (path / TEMPLATE_FILE).write_text(self.chat_template, encoding="utf-8")
    (path / DESCRIPTION_FILE).write_text(json.dumps(self.describe(), indent=2) + "\n")


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
  return read_bounded(path)


class ByteTokenizer(Tokenizer):
  """Ids 0 to 255 are the bytes of the text in UTF-8; 256 starts a document and 257 ends it."""

  kind = "bytes"
  name = "bytes"
  vocab_size = 258
  bos_id = 256
  eos_id = 257
  cls_id = 256
  sep_id = 257
  pad_id = 257
  lossless = True
  fingerprint = "bytes-1"

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]

  def decode(self, ids: Iterable[int]) -> str:
    return bytes(int(i) for i in ids if i < 256).decode(errors="replace")

  def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    sizes = [len(character.encode()) for character in text]
    starts = np.repeat(np.arange(len(text), dtype=np.int32), sizes)
    return self.encode(text), np.stack([starts, starts + 1], axis=1)

  def _own_piece(self, token: int) -> str:
    if token >= 256:
      return "<s>" if token == self.bos_id else "</s>"
    return chr(token) if 32 <= token < 127 or token in (9, 10) else f"<0x{token:02X}>"

  def _own_word_starts(self) -> np.ndarray:
    """Words begin with the space before them."""
    return np.isin(np.arange(self.own_size), [*b" \t\r\n", self.bos_id, self.eos_id])

  def own_json(self) -> dict[str, Any]:
    return json.loads(byte_level(self.bos_id, self.eos_id))

  def save_files(self, directory: Path) -> None:
    pass
