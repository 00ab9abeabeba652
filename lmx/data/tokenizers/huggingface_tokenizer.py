# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Hugging Face tokenizers: a tokenizer.json, or files that convert to one, read by the `tokenizers` library."""

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from lmx.data.tokenizers.framing import read_framing
from lmx.data.tokenizers.legacy_vocabularies import find_vocabulary
from lmx.data.tokenizers.published_tokenizer import read_published
from lmx.data.tokenizers.special_tokens import CONFIG_FILE, chat_template, named_tokens, read_config, read_config_file
from lmx.data.tokenizers.tokenizer_check import check_tokenizer_json
from lmx.data.tokenizers.vocabulary import Tokenizer, cpu_count, digest, read_file, round_trips
from lmx.data.tokenizers.written_tokens import WrittenTokens
from lmx.errors import LmxError, message
from lmx.json_text import parse_bounded
from lmx.limits import raise_over

MODEL_FILE = "tokenizer.json"
# Common names of special tokens, used when tokenizer_config.json doesn't name them.
STARTS = ("<|begin_of_text|>", "<bos>", "<s>", "[CLS]", "<|startoftext|>", "<|endoftext|>")
ENDS = ("<|end_of_text|>", "<eos>", "</s>", "[SEP]", "<|endoftext|>")
PADS = ("[PAD]", "<pad>")
MASKS = ("[MASK]", "<mask>")
_WORD_MARKS = ("\u2581", "\u0120", "\u010a", "\u0109", " ", "\n", "\t")  # Spaces as SentencePiece and GPT-2 write them.
_SLICE = 1 << 17  # Characters per core that are encoded in one call of the library.


class HuggingFaceTokenizer(Tokenizer):
  """A tokenizer.json. The names of special tokens in a text are encoded as plain text, never as the token."""

  kind = "huggingface"

  def __init__(
    self,
    model: bytes,
    config: bytes | None = None,
    where: str = "tokenizer.json",
    template: str | None = None,
  ):
    """Reads a tokenizer.

    Args:
      model: the contents of tokenizer.json.
      config: the contents of tokenizer_config.json, which may name special tokens.
      where: its path, for messages.
      template: the chat template.

    Raises:
      LmxError: not a tokenizer.json, or one without an end-of-document token.
    """
    self._model, self._config = model, config
    self._tokenizer, values = _parsed(model, where)
    self._tokenizer.no_padding()
    self._tokenizer.no_truncation()
    self._tokenizer.encode_special_tokens = True
    self._pieces = {i: piece for piece, i in self._tokenizer.get_vocab(with_added_tokens=True).items()}
    self.vocab_size = 1 + max(self._pieces)
    self.chat_template = template
    self.own_settings = read_config(config, where)
    self._find_special_tokens(named_tokens(self.own_settings), where)
    self.name = f"huggingface {self.vocab_size}"
    self.fingerprint = digest("huggingface", model, f"{self.bos_id} {self.eos_id}")
    self.own_framing = read_framing(self._tokenizer, where)
    beyond = max((*self.own_framing.single.ids, *self.own_framing.pair.ids))
    if beyond >= self.vocab_size:
      allowed = f"below {self.vocab_size}, the size of the vocabulary"
      raise LmxError(message(f"{where}: an id in post_processor", got=beyond, allowed=allowed, fix="correct the file"))
    self._parts: Mapping[str, Any] = values.get("model", {})
    self.lossless = round_trips(self)
    unknown = self._parts.get("unk_token")
    self.unknown_id = self._tokenizer.token_to_id(unknown) if unknown else None
    self.unk_id = None if self.lossless else self.unknown_id

  def _find_special_tokens(self, named: Mapping[str, str], where: str) -> None:
    end = self._find(named.get("eos_token"), ENDS)
    if end is None:
      raise LmxError(
        f"{where}: found no end-of-document token (looked for {named.get('eos_token') or ', '.join(ENDS)}). "
        f'Fix: put a {CONFIG_FILE} with {{"eos_token": "..."}} next to it.'
      )
    self.eos_id = end
    self.bos_id = self._find(named.get("bos_token"), STARTS, self.eos_id)
    self.pad_id = self._find(named.get("pad_token"), PADS, self.eos_id)
    self.cls_id = self._find(named.get("cls_token"), ("[CLS]",), self.bos_id)
    self.sep_id = self._find(named.get("sep_token"), ("[SEP]",), self.eos_id)
    self._own_mask_id = self._find(named.get("mask_token"), MASKS)
    self._own_sentinels = _sentinels(self._tokenizer.token_to_id)

  def _find(self, named: str | None, usual: Sequence[str], otherwise: int | None = None) -> Any:
    """The id of the named token, else of the first usual name in the vocabulary, else `otherwise`."""
    for token in [named] if named else usual:
      token_id = self._tokenizer.token_to_id(token)
      if token_id is not None:
        return token_id
    return otherwise

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    # A call of the library for all of a large batch holds all of its encodings in memory at once, which takes a quarter
    # more CPU time for short texts than slices that stay in the cores' caches.
    ids: list[np.ndarray] = []
    for part in _slices(texts, _SLICE * cpu_count()):
      encoded = self._tokenizer.encode_batch_fast(part, add_special_tokens=False)
      ids.extend(np.array(one.ids, np.int32) for one in encoded)
    return ids

  def encode_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    encoded = self._tokenizer.encode(text, add_special_tokens=False)
    return np.array(encoded.ids, np.int32), np.array(encoded.offsets, np.int32).reshape(-1, 2)

  @functools.cached_property
  def _written_tokens(self) -> WrittenTokens:
    return WrittenTokens(self._model.decode(), {name: i for name, i in self.special_tokens.items() if name.strip()})

  def encode_written(self, text: str, plain: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
    return self._written_tokens.encode(text, plain)

  @property
  def named_tokens(self) -> dict[str, str]:
    named = named_tokens(read_config(self._config, MODEL_FILE))
    return named or super().named_tokens

  def decode(self, ids: Iterable[int]) -> str:
    hidden = {self.bos_id, self.eos_id}
    kept = [int(i) for i in ids if i < self.own_size and i not in hidden]
    return self._tokenizer.decode(kept, skip_special_tokens=False)

  @property
  def special_tokens(self) -> dict[str, int]:
    added = self._tokenizer.get_added_tokens_decoder()
    return {token.content: i for i, token in added.items() if token.special} | super().special_tokens

  def _own_piece(self, token: int) -> str:
    special = self._tokenizer.get_added_tokens_decoder()
    return special[token].content if token in special else self._tokenizer.decode([token], skip_special_tokens=False)

  def _own_word_starts(self) -> np.ndarray:
    starts = np.ones(self.own_size, bool)
    special = self._tokenizer.get_added_tokens_decoder()
    prefix = self._parts.get("continuing_subword_prefix") if self._parts.get("type") == "WordPiece" else None
    for token, piece in self._pieces.items():
      if token not in special:
        starts[token] = not piece.startswith(prefix) if prefix else piece.startswith(_WORD_MARKS)
    return starts

  def own_json(self) -> dict[str, Any]:
    return json.loads(self._model) | {"padding": None, "truncation": None}

  def save_files(self, directory: Path) -> None:
    (directory / MODEL_FILE).write_bytes(self._model)
    if self._config is not None:
      (directory / CONFIG_FILE).write_bytes(self._config)


def _slices(texts: Iterable[str], size: int) -> Iterator[list[str]]:
  """The texts in lists of at least `size` characters; the last one may be shorter."""
  part: list[str] = []
  left = size
  for text in texts:
    part.append(text)
    left -= len(text)
    if left <= 0:
      yield part
      part, left = [], size
  if part:
    yield part


def _checked(model: bytes, where: str) -> dict[str, Any]:
  """The parsed contents of a tokenizer.json, with nesting and added tokens limited before the library reads it.

  Raises:
    LmxError: it isn't a JSON object, or exceeds a limit.
  """
  try:
    values = parse_bounded(model, where)
  except LmxError as error:
    if isinstance(error.__cause__, ValueError):  # Not JSON.
      raise _no_tokenizer(where, error.__cause__) from error
    raise
  if not isinstance(values, dict):
    raise _no_tokenizer(where, ValueError("not a JSON object"))
  added = values.get("added_tokens")
  raise_over("added_tokens", len(added) if isinstance(added, list) else 0, f"{where}: added_tokens")
  return values


def _sentinels(find: Any) -> tuple[int, ...]:
  """Ids of <extra_id_0>, <extra_id_1>, ... up to the first that doesn't exist."""
  found: list[int] = []
  while (token := find(f"<extra_id_{len(found)}>")) is not None:
    found.append(token)
  return tuple(found)


def load_huggingface(path: Path, subject: str) -> HuggingFaceTokenizer:
  """Loads a tokenizer.json, a legacy vocabulary of BERT or GPT-2, or a directory with one of them.

  Raises:
    LmxError: the file doesn't exist or isn't a tokenizer.
  """
  folder = path if path.is_dir() else path.parent
  config = read_config_file(folder)
  published = read_published(folder)
  values = read_config(config, str(path)) if published is None else published.values
  legacy = find_vocabulary(path, MODEL_FILE)
  if legacy is None:
    file = path / MODEL_FILE if path.is_dir() else path
    model = read_file(file, subject)
  else:
    file, model = legacy.file, legacy.build(values)
  if published is not None:
    parsed = json.loads(_parsed(model, str(file))[0].to_str())
    model, config = published.finish(parsed, from_json=legacy is None)
  return HuggingFaceTokenizer(model, config, str(file), chat_template(folder, values))


def _parsed(model: bytes, where: str) -> tuple[tokenizers.Tokenizer, dict[str, Any]]:
  """The library's tokenizer of a tokenizer.json, and the parsed contents of the file.

  Raises:
    LmxError: it isn't a tokenizer.json, or exceeds a limit.
  """
  values = _checked(model, where)
  check_tokenizer_json(values, where)
  try:
    return tokenizers.Tokenizer.from_str(model.decode()), values
  except Exception as error:  # The library raises a bare Exception for everything that it can't parse.
    raise _no_tokenizer(where, error) from error


def _no_tokenizer(where: str, error: Exception) -> LmxError:
  return LmxError(f"{where} is not a tokenizer.json that tokenizers {tokenizers.__version__} can read: {error}")
