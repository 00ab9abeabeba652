# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Framing: the special tokens around one text or a pair of texts, as a tokenizer's post-processor adds them."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import tokenizers

from lmx.errors import LmxError

FIRST, SECOND = -1, -2  # Stand for the texts in a template.
_PROBES = ("a", "b", "0", "1", "the", "\u4e00")


@dataclasses.dataclass(frozen=True)
class Template:
  """A sequence of special tokens and texts.

  Attributes:
    ids: ids of special tokens, with FIRST and SECOND for the texts, each once and in this order.
    types: the token type of each (token_type_ids).
  """

  ids: tuple[int, ...]
  types: tuple[int, ...]

  @property
  def added(self) -> int:
    """Number of special tokens."""
    return sum(one >= 0 for one in self.ids)

  def fill(self, *texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids (n,) of the texts with special tokens, and their token types (n,), both int32."""
    # FIRST = -1 and SECOND = -2 are texts 0 and 1.
    parts = [texts[-1 - one] if one < 0 else np.array([one]) for one in self.ids]
    types = [np.full(len(part), kind) for part, kind in zip(parts, self.types, strict=True)]
    return np.concatenate(parts).astype(np.int32), np.concatenate(types).astype(np.int32)

  def before(self, text: int) -> int:
    """Number of special tokens before a text, FIRST or SECOND."""
    return sum(one >= 0 for one in self.ids[: self.ids.index(text)])


@dataclasses.dataclass(frozen=True)
class Framing:
  """The templates of one text and of a pair of texts."""

  single: Template
  pair: Template

  @property
  def added(self) -> int:
    """Number of special tokens of both templates; 0 if texts are left as they are."""
    return self.single.added + self.pair.added

  def of(self, texts: int) -> Template:
    """The template of one text or of a pair."""
    return self.single if texts == 1 else self.pair

  def described(self) -> list:
    """As JSON values, different for different framings."""
    return [list(part) for template in (self.single, self.pair) for part in (template.ids, template.types)]

  def template_processing(self, piece: Callable[[int], str]) -> dict[str, Any]:
    """The framing as a post-processor of a tokenizer.json.

    Args:
      piece: a special token's id -> its name in that file.
    """
    special = {one for template in (self.single, self.pair) for one in template.ids if one >= 0}
    names = {piece(one): one for one in sorted(special)}
    return {
      "type": "TemplateProcessing",
      "single": _written(self.single, piece),
      "pair": _written(self.pair, piece),
      "special_tokens": {name: {"id": name, "ids": [one], "tokens": [name]} for name, one in names.items()},
    }


def _written(template: Template, piece: Callable[[int], str]) -> list[dict[str, Any]]:
  parts = []
  for one, kind in zip(template.ids, template.types, strict=True):
    name, shown = ("SpecialToken", piece(one)) if one >= 0 else ("Sequence", "A" if one == FIRST else "B")
    parts.append({name: {"id": shown, "type_id": kind}})
  return parts


def framing(before: tuple[int, ...], between: tuple[int, ...], after: tuple[int, ...]) -> Framing:
  """A framing with fixed special tokens. The second text and the tokens after it have type 1, all others type 0.

  Args:
    before: ids before the first text.
    between: ids between two texts.
    after: ids after the last text.
  """
  pair = (*before, FIRST, *between, SECOND, *after)
  types = (0,) * (len(before) + 1 + len(between)) + (1,) * (1 + len(after))
  return Framing(Template((*before, FIRST, *after), (0,) * (len(before) + 1 + len(after))), Template(pair, types))


def read_framing(tokenizer: tokenizers.Tokenizer, where: str) -> Framing:
  """The framing of a tokenizer's post-processor of any kind, found by encoding short texts with it.

  Raises:
    LmxError: the post-processor repeats the texts or swaps them.
  """
  try:
    probes = {text: tokenizer.encode(text, add_special_tokens=False).ids for text in _PROBES}
  except Exception as error:  # The library's errors have no class of their own.
    raise LmxError(f"{where} can't tokenize plain text: {error}") from error
  found = [text for text, ids in probes.items() if len(ids) == 1] or [text for text, ids in probes.items() if ids]
  if not found:
    raise LmxError(f"{where}: encodes no text, so its post-processor can't be read.")
  first, second = found[0], next((text for text in found if probes[text] != probes[found[0]]), found[0])
  single, pair = tokenizer.encode(first), tokenizer.encode(first, second)
  return Framing(
    _template_of(single, (probes[first],), where), _template_of(pair, (probes[first], probes[second]), where)
  )


def _template_of(made: tokenizers.Encoding, texts: tuple[list[int], ...], where: str) -> Template:
  kept = [i for i, special in enumerate(made.special_tokens_mask) if not special]
  if [made.ids[i] for i in kept] != list(itertools.chain(*texts)):
    raise LmxError(
      f"{where}: its post_processor repeats the texts or changes their order, which lmx doesn't support. Fix: in its "
      "templates, put $A and $B once each, in this order."
    )
  begins = dict(zip(itertools.accumulate([0, *map(len, texts[:-1])]), (FIRST, SECOND), strict=False))
  begins = {kept[place]: text for place, text in begins.items()}
  places = [i for i, special in enumerate(made.special_tokens_mask) if special or i in begins]
  ids = tuple(begins[i] if i in begins else made.ids[i] for i in places)
  return Template(ids, tuple(made.type_ids[i] for i in places))
