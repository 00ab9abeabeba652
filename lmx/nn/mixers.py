# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table of sequence mixers: a value of config.model.mixer -> all that lmx needs of it."""

from lmx.nn.attention import attention
from lmx.nn.layers import mamba2
from lmx.nn.mixer import MixerSpec

MIXERS: dict[str, MixerSpec] = {
  "attention": attention.ROW,
  "mamba2": mamba2.ROW,
}
