# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Gemma 2 and 3 (text): norms before and after each part, soft-caps, windows in most layers, scaled embeddings."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from lmx.hf.families.common import ATTENTION, BUFFERS, DECODER_LINES, GELU_TANH, MLP, TABLES, decoder_heads
from lmx.hf.family import Family, norm
from lmx.hf.rope import Rope, Windows, one_theta, read_rope_scaling, rope_scaling
from lmx.hf.settings import Always, Keys, Line, Only, Same, Settings, same

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
    scalar = theirs.take("query_pre_attn_scalar", 256, float, nullable=False)
    if scalar <= 0:
      raise theirs.refuse("query_pre_attn_scalar", scalar, "a number above 0")
    ours["attention_scale"] = scalar**-0.5

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    scale = ours["attention_scale"] or ours["head_width"] ** -0.5
    inverse = round(scale**-2, 6)
    theirs["query_pre_attn_scalar"] = int(inverse) if inverse == int(inverse) else inverse


@dataclasses.dataclass(frozen=True)
class _TwoRopes:
  """A base for layers with a window, another with scaling for the others, under the older and the newer keys."""

  def read(self, theirs: Settings, ours: Keys) -> None:
    ours["position"] = "rotary"
    given = dict(theirs.take("rope_parameters", None, dict) or {})
    near, far = (self._layers(theirs, given, f"{kind}_attention") for kind in ("sliding", "full"))
    if given:
      raise theirs.refuse("rope_parameters", given, "full_attention and sliding_attention, with an object each")
    for key, value in (theirs.take("rope_scaling", None, dict) or {}).items():
      if value is not None and not same(far.setdefault(key, value), value) and far.get("rope_type") != "default":
        raise theirs.refuse(f"rope_scaling.{key}", value, f"{far[key]!r} as in rope_parameters.full_attention")
      far |= {} if value is None else {key: value}
    inside = "rope_parameters.{}_attention.rope_theta"
    outer = {"rope_theta": theirs.take("rope_theta", None, float)}
    ours["rope_theta"] = one_theta(theirs, 1_000_000.0, {inside.format("full"): far.get("rope_theta")} | outer)
    outer = {"rope_local_base_freq": theirs.take("rope_local_base_freq", None, float)}
    local = one_theta(theirs, _LOCAL_THETA, {inside.format("sliding"): near.get("rope_theta")} | outer)
    ours["rope_local_theta"] = local if ours["window"] else None
    if near.get("rope_type", "default") != "default":
      raise theirs.refuse("rope_parameters.sliding_attention.rope_type", near["rope_type"], ["default"])
    read_rope_scaling(theirs, "rope_parameters.full_attention", far, ours)

  @staticmethod
  def _layers(theirs: Settings, given: Keys, kind: str) -> Keys:
    """What rope_parameters says of one kind of layers, taken out of it."""
    values = given.pop(kind, None)
    theirs.check(f"rope_parameters.{kind}", values, dict)
    return {name: value for name, value in (values or {}).items() if value is not None}

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs["rope_theta"] = ours["rope_theta"]
    theirs["rope_local_base_freq"] = ours["rope_local_theta"] or _LOCAL_THETA
    theirs["rope_scaling"] = rope_scaling(ours)
    theirs["rope_parameters"] = {
      "full_attention": {"rope_theta": ours["rope_theta"], **(rope_scaling(ours) or {"rope_type": "default"})},
      "sliding_attention": {"rope_theta": theirs["rope_local_base_freq"], "rope_type": "default"},
    }


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
