# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Gemma 2 and 3 (text): norms before and after each sub-layer, soft-caps, windows in most layers, scaled embeddings."""

import math
from collections.abc import Mapping
from typing import Any

from lmx.hf.families.common import ATTENTION, BUFFERS, DECODER_LINES, GELU_TANH, MLP, TABLES, decoder_heads
from lmx.hf.family import Family, norm
from lmx.hf.rope import Rope, TwoRopes, Windows
from lmx.hf.settings import Always, HFConfig, Keys, Line, Only, Same

_LAYER = "layers.{layer}."
_NORMS = (
  *norm("layers.attention_norm", _LAYER + "input_layernorm"),
  *norm("layers.attention_output_norm", _LAYER + "post_attention_layernorm"),
  *norm("layers.mlp_norm", _LAYER + "pre_feedforward_layernorm"),
  *norm("layers.mlp_output_norm", _LAYER + "post_feedforward_layernorm"),
)


class _Scales:
  """Embeddings times sqrt(width); scores times 1 / sqrt(query_pre_attn_scalar)."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    ours["embedding_scale"] = math.sqrt(ours["width"])
    scalar = theirs.take("query_pre_attn_scalar", 256, float, nullable=False)
    if scalar <= 0:
      raise theirs.refuse("query_pre_attn_scalar", scalar, "a number above 0")
    ours["attention_scale"] = scalar**-0.5

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    scale = ours["attention_scale"] or ours["head_width"] ** -0.5
    inverse = round(scale**-2, 6)
    theirs["query_pre_attn_scalar"] = int(inverse) if inverse == int(inverse) else inverse


_SHARED: tuple[Line, ...] = (
  *DECODER_LINES,
  Always({"norm": "zero_centered_rmsnorm", "norm_position": "sandwich", "mlp_bias": False}),
  Same("tie_word_embeddings", "tied", True),
  Same("num_key_value_heads", "kv_heads", 4),
  Same("head_dim", "head_width", 256),
  Same("hidden_activation", "activation", "gelu_pytorch_tanh", GELU_TANH),
  Same("attention_bias", "attention_bias", False),
  _Scales(),
  Only("use_bidirectional_attention", (None, False)),
)

GEMMA2 = Family(
  name="gemma2",
  lines=(
    *_SHARED,
    Same("attn_logit_softcapping", "attention_softcap", 50.0, null=True),
    Same("final_logit_softcapping", "logits_softcap", 30.0, null=True),
    Windows(layered=True, every=2, window=4096),
    Rope(),
  ),
  prefix="model.",
  backbone=(*TABLES, *ATTENTION, *MLP, *_NORMS),
  heads=decoder_heads("Gemma2"),
  ignored=BUFFERS,
)
GEMMA3 = Family(
  name="gemma3_text",
  lines=(
    *_SHARED,
    Always({"qk_norm": "head", "attention_softcap": None}),
    Only("attn_logit_softcapping", (None,)),  # No published model sets it, and transformers 5 ignores it.
    Same("final_logit_softcapping", "logits_softcap", None),
    Windows(layered=True, every=6, pattern="sliding_window_pattern", window=4096),
    TwoRopes("rope_theta", "rope_local_base_freq", 1_000_000.0),
  ),
  prefix="model.",
  backbone=(*TABLES, *ATTENTION, *MLP, *_NORMS),
  heads=decoder_heads("Gemma3", bare="Gemma3TextModel"),
  ignored=BUFFERS,
)
