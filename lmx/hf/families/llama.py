# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Llama 2 and 3, and Mistral, which is a Llama with a sliding window."""

from lmx.hf.families.common import BUFFERS, DECODER, DECODER_LINES, SILU, decoder_heads
from lmx.hf.family import Family
from lmx.hf.rope import Rope, Windows
from lmx.hf.settings import Always, Same

_SILU = Same("hidden_act", "activation", "silu", SILU)

LLAMA = Family(
  name="llama",
  lines=(
    *DECODER_LINES,
    _SILU,
    Same("attention_bias", "attention_bias", False),
    Same("mlp_bias", "mlp_bias", False),
    Rope(),
  ),
  prefix="model.",
  backbone=DECODER,
  heads=decoder_heads("Llama"),
  ignored=BUFFERS,
)
MISTRAL = Family(
  name="mistral",
  lines=(
    *DECODER_LINES,
    Always({"attention_bias": False, "mlp_bias": False}),
    _SILU,
    Same("num_key_value_heads", "kv_heads", 8),
    Windows(window=4096),
    Rope(),
  ),
  prefix="model.",
  backbone=DECODER,
  heads=decoder_heads("Mistral"),
  ignored=BUFFERS,
)
