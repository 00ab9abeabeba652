# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a general-purpose compressor makes of the same text: a yardstick for bits per byte that everyone has."""

import dataclasses
import lzma

LIMIT = 8_000_000  # Bytes that are compressed at the start of a run: some seconds of one core.


def xz_bits_per_byte(text: bytes) -> float:
  """Bits per byte of `text` compressed by xz at its strongest setting (preset 9, extreme), container included.

  xz sees the held-out text only, as one stream, and adapts to it; a language model has learnt from the training text
  and keeps fixed parameters. The two numbers are the length of the same text in two codes.

  Raises:
    ValueError: the text is empty.
  """
  if not text:
    raise ValueError("no text to compress")
  return 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)


@dataclasses.dataclass(frozen=True)
class Baseline:
  """A yardstick: what it is, for a legend, and its bits per byte."""

  label: str
  bits_per_byte: float


def xz_baseline(text: bytes, limit: int = LIMIT) -> Baseline | None:
  """What xz reaches on the text, or on the beginning of a long one, and says so; None without any text."""
  if not text:
    return None
  part = "the held-out text" if len(text) <= limit else f"the first {limit / 1e6:g} MB of the held-out text"
  return Baseline(f"xz on {part}", xz_bits_per_byte(text[:limit]))
