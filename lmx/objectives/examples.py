# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Shared parts of objectives over examples: special tokens around texts, truncation, arrays of a row."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from lmx.data.cache.encoding import BadExampleError
from lmx.data.tokenizers.framing import FIRST, SECOND, Framing, Template, framing
from lmx.data.tokenizers.vocabulary import Tokenizer
from lmx.objectives.base import Arrays, ObjectiveContext


def as_encoded(fields: Mapping[str, np.ndarray], rng: np.random.Generator) -> Arrays:
  """The fields as they were encoded: nothing is random."""
  del rng
  return dict(fields)


def prepare_row(fields: Mapping[str, np.ndarray], rng: np.random.Generator) -> Arrays:
  """The fields, and a weight of 1 for the row (`loss_weights`, one value a row)."""
  del rng
  return {**fields, "loss_weights": np.array(1.0, np.float32)}


def next_token_fields(ids: np.ndarray, scored: np.ndarray) -> Arrays:
  """The pairs (token, next token) of a text.

  Args:
    ids: (n + 1,) the complete text.
    scored: (n + 1,) bool: tokens that the model has to predict. The first is never predicted.

  Returns:
    `tokens`, `targets`, `loss_weights`, each (n,).
  """
  ids = np.asarray(ids, np.int32)
  return {"tokens": ids[:-1], "targets": ids[1:], "loss_weights": scored[1:].astype(np.float32)}


def longest_first(sizes: tuple[int, ...], room: int) -> tuple[int, ...]:
  """How much of each text to keep so that together they fit, as `transformers` truncates ("longest_first").

  The longer of two gives way until they are equal; of an odd rest, the longer one (the second of two equal ones) has
  one token more.
  """
  if sum(sizes) <= room or len(sizes) == 1:
    return (min(sizes[0], room),) if len(sizes) == 1 else sizes
  first, second = sizes
  short, long = room // 2, room - room // 2
  if min(first, second) <= short:
    return (first, room - first) if first <= second else (room - second, second)
  return (long, short) if first > second else (short, long)


FRAMINGS = ("own", "document")


def find_framing(tokenizer: Tokenizer, architecture: str, name: str) -> Framing:
  """The special tokens around texts.

  Args:
    tokenizer: whose tokens they are.
    architecture: the model's family, as in `ObjectiveContext`.
    name: "own": those of the tokenizer's post-processor, exactly as `transformers` adds them. "document": [CLS] a [SEP]
      b [SEP] for an encoder, bos a sep b eos for a decoder, a eos for an encoder with a decoder, which is also what a
      tokenizer gets whose files say nothing, and an encoder whose tokenizer adds nothing. A tokenizer without [CLS]
      and [SEP] has the start and the end of a document in their place.
  """
  own = tokenizer.own_framing
  if name == "own" and own is not None and (own.added or architecture in ("transformer", "lstm")):
    return own
  if architecture == "encoder":
    return framing((tokenizer.cls_id,), (tokenizer.sep_id,), (tokenizer.sep_id,))
  if architecture == "encoder_decoder":
    return framing((), (tokenizer.sep_id,), (tokenizer.eos_id,))
  return framing((tokenizer.bos_id,), (tokenizer.sep_id,), (tokenizer.eos_id,))


@dataclasses.dataclass(frozen=True)
class Framed:
  """Texts with the special tokens around them.

  Attributes:
    fields: `tokens`, and `token_types` where the model has them: which of two texts a token belongs to.
    truncated: tokens that were cut off.
    places: (first, last + 1) position of each text in the row.
  """

  fields: Arrays
  truncated: int
  places: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Frame:
  """How one text or two become a row of at most `length` tokens.

  Attributes:
    framing: the special tokens.
    length: of a row.
    token_types: whether rows have the index of the text that a token belongs to.
  """

  framing: Framing
  length: int
  token_types: bool

  @classmethod
  def of(cls, context: ObjectiveContext) -> "Frame":
    """The frame of a run's model."""
    found = find_framing(context.tokenizer, context.architecture, context.framing)
    return cls(found, context.length, context.token_types > 1)

  def __call__(self, *texts: np.ndarray) -> Framed:
    """Frames one text or two; what doesn't fit is cut off at their ends, see `longest_first`.

    Raises:
      BadExampleError: a row has no room for any text.
    """
    template = self.framing.of(len(texts))
    room = self.length - template.added
    if room < len(texts):
      raise BadExampleError("a row has no room for text", f"config.data.length={self.length} tokens")
    kept = longest_first(tuple(map(len, texts)), room)
    cut = [text[:size] for text, size in zip(texts, kept, strict=True)]
    return Framed(self.fields(template, cut), sum(map(len, texts)) - sum(kept), places_of(template, kept))

  def fields(self, template: Template, texts: Sequence[np.ndarray]) -> Arrays:
    """`tokens`, and `token_types` where the model has them, of texts that fit."""
    tokens, types = template.fill(*texts)
    return {"tokens": tokens, **({"token_types": types} if self.token_types else {})}


def places_of(template: Template, sizes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
  """(first, last + 1) position in the row of each text of the given lengths."""
  begins = [template.before(text) + sum(sizes[:number]) for number, text in enumerate((FIRST, SECOND)[: len(sizes)])]
  return tuple((begin, begin + size) for begin, size in zip(begins, sizes, strict=True))
