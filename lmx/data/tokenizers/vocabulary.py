# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The interface of tokenizers, and the tokenizer of bytes."""

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
_CACHED = ("starts_word", "_written_tokens")  # Cached properties that depend on the added ids.
# Texts on which tokenizers that are almost lossless fail: spaces, line ends, Unicode, special tokens and controls.
PROBES = (
  "Plain words, and  two  spaces.",
  " leading\n\n\tand trailing \r\n",
  "caf\u00e9 e\u0301 \ufb01 \u2460 \u65e5\u672c\u8a9e \U0001f389 \ufeff\u2028",
  "<s> </s> <unk> <|endoftext|> \u2581 \x00\x7f",
)


class Tokenizer(abc.ABC):
  """Encodes text to integer ids and decodes it.

  Text is never encoded to special ids (`bos_id`, `eos_id`, sentinels, ...). `decode` omits bos, eos and added ids.

  Attributes:
    kind: the row of `lmx.data.tokenizers.tokenizer.KINDS` that loads this tokenizer.
    name: for people, as "sentencepiece bpe 4096".
    vocab_size: V, added ids included; ids are 0 .. vocab_size - 1.
    extra_ids: ids added at the end of the vocabulary; see `extended`.
    bos_id, eos_id: start and end of a document; the same id if the tokenizer has only one.
    cls_id, sep_id: BERT's token before a text and after each text of a pair; bos and eos if there are none.
    pad_id: pads rows; has no loss.
    unknown_id: the token for unknown text, even if every text can be encoded without it; None: there is none.
    unk_id: the id that unknown text is encoded to; None if every text can be encoded without it.
    chat_template: the Jinja template that was published with the tokenizer, or None.
    own_settings: the contents of the tokenizer_config.json that was published with it, or {}.
    prefixes_space: whether a text is encoded as if it started with a space.
    own_framing: the special tokens around texts by the tokenizer's own files; None if they don't define any.
    lossless: whether decode(encode(text)) == text for every text.
    fingerprint: changes whenever the ids of any text could.
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
    """The text of the ids. Bytes that aren't UTF-8 (an incomplete character) become U+FFFD."""

  @abc.abstractmethod
  def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    """The ids of one text (n,), as `encode` returns them, and the characters of each id: (n, 2), start and end.

    Ids that encode one character together share its offsets; an id without a character of the text has start = end.
    """

  @abc.abstractmethod
  def _own_piece(self, token: int) -> str:
    """The token of one id that wasn't added, for display."""

  @abc.abstractmethod
  def _own_word_starts(self) -> np.ndarray:
    """(own_size,) bool, see `starts_word`."""

  @abc.abstractmethod
  def own_json(self) -> dict[str, Any]:
    """The contents of an equivalent tokenizer.json, without the added ids.

    Raises:
      LmxError: the format can't represent this tokenizer.
    """

  @abc.abstractmethod
  def save_files(self, directory: Path) -> None:
    """Writes the tokenizer's own files into an existing directory."""

  def encode(self, text: str) -> np.ndarray:
    """The ids of one text, int32, without bos and eos."""
    return self.encode_batch([text])[0]

  def encode_targets(self, texts: Sequence[str]) -> list[np.ndarray]:
    """As `encode_batch`, for the targets of sequence-to-sequence models, which some tokenizers encode differently."""
    return self.encode_batch(texts)

  def piece(self, token: int) -> str:
    """The token of one id, for display."""
    if token < self.own_size:
      return self._own_piece(int(token))
    return f"<extra_id_{self.vocab_size - 1 - token}>" if token < self.vocab_size else f"<{token}>"

  @property
  def own_size(self) -> int:
    """Number of ids without the added ones."""
    return self.vocab_size - self.extra_ids

  def extended(self, extra_ids: int) -> Self:
    """A copy of the tokenizer with `extra_ids` added ids in total, which follow its own ids."""
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
    """The mask token: the tokenizer's own, else the first added id, else None."""
    if self._own_mask_id is not None:
      return self._own_mask_id
    return self.own_size if self.extra_ids else None

  @property
  def sentinels(self) -> int:
    """Number of ids that can replace a span in span corruption."""
    return len(self._own_sentinels) or self.extra_ids

  def sentinel(self, index: int) -> int:
    """The id of <extra_id_index>: the tokenizer's own, else counted down from the last id, index 0 (as in T5)."""
    if not 0 <= index < self.sentinels:
      allowed = f"0 to {self.sentinels - 1}" if self.sentinels else "none, this tokenizer has no sentinels"
      raise LmxError(
        message("sentinel", got=index, allowed=allowed, fix=f"--config.tokenizer.extra_ids={max(100, index + 1)}")
      )
    return self._own_sentinels[index] if self._own_sentinels else self.vocab_size - 1 - index

  @property
  def special_tokens(self) -> dict[str, int]:
    """Names of special tokens in chat templates ("</s>", "<|im_end|>", ...) -> their ids."""
    around = (self.bos_id, self.eos_id, self.cls_id, self.sep_id)
    return {self.piece(token): token for token in (*around, *range(self.own_size, self.vocab_size))}

  @property
  def named_tokens(self) -> dict[str, str]:
    """Variables of chat templates for special tokens: {"bos_token": "<s>", ...}."""
    ids = {"bos_token": self.bos_id, "eos_token": self.eos_id, "pad_token": self.pad_id}
    return {name: self.piece(token) for name, token in ids.items()}

  def encode_written(self, text: str, plain: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Encodes a text that contains special tokens by name, as a rendered chat does.

    Args:
      text: a rendered chat.
      plain: positions inside names of special tokens that are encoded as plain text, because a user typed them.

    Returns:
      The ids (n,), and the characters of each id (n, 2), start and end.

    Raises:
      ValueError: the tokenizer can't encode one of those names as plain text.
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
    """As `encode_with_offsets`, for the start of a text (`first`) or the part after a special token."""
    del first
    return self.encode_with_offsets(text)

  @functools.cached_property
  def starts_word(self) -> np.ndarray:
    """(V,) bool: whether the id starts a word. False: it continues one (BERT's ##, or no space before it)."""
    return np.concatenate([self._own_word_starts(), np.ones(self.extra_ids, bool)])

  @property
  def json_is_exact(self) -> bool:
    """Whether `as_json` has the same ids for every text; False: equally likely segmentations may differ."""
    return True

  def as_json(self) -> dict[str, Any]:
    """The contents of an equivalent tokenizer.json, added ids included.

    Raises:
      LmxError: the format can't represent this tokenizer; the message has a text that would get other ids.
    """
    added = [self.piece(token) for token in range(self.own_size, self.vocab_size)]
    values = with_added(self.own_json(), added, self.own_size, self.name)
    other = tokenizers.Tokenizer.from_str(json.dumps(values))
    other.encode_special_tokens = True
    for text in PROBES if self.lossless else PROBES[:-1]:  # The last one contains names of special tokens.
      ids = other.encode(text, add_special_tokens=False).ids
      if ids != self.encode(text).tolist():
        raise LmxError(
          f"{self.name}: no tokenizer.json gives the ids of this tokenizer; the text {text!r} would get others."
        )
    return values

  def describe(self) -> dict[str, Any]:
    """The description that `save` writes next to the files of the tokenizer."""
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
    """Writes everything that `load_tokenizer` needs into a directory, which is created if necessary."""
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    self.save_files(path)
    if self.chat_template is not None:
      (path / TEMPLATE_FILE).write_text(self.chat_template, encoding="utf-8")
    (path / DESCRIPTION_FILE).write_text(json.dumps(self.describe(), indent=2) + "\n")


def digest(*parts: bytes | str) -> str:
  """A short hash of a sequence of byte strings and texts; it depends on where one ends and the next begins."""
  state = hashlib.blake2b(digest_size=16)
  for part in parts:
    data = part.encode() if isinstance(part, str) else part
    state.update(len(data).to_bytes(8, "little"))
    state.update(data)
  return state.hexdigest()


def cpu_count() -> int:
  """Number of cores that this process may use (os.process_cpu_count, which Python 3.11 and 3.12 don't have)."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def round_trips(tokenizer: Tokenizer) -> bool:
  """Whether decoding the encoded text returns each of `PROBES`."""
  return all(tokenizer.decode(tokenizer.encode(text)) == text for text in PROBES)


def read_file(path: Path, subject: str) -> bytes:
  """The contents of a tokenizer file.

  Raises:
    LmxError: it doesn't exist, with the config key that names it, or it is too large.
  """
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
    """A word starts with the space before it."""
    return np.isin(np.arange(self.own_size), [*b" \t\r\n", self.bos_id, self.eos_id])

  def own_json(self) -> dict[str, Any]:
    return json.loads(byte_level(self.bos_id, self.eos_id))

  def save_files(self, directory: Path) -> None:
    pass
