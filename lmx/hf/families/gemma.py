# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Gemma 2 and 3 (text): norms before and after each part, soft-caps, windows in most layers, scaled embeddings."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from lmx.hf.families.common import ATTENTION, BUFFERS, DECODER_LINES, GELU_TANH, MLP, TABLES, decoder_heads
from lmx.hf.family import Family, norm
from lmx.hf.settings import Always, Keys, Line, Only, Rope, Same, Settings, Windows, read_rope_scaling, rope_scaling

_LAYER = "layers.{layer}."
_LOCAL_THETA = 10_000.0  # Gemma 3's.
_NORMS = (
  *norm("layers.attention_norm", _LAYER + "input_layernorm"),
  *norm("layers.attention_output_norm", _LAYER + "post_attention_layernorm"),
  *norm("layers.mlp_norm", _LAYER + "pre_feedforward_layernorm"),
  *norm("layers.mlp_output_norm", _LAYER + "post_feedforward_layernorm"),
)


class _Scales:
  """Embeddings times sqrt(width); scores times 1 / sqrt(query_pre_attn_scalar)."""

  def read(self, theirs: Settings, ours: Keys) -> None:
    ours["embedding_scale"] = math.sqrt(ours["width"])
    ours["attention_scale"] = theirs.take("query_pre_attn_scalar", 256) ** -0.5

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    scale = ours["attention_scale"] or ours["head_width"] ** -0.5
    inverse = round(scale**-2, 6)
    theirs["query_pre_attn_scalar"] = int(inverse) if inverse == int(inverse) else inverse


@dataclasses.dataclass(frozen=True)
class _TwoRopes:
  """A base for layers with a window, another with scaling for the others, under the older and the newer keys."""

  def read(self, theirs: Settings, ours: Keys) -> None:
    ours["position"] = "rotary"
    given = theirs.take("rope_parameters", None) or {}
    layered = "full_attention" in given or "sliding_attention" in given
    near = dict(given.get("sliding_attention") or {}) if layered else {}
    far = dict(given.get("full_attention") or {}) if layered else dict(given)
    far |= theirs.take("rope_scaling", None) or {}
    theta, local = theirs.take("rope_theta", None), theirs.take("rope_local_base_freq", None)
    ours["rope_theta"] = float(far.pop("rope_theta", None) or theta or 1_000_000.0)
    local = float(near.pop("rope_theta", None) or local or _LOCAL_THETA)
    ours["rope_local_theta"] = local if ours["window"] else None
    if near.get("rope_type", "default") != "default":
      raise theirs.refuse("rope_parameters.sliding_attention.rope_type", near["rope_type"], ["default"])
    read_rope_scaling(theirs, far, ours)

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs["rope_theta"] = ours["rope_theta"]
    theirs["rope_local_base_freq"] = ours["rope_local_theta"] or _LOCAL_THETA
    theirs["rope_scaling"] = rope_scaling(ours)


_SHARED: tuple[Line, ...] = (
  *DECODER_LINES,
  Always({"norm": "zero_centered_rmsnorm", "norm_position": "sandwich", "mlp_bias": False}),
  Same("tie_word_embeddings", "tied", True),
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
    Same("attn_logit_softcapping", "attention_softcap", 50.0),
    Same("final_logit_softcapping", "logits_softcap", 30.0),
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
    Only("attn_logit_softcapping", (None,)),  # No model has one, and transformers 5 leaves it out of the computation.
    Same("final_logit_softcapping", "logits_softcap", None),
    Windows(layered=True, every=6, pattern="sliding_window_pattern", window=4096),
    _TwoRopes(),
  ),
  prefix="model.",
  backbone=(*TABLES, *ATTENTION, *MLP, *_NORMS),
  heads=decoder_heads("Gemma3"),
  ignored=BUFFERS,
)
