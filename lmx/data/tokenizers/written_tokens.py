# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Encodes texts that contain special tokens by name (rendered chats), with the `tokenizers` library.

Added tokens affect the text around them (`lstrip`, `rstrip`, a space that only the first word gets), so the complete
text is encoded in one call. A special token's name that a user typed must stay plain text: texts with one are encoded
with a copy of the tokenizer whose special tokens are renamed to names that nobody can type.
"""

import json
import re
from collections.abc import Mapping, Sequence

import numpy as np
import tokenizers

# A special token's name in the copy is its number between these two noncharacters of Unicode.
_BEFORE, _AFTER = "\ufdd3", "\ufdd4"
HIDDEN = _BEFORE + _AFTER


def written_pattern(special: Mapping[str, int]) -> re.Pattern[str]:
  """A pattern that finds special tokens in a text; of those that start at the same character, the longest."""
  return re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")


def written(pattern: re.Pattern[str], text: str, plain: Sequence[int]) -> list[re.Match[str]]:
  """The special tokens in a text, without those that are plain text.

  Args:
    pattern: of `written_pattern`.
    text: any.
    plain: positions inside names of special tokens that are plain text.
  """
  inside = np.asarray(plain, np.int64)
  return [found for found in pattern.finditer(text) if not np.any((inside > found.start()) & (inside < found.end()))]


class WrittenTokens:
  """A tokenizer.json that encodes the names of special tokens in a text as those tokens."""

  def __init__(self, model: str, special: Mapping[str, int]):
    """Prepares the tokenizer; the renamed copy is made on first use.

    Args:
      model: the contents of tokenizer.json.
      special: name -> id of each special token.
    """
    self._model, self._special = model, dict(special)
    self._pattern = written_pattern(special)
    self._named = _Reader(model, self._special, {name: name for name in special})
    self._renamed: _Reader | None = None

  def encode(self, text: str, plain: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a text (n,), and the characters of each id (n, 2), start and end.

    Args:
      text: any.
      plain: positions inside names of special tokens that are encoded as plain text.

    Raises:
      ValueError: such a name can't be encoded as anything but the special token, as in some Unigram vocabularies.
    """
    found = written(self._pattern, text, plain)
    if len(found) == sum(1 for _ in self._pattern.finditer(text)):
      return self._named.encode(text)
    if self._renamed is None:
      names = {name: f"{_BEFORE}{number}{_AFTER}" for number, name in enumerate(self._special)}
      self._renamed = _Reader(self._model, self._special, names)
    return self._renamed.encode_renamed(text, found)


class _Reader:
  """The library's tokenizer with special tokens renamed."""

  def __init__(self, model: str, special: Mapping[str, int], names: Mapping[str, str]):
    """Makes the tokenizer.

    Args:
      model: the contents of tokenizer.json.
      special: name -> id of each special token.
      names: name -> new name of each special token.
    """
    values = json.loads(model)
    ids = {}
    for token in values.get("added_tokens") or ():
      name = names.get(token["content"], token["content"])
      ids[name] = token["id"]
      if name != token["content"]:
        token.update(content=name, normalized=False)
    self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(values, ensure_ascii=False))
    self._tokenizer.no_padding()
    self._tokenizer.no_truncation()
    known = {token.content for token in self._tokenizer.get_added_tokens_decoder().values()}
    others = [tokenizers.AddedToken(name, normalized=False) for name in names.values() if name not in known]
    if others:
      self._tokenizer.add_special_tokens(others)
    ids |= {names[one]: token for one, token in special.items()}
    # The library assigns new ids to renamed tokens; `_ids` maps the library's ids to the tokenizer's.
    theirs = self._tokenizer.get_vocab(with_added_tokens=True)
    self._ids = np.arange(1 + max(theirs.values()), dtype=np.int32)
    for name in ids.keys() & theirs.keys():  # The library drops added tokens without a letter.
      self._ids[theirs[name]] = ids[name]
    # The ids of renamed tokens. A text that is still encoded to one contains an old name that is also an entry of the
    # model's vocabulary, so it can't be encoded as plain text.
    self._never = np.array([token for one, token in special.items() if names[one] != one], np.int32)
    self._names, self._own = names, np.array([theirs[name] for name in names.values()], np.int32)

  def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    """As `WrittenTokens.encode`, with no name of a special token as plain text."""
    encoded = self._tokenizer.encode(text, add_special_tokens=False)
    ids = np.array(encoded.ids, np.int32)
    if np.any(np.isin(ids, self._never) & ~np.isin(ids, self._own)):
      raise ValueError("the tokenizer has no way to spell one of its special tokens as plain text")
    return self._ids[ids], np.array(encoded.offsets, np.int32).reshape(-1, 2)

  def encode_renamed(self, text: str, found: Sequence[re.Match[str]]) -> tuple[np.ndarray, np.ndarray]:
    """As `encode`, with only the special tokens `found`; the offsets refer to `text`, before the renaming."""
    parts: list[str] = []
    origins: list[np.ndarray] = []  # For each character of the renamed text, its position in `text`.
    done = 0
    for one in found:
      name = self._names[one[0]]
      parts += [text[done : one.start()], name]
      origins += [np.arange(done, one.start()), np.full(len(name), one.start())]
      done = one.end()
    origin = np.concatenate([*origins, np.arange(done, len(text) + 1)])
    ids, offsets = self.encode("".join([*parts, text[done:]]))
    return ids, origin[offsets].astype(np.int32)
