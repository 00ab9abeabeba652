# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What objectives over examples share: framing texts for a model, cutting them to fit, preparing what was encoded."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from lmx.data.encoding import BadExampleError
from lmx.objectives.base import Arrays, Setting


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
    ids: (n + 1,) the whole text.
    scored: (n + 1,) bool: tokens that the model has to predict. The first is never predicted.

  Returns:
    `tokens`, `targets`, `loss_weights`, each (n,).
  """
  ids = np.asarray(ids, np.int32)
  return {"tokens": ids[:-1], "targets": ids[1:], "loss_weights": scored[1:].astype(np.float32)}


def longest_first(sizes: tuple[int, ...], room: int) -> tuple[int, ...]:
  """How much of each text to keep so that together they fit: the longer one gives way until they are equal."""
  if sum(sizes) <= room or len(sizes) == 1:
    return (min(sizes[0], room),) if len(sizes) == 1 else sizes
  first, second = sizes
  half = room // 2
  if first <= half:
    return first, room - first
  return (room - second, second) if second <= half else (room - half, half)


@dataclasses.dataclass(frozen=True)
class Framed:
  """Texts with the special tokens around them.

  Attributes:
    fields: `tokens`, and `token_types` where the model has them: 0 for the first text, 1 for the second.
    truncated: tokens that were cut off.
  """

  fields: Arrays
  truncated: int


@dataclasses.dataclass(frozen=True)
class Frame:
  """How one text or two become a row: [CLS] a [SEP] b [SEP] for an encoder, bos a sep b eos for a decoder.

  A tokenizer without [CLS] and [SEP] has the start and the end of a document in their place.
  """

  start: int
  between: int
  end: int
  length: int
  token_types: bool

  @classmethod
  def of(cls, setting: Setting) -> "Frame":
    """The frame of a model's family."""
    tokenizer = setting.tokenizer
    if setting.architecture == "encoder":
      ends = (tokenizer.cls_id, tokenizer.sep_id, tokenizer.sep_id)
    else:
      ends = (tokenizer.bos_id, tokenizer.sep_id, tokenizer.eos_id)
    return cls(*ends, setting.length, setting.token_types > 1)

  def __call__(self, *texts: np.ndarray) -> Framed:
    """Frames one text or two; what doesn't fit is cut off at their ends, from the longer one first.

    Raises:
      BadExampleError: a row has no room for any text.
    """
    room = self.length - 1 - len(texts)
    if room < len(texts):
      raise BadExampleError("a row has no room for text", f"config.data.length={self.length} tokens")
    kept = longest_first(tuple(map(len, texts)), room)
    marks = [self.start, *[self.between] * (len(texts) - 1), self.end]
    parts = [np.array(marks[:1], np.int32)]
    types = [np.zeros(1, np.int32)]
    for index, (text, size) in enumerate(zip(texts, kept, strict=True)):
      parts.append(np.append(text[:size], marks[index + 1]).astype(np.int32))
      types.append(np.full(size + 1, index, np.int32))
    fields = {"tokens": np.concatenate(parts)}
    if self.token_types:
      fields["token_types"] = np.concatenate(types)
    return Framed(fields, sum(map(len, texts)) - sum(kept))
