# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Texts in which special tokens are written out (rendered chats) to ids, as the `tokenizers` library reads them.

What an added token does to the text around it (`lstrip`, `rstrip`, a space that only the first word gets) is the
library's own matter, so the whole text is encoded at once. A special token that a person typed is to stay text: for
texts with one, the library gets a twin of the tokenizer whose special tokens have names that nobody can type.
"""

import json
import re
from collections.abc import Mapping, Sequence

import numpy as np
import tokenizers

# Characters that are none in Unicode, around the number of a special token: its name in the twin.
_BEFORE, _AFTER = "\ufdd3", "\ufdd4"
HIDDEN = _BEFORE + _AFTER


def written_pattern(special: Mapping[str, int]) -> re.Pattern[str]:
  """What finds special tokens in a text: the longest of those that begin at a place."""
  return re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")


def written(pattern: re.Pattern[str], text: str, plain: Sequence[int]) -> list[re.Match[str]]:
  """The special tokens of a text that count as such.

  Args:
    pattern: of `written_pattern`.
    text: any.
    plain: places within those that are plain text.
  """
  places = np.asarray(plain, np.int64)
  return [found for found in pattern.finditer(text) if not np.any((places > found.start()) & (places < found.end()))]


class WrittenTokens:
  """A tokenizer.json that reads special tokens which are written out in a text."""

  def __init__(self, model: str, special: Mapping[str, int]):
    """Prepares the tokenizer; the twin is made when it is needed.

    Args:
      model: the contents of tokenizer.json.
      special: each special token as it is written, and its id.
    """
    self._model, self._special = model, dict(special)
    self._pattern = written_pattern(special)
    self._named = _Reader(model, self._special, {name: name for name in special})
    self._twin: _Reader | None = None

  def encode(self, text: str, plain: Sequence[int] = ()) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a text (n,), and the characters each stands for (n, 2).

    Args:
      text: any.
      plain: places within special tokens that are to be read as plain text.

    Raises:
      ValueError: a special token that should be plain text is one however it is read, as in some Unigram vocabularies.
    """
    found = written(self._pattern, text, plain)
    if len(found) == sum(1 for _ in self._pattern.finditer(text)):
      return self._named.encode(text)
    if self._twin is None:
      names = {name: f"{_BEFORE}{number}{_AFTER}" for number, name in enumerate(self._special)}
      self._twin = _Reader(self._model, self._special, names)
    return self._twin.encode_renamed(text, found)


class _Reader:
  """The library's tokenizer with its special tokens under some names."""

  def __init__(self, model: str, special: Mapping[str, int], names: Mapping[str, str]):
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
    # The library numbers renamed tokens itself, so its ids are turned back into the tokenizer's.
    theirs = self._tokenizer.get_vocab(with_added_tokens=True)
    self._ids = np.arange(1 + max(theirs.values()), dtype=np.int32)
    for name in ids.keys() & theirs.keys():  # The library leaves out added tokens without a letter.
      self._ids[theirs[name]] = ids[name]
    self._never = np.array([token for one, token in special.items() if names[one] != one], np.int32)
    self._names, self._own = names, np.array([theirs[name] for name in names.values()], np.int32)

  def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
    """As `WrittenTokens.encode`, with every special token of the text read as one."""
    encoded = self._tokenizer.encode(text, add_special_tokens=False)
    ids = np.array(encoded.ids, np.int32)
    if np.any(np.isin(ids, self._never) & ~np.isin(ids, self._own)):
      raise ValueError("the tokenizer has no way to spell one of its special tokens as plain text")
    return self._ids[ids], np.array(encoded.offsets, np.int32).reshape(-1, 2)

  def encode_renamed(self, text: str, found: Sequence[re.Match[str]]) -> tuple[np.ndarray, np.ndarray]:
    """The same with these special tokens only; the offsets are those of `text`."""
    parts: list[str] = []
    origins: list[np.ndarray] = []
    done = 0
    for one in found:
      name = self._names[one[0]]
      parts += [text[done : one.start()], name]
      origins += [np.arange(done, one.start()), np.full(len(name), one.start())]
      done = one.end()
    origin = np.concatenate([*origins, np.arange(done, len(text) + 1)])
    ids, offsets = self.encode("".join([*parts, text[done:]]))
    return ids, origin[offsets].astype(np.int32)
