# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""OLMo 2: norms on each sub-layer's output, and QK norms over all heads of a token at once."""

from lmx.hf.families.common import ATTENTION, BUFFERS, DECODER_LINES, MLP, SILU, TABLES, decoder_heads
from lmx.hf.family import Family, norm
from lmx.hf.rope import Rope
from lmx.hf.settings import Always, Same

_LAYER = "layers.{layer}."

OLMO2 = Family(
  name="olmo2",
  lines=(
    *DECODER_LINES,
    Always({"norm_position": "output", "qk_norm": "width", "mlp_bias": False}),
    Same("hidden_act", "activation", "silu", SILU),
    Same("attention_bias", "attention_bias", False),
    Same("rms_norm_eps", "norm_eps", 1e-5),
    Rope(),
  ),
  prefix="model.",
  backbone=(
    *TABLES,
    *ATTENTION,
    *MLP,
    *norm("layers.attention_output_norm", _LAYER + "post_attention_layernorm"),
    *norm("layers.mlp_output_norm", _LAYER + "post_feedforward_layernorm"),
  ),
  heads={name: head for name, head in decoder_heads("Olmo2").items() if name in ("language", "embedding")},
  ignored=BUFFERS,
)
