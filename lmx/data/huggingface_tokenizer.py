# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Any tokenizer that the Hugging Face `tokenizers` library reads from a tokenizer.json."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tokenizers

from lmx.data.vocabulary import Tokenizer, digest, read_file, round_trips
from lmx.errors import LmxError

MODEL_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
# Published names of the tokens around a document, looked for when tokenizer_config.json does not name them.
STARTS = ("<|begin_of_text|>", "<bos>", "<s>", "[CLS]", "<|startoftext|>", "<|endoftext|>")
ENDS = ("<|end_of_text|>", "<eos>", "</s>", "[SEP]", "<|endoftext|>")


class HuggingFaceTokenizer(Tokenizer):
  """A tokenizer.json. Special tokens written out in a text are read as plain characters, never as the token."""

  kind = "huggingface"

  def __init__(self, model: bytes, config: bytes | None = None, where: str = "tokenizer.json"):
    """Reads a tokenizer.

    Args:
      model: the contents of tokenizer.json.
      config: the contents of the tokenizer_config.json beside it, which may name bos_token and eos_token.
      where: the path, for messages.

    Raises:
      LmxError: not a tokenizer.json, or no token that ends a document can be found.
    """
    self._model, self._config = model, config
    try:
      self._tokenizer = tokenizers.Tokenizer.from_str(model.decode())
    except Exception as error:  # The library raises a bare Exception for whatever it cannot parse.
      version = tokenizers.__version__
      raise LmxError(f"{where} is not a tokenizer.json that tokenizers {version} reads: {error}") from error
    self._tokenizer.no_padding()
    self._tokenizer.no_truncation()
    self._tokenizer.encode_special_tokens = True
    self.vocab_size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
    named = _named_tokens(config, where)
    self.eos_id = self._find(named.get("eos_token"), ENDS, where)
    self.bos_id = self._find(named.get("bos_token"), STARTS, where, self.eos_id)
    self.pad_id = self._find(named.get("pad_token"), (), where, self.eos_id)
    self.name = f"huggingface {self.vocab_size}"
    self.fingerprint = digest("huggingface", model, f"{self.bos_id} {self.eos_id}")
    self.lossless = round_trips(self)
    unknown = json.loads(model).get("model", {}).get("unk_token")
    self.unk_id = self._tokenizer.token_to_id(unknown) if unknown and not self.lossless else None

  def _find(self, named: str | None, usual: Sequence[str], where: str, otherwise: int | None = None) -> int:
    for token in [named] if named else usual:
      token_id = self._tokenizer.token_to_id(token)
      if token_id is not None:
        return token_id
    if otherwise is None:
      raise LmxError(
        f"{where}: found no token that ends a document (looked for {named or ', '.join(usual)}). "
        f'Fix: put a {CONFIG_FILE} with {{"eos_token": "..."}} beside it.'
      )
    return otherwise

  def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
    encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(one.ids, np.int32) for one in encoded]

  def decode(self, ids: Iterable[int]) -> str:
    hidden = {self.bos_id, self.eos_id}
    kept = [int(i) for i in ids if i < self.vocab_size and i not in hidden]
    return self._tokenizer.decode(kept, skip_special_tokens=False)

  def piece(self, token: int) -> str:
    special = self._tokenizer.get_added_tokens_decoder()
    if token in special:
      return special[token].content
    return self._tokenizer.decode([int(token)], skip_special_tokens=False) if token < self.vocab_size else f"<{token}>"

  def save_files(self, directory: Path) -> None:
    (directory / MODEL_FILE).write_bytes(self._model)
    if self._config is not None:
      (directory / CONFIG_FILE).write_bytes(self._config)


def _named_tokens(config: bytes | None, where: str) -> dict[str, str]:
  """The bos, eos and pad tokens that a tokenizer_config.json names; each is a string or an object with `content`."""
  if config is None:
    return {}
  try:
    values = json.loads(config)
  except ValueError as error:
    raise LmxError(f"{CONFIG_FILE} beside {where} is not JSON: {error}") from error
  tokens = {key: values[key] for key in ("bos_token", "eos_token", "pad_token") if values.get(key)}
  return {key: token["content"] if isinstance(token, dict) else token for key, token in tokens.items()}


def load_huggingface(path: Path, subject: str) -> HuggingFaceTokenizer:
  """Reads a tokenizer.json, or a directory that has one.

  Raises:
    LmxError: the file is not there or not a tokenizer.
  """
  file = path / MODEL_FILE if path.is_dir() else path
  beside = file.parent / CONFIG_FILE
  return HuggingFaceTokenizer(
    read_file(file, subject), beside.read_bytes() if beside.is_file() else None, where=str(file)
  )
