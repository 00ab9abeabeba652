# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Mamba-2: blocks without an MLP, whose input projection and convolution each hold several of our parameters."""

from collections.abc import Mapping
from typing import Any

from lmx.hf.family import Family, HeadMap, norm, tensor
from lmx.hf.settings import Also, Always, HFConfig, Keys, Only, Same

_MIXER, _OURS = "layers.{layer}.mixer.", "layers.attention."
_IN, _CONV = _MIXER + "in_proj.weight", _MIXER + "conv1d."
_TRAINED = 2048  # Sequence length that the published models were trained with; the model itself has no limit.


class _Inner:
  """num_heads: heads times head width must be the inner width."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    heads, inner = theirs.take("num_heads", 128, int, nullable=False), ours["mamba_expand"] * ours["width"]
    if heads * ours["mamba_head_width"] != inner:
      raise theirs.refuse("num_heads", heads, [inner // ours["mamba_head_width"]])

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs["num_heads"] = ours["mamba_expand"] * ours["width"] // ours["mamba_head_width"]


class _StepLimit:
  """time_step_limit: lmx has no limit, which files write as infinity in either of two JSON spellings."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    given = theirs.take("time_step_limit", None)
    known = (None, [0.0, float("inf")], [0.0, {"__float__": "Infinity"}])
    if given not in known:
      raise theirs.refuse("time_step_limit", given, "[0.0, Infinity]")

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    pass  # It is their default.


MAMBA2 = Family(
  name="mamba2",
  lines=(
    Always({"family": "transformer", "mixer": "mamba2", "position": "none", "norm": "rmsnorm", "norm_bias": False,
            "norm_position": "pre", "heads": 1, "mlp_width": 0, "context": _TRAINED}),
    Same("num_hidden_layers", "layers", 64),
    Same("hidden_size", "width", 4096),
    Same("head_dim", "mamba_head_width", 64),
    Same("state_size", "mamba_state", 128),
    Same("expand", "mamba_expand", 2),
    Same("n_groups", "mamba_groups", 8),
    Same("conv_kernel", "mamba_conv", 4),
    Same("layer_norm_epsilon", "norm_eps", 1e-5),
    Same("tie_word_embeddings", "tied", False),
    _Inner(),
    _StepLimit(),
    Also("chunk_size", "mamba_chunk"),
    Only("hidden_act", ("silu", "swish")),
    Only("use_bias", (False,)),
    Only("use_conv_bias", (True,)),
  ),
  prefix="backbone.",
  backbone=(
    *tensor("token_embedding.embedding", "embeddings.weight", "v d -> v d"),
    *norm("layers.attention_norm", "layers.{layer}.norm"),
    *norm("final_norm", "norm_f"),
    *tensor(_OURS + "gate.kernel", _IN, "(h p) d -> d h p", along=0),
    *tensor(_OURS + "value.kernel", _IN, "(h p) d -> d h p", along=0),
    *tensor(_OURS + "write.kernel", _IN, "(g s) d -> d g s", along=0),
    *tensor(_OURS + "read.kernel", _IN, "(g s) d -> d g s", along=0),
    *tensor(_OURS + "step.kernel", _IN, "h d -> d h", along=0),
    *tensor(_OURS + "value_conv.kernel", _CONV + "weight", "(h p) 1 w -> w h p", along=0),
    *tensor(_OURS + "write_conv.kernel", _CONV + "weight", "(g s) 1 w -> w g s", along=0),
    *tensor(_OURS + "read_conv.kernel", _CONV + "weight", "(g s) 1 w -> w g s", along=0),
    *tensor(_OURS + "value_conv.bias", _CONV + "bias", "(h p) -> h p", along=0),
    *tensor(_OURS + "write_conv.bias", _CONV + "bias", "(g s) -> g s", along=0),
    *tensor(_OURS + "read_conv.bias", _CONV + "bias", "(g s) -> g s", along=0),
    *tensor(_OURS + "step.bias", _MIXER + "dt_bias", "h -> h"),
    *tensor(_OURS + "log_rate.scale", _MIXER + "A_log", "h -> h"),
    *tensor(_OURS + "skip.scale", _MIXER + "D", "h -> h"),
    *tensor(_OURS + "norm.scale", _MIXER + "norm.weight", "(h p) -> h p"),
    *tensor(_OURS + "out.kernel", _MIXER + "out_proj.weight", "d (h p) -> h p d"),
  ),
  heads={
    "language": HeadMap(("Mamba2ForCausalLM",), tensor("unembedding.kernel", "lm_head.weight", "v d -> v d")),
    "embedding": HeadMap(("Mamba2Model",), bare=True),
  },
  unadapted=(r".*\.mixer\.(out_proj|conv1d)",),  # Fused kernels read these weights without calling the module.
  renamed=((r"^backbone\.embedding\.weight$", "backbone.embeddings.weight"),),
)  # fmt: skip
