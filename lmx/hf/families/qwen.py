# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Qwen 2 and 3, dense and as a mixture of experts, and Mixtral, whose experts have other names."""

from lmx.hf.families.common import ATTENTION, BUFFERS, DECODER, DECODER_LINES, PRE_NORMS, SILU, TABLES, decoder_heads
from lmx.hf.family import Family, Rule, linear, tensor
from lmx.hf.rope import Rope, Windows
from lmx.hf.settings import Also, Always, Line, Only, Same

_LAYER = "layers.{layer}."
_SILU = Same("hidden_act", "activation", "silu", SILU)
_KV_HEADS = Same("num_key_value_heads", "kv_heads", 32, null=True)
_NO_MLP_BIAS = Always({"mlp_bias": False})
_QWEN_WINDOWS = Windows(switch="use_sliding_window", layered=True, full_first=True, window=4096)
_QKV_BIAS = Always({"attention_bias": True, "attention_out_bias": False})


def _experts(theirs: str, gate: str, up: str, down: str) -> tuple[Rule, ...]:
  """Rows of the router and the experts: they have one matrix per layer and expert, ours are stacked."""
  return (
    *linear("layers.mlp.router", f"{theirs}.gate", "e d -> d e", "e -> e"),
    *tensor("layers.mlp.experts.gate.kernel", f"{theirs}.experts.{{expert}}.{gate}.weight", "f d -> d f"),
    *tensor("layers.mlp.experts.up.kernel", f"{theirs}.experts.{{expert}}.{up}.weight", "f d -> d f"),
    *tensor("layers.mlp.experts.down.kernel", f"{theirs}.experts.{{expert}}.{down}.weight", "d f -> f d"),
  )


_EXPERT_MODULES = (
  r".*\.mlp\.(gate|experts\..*)",
)  # transformers has one array for all experts, and a router that is no Linear.
_QWEN_EXPERTS = _experts(_LAYER + "mlp", "gate_proj", "up_proj", "down_proj")
_SHARED = (
  *tensor("layers.mlp.shared.gate.kernel", _LAYER + "mlp.shared_expert.gate_proj.weight", "f d -> d f"),
  *tensor("layers.mlp.shared.up.kernel", _LAYER + "mlp.shared_expert.up_proj.weight", "f d -> d f"),
  *tensor("layers.mlp.shared.down.kernel", _LAYER + "mlp.shared_expert.down_proj.weight", "d f -> f d"),
  *tensor("layers.mlp.shared_gate.kernel", _LAYER + "mlp.shared_expert_gate.weight", "o d -> d o"),
)
_EVERY_LAYER: tuple[Line, ...] = (
  Only("decoder_sparse_step", (1,)),
  Only("mlp_only_layers", ([], None)),
  Same("moe_intermediate_size", "expert_width"),
  Also("router_aux_loss_coef", "load_balance"),
  Same("norm_topk_prob", "normalize_experts", False),
)

QWEN2 = Family(
  name="qwen2",
  lines=(*DECODER_LINES, _KV_HEADS, _NO_MLP_BIAS, _QKV_BIAS, _SILU, _QWEN_WINDOWS, Rope()),
  prefix="model.",
  backbone=DECODER,
  heads=decoder_heads("Qwen2"),
  ignored=BUFFERS,
)
QWEN3 = Family(
  name="qwen3",
  lines=(
    *DECODER_LINES,
    _KV_HEADS,
    _NO_MLP_BIAS,
    Always({"qk_norm": "head"}),
    Same("head_dim", "head_width", 128),
    Same("attention_bias", "attention_bias", False),
    _SILU,
    _QWEN_WINDOWS,
    Rope(),
  ),
  prefix="model.",
  backbone=DECODER,
  heads=decoder_heads("Qwen3"),
  ignored=BUFFERS,
)
QWEN2_MOE = Family(
  name="qwen2_moe",
  lines=(
    *DECODER_LINES,
    *_EVERY_LAYER,
    _NO_MLP_BIAS,
    Same("num_key_value_heads", "kv_heads", 16),
    Same("qkv_bias", "attention_bias", True),
    Always({"attention_out_bias": False}),
    Same("num_experts", "experts", 60),
    Same("num_experts_per_tok", "experts_per_token", 4),
    Same("shared_expert_intermediate_size", "shared_expert_width", 5632),
    _SILU,
    Windows(switch="use_sliding_window", layered=True, every=2, full_last=True, window=4096),
    Rope(),
  ),
  prefix="model.",
  backbone=(*TABLES, *ATTENTION, *PRE_NORMS, *_QWEN_EXPERTS, *_SHARED),
  heads=decoder_heads("Qwen2Moe"),
  ignored=BUFFERS,
  unadapted=_EXPERT_MODULES,
)
QWEN3_MOE = Family(
  name="qwen3_moe",
  lines=(
    *DECODER_LINES,
    *_EVERY_LAYER,
    _NO_MLP_BIAS,
    Same("num_key_value_heads", "kv_heads", 4),
    Always({"qk_norm": "head", "shared_expert_width": None}),
    Same("attention_bias", "attention_bias", False),
    Same("num_experts", "experts", 128),
    Same("num_experts_per_tok", "experts_per_token", 8),
    _SILU,
    Windows(switch="use_sliding_window", window=4096),
    Rope(),
  ),
  prefix="model.",
  backbone=(*TABLES, *ATTENTION, *PRE_NORMS, *_QWEN_EXPERTS),
  heads=decoder_heads("Qwen3Moe"),
  ignored=BUFFERS,
  unadapted=_EXPERT_MODULES,
  aliases={"num_local_experts": "num_experts"},
)
MIXTRAL = Family(
  name="mixtral",
  lines=(
    *DECODER_LINES,
    _NO_MLP_BIAS,
    Always({"attention_bias": False, "normalize_experts": True, "shared_expert_width": None}),
    Same("num_key_value_heads", "kv_heads", 8),
    Same("num_local_experts", "experts", 8),
    Same("num_experts_per_tok", "experts_per_token", 2),
    Also("router_aux_loss_coef", "load_balance"),
    Only("router_jitter_noise", (0.0, 0)),
    _SILU,
    Same("rms_norm_eps", "norm_eps", 1e-5),
    Windows(),
    Rope(1_000_000.0),
  ),
  prefix="model.",
  backbone=(*TABLES, *ATTENTION, *PRE_NORMS, *_experts(_LAYER + "block_sparse_moe", "w1", "w3", "w2")),
  heads=decoder_heads("Mixtral"),
  ignored=BUFFERS,
  unadapted=(r".*\.block_sparse_moe\..*",),
  aliases={"num_experts": "num_local_experts"},
)
