# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a general-purpose compressor makes of the same text: a yardstick for bits per byte that everyone has."""

import lzma


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
