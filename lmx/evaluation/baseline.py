# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A baseline for bits per byte: a general-purpose compressor on the same text."""

import dataclasses
import lzma

LIMIT = 8_000_000  # Bytes that are compressed at the start of a run; takes a few seconds on one core.


def xz_bits_per_byte(text: bytes) -> float:
  """Bits per byte of `text` compressed by xz at its strongest setting (preset 9, extreme), container included.

  xz adapts to the validation text and sees nothing else; a language model has fixed parameters, learned from the
  training text. Both numbers are code lengths of the same text.

  Raises:
    ValueError: the text is empty.

  Examples:
    >>> from lmx.evaluation.baseline import xz_bits_per_byte
    >>> xz_bits_per_byte(b"to be, or not to be. " * 1000) < 0.1
    True
  """
  if not text:
    raise ValueError("no text to compress")
  return 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)


@dataclasses.dataclass(frozen=True)
class Baseline:
  """A baseline: its label in a legend, and its bits per byte."""

  label: str
  bits_per_byte: float


def xz_baseline(text: bytes, limit: int = LIMIT) -> Baseline | None:
  """The bits per byte of xz on the text, or on its first `limit` bytes; None for an empty text."""
  if not text:
    return None
  part = "the validation text" if len(text) <= limit else f"the first {limit / 1e6:g} MB of the validation text"
  return Baseline(f"xz on {part}", xz_bits_per_byte(text[:limit]))
