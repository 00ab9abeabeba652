# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""T5 and T5 v1.1: buckets of relative positions, unscaled scores, RMSNorm, a gated MLP in v1.1."""

from collections.abc import Mapping
from typing import Any

from lmx.hf.family import Family, HeadMap, Rule, norm, tensor
from lmx.hf.settings import Always, HFConfig, Keys, Only, Same, same

# feed_forward_proj -> dense_act_fn and is_gated_act, as transformers' T5Config derives them.
_PARTS = {"relu": ("relu", False), "gated-gelu": ("gelu_new", True), "gated-silu": ("silu", True),
          "gelu": ("gelu", False)}  # fmt: skip
_ACTIVATIONS = {"relu": "relu", "gated-gelu": "geglu", "gated-silu": "swiglu", "gelu": "gelu"}


def _attention(ours: str, theirs: str) -> tuple[Rule, ...]:
  return (
    *tensor(f"{ours}.query.kernel", f"{theirs}.q.weight", "(h k) d -> d h k"),
    *tensor(f"{ours}.key.kernel", f"{theirs}.k.weight", "(g k) d -> d g k"),
    *tensor(f"{ours}.value.kernel", f"{theirs}.v.weight", "(g k) d -> d g k"),
    *tensor(f"{ours}.out.kernel", f"{theirs}.o.weight", "d (h k) -> h k d"),
  )


def _stack(side: str, parts: int) -> tuple[Rule, ...]:
  """The rows of one side; a layer has `parts` sub-layers, and the MLP is the last of them."""
  ours, layer = f"{side}.layers", f"{side}.block.{{layer}}.layer."
  mlp = f"{layer}{parts - 1}.DenseReluDense"
  table = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
  return (
    *_attention(f"{ours}.attention", f"{layer}0.SelfAttention"),
    *norm(f"{ours}.attention_norm", f"{layer}0.layer_norm"),
    *tensor(f"{ours}.mlp.gate.kernel", f"{mlp}.wi_0.weight", "f d -> d f"),
    *tensor(f"{ours}.mlp.up.kernel", f"{mlp}.wi_1.weight", "f d -> d f", requires=f"{ours}.mlp.gate.kernel"),
    *tensor(f"{ours}.mlp.up.kernel", f"{mlp}.wi.weight", "f d -> d f"),
    *tensor(f"{ours}.mlp.down.kernel", f"{mlp}.wo.weight", "d f -> f d"),
    *norm(f"{ours}.mlp_norm", f"{layer}{parts - 1}.layer_norm"),
    *norm(f"{side}.final_norm", f"{side}.final_layer_norm"),
    *tensor(f"{side}.relative_embedding.embedding", table, "b h -> b h"),
  )


_BACKBONE = (
  *tensor("token_embedding.embedding", "shared.weight", "v d -> v d"),
  *_stack("encoder", 2),
  *_stack("decoder", 3),
  *_attention("decoder.layers.cross_attention", "decoder.block.{layer}.layer.1.EncDecAttention"),
  *norm("decoder.layers.cross_attention_norm", "decoder.block.{layer}.layer.1.layer_norm"),
)


class _Output:
  """Logits of a tied table are scaled by 1 / sqrt(width); v1.1 has a separate output table, and doesn't scale."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    ours["tied"] = theirs.take("tie_word_embeddings", True, bool, nullable=False)
    scaled = theirs.take("scale_decoder_outputs", ours["tied"], bool, nullable=False)
    ours["logits_scale"] = ours["width"] ** -0.5 if scaled else 1.0

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs["tie_word_embeddings"] = ours["tied"]
    theirs["scale_decoder_outputs"] = ours["logits_scale"] != 1.0


class _Layers:
  """num_layers and num_decoder_layers; the second defaults to the first."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    Same("num_layers", "encoder_layers", 6).read(theirs, ours)
    decoders = theirs.take("num_decoder_layers", None)
    theirs.values["num_decoder_layers"] = ours["encoder_layers"] if decoders is None else decoders
    Same("num_decoder_layers", "layers").read(theirs, ours)

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs |= {"num_layers": ours["encoder_layers"], "num_decoder_layers": ours["layers"]}


class _Activation:
  """feed_forward_proj; newer files repeat it as dense_act_fn and is_gated_act, which must agree with it."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    Same("feed_forward_proj", "activation", "relu", _ACTIVATIONS).read(theirs, ours)
    word = theirs.take("feed_forward_proj", "relu")
    function, gated = _PARTS[word]
    for key, value in (("dense_act_fn", function), ("is_gated_act", gated)):
      if not same(given := theirs.take(key, value), value):
        raise theirs.refuse(key, given, f"{value!r}, by feed_forward_proj = {word!r}")

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    Same("feed_forward_proj", "activation", "relu", _ACTIVATIONS).write(ours, theirs)


T5 = Family(
  name="t5",
  lines=(
    Always({"family": "encoder_decoder", "position": "relative", "norm": "rmsnorm", "norm_bias": False,
            "norm_position": "pre", "attention_bias": False, "mlp_bias": False, "attention_scale": 1.0}),
    _Layers(),
    Same("d_model", "width", 512),
    Same("num_heads", "heads", 8),
    Same("d_kv", "head_width", 64),
    Same("d_ff", "mlp_width", 2048),
    Same("relative_attention_num_buckets", "relative_buckets", 32),
    Same("relative_attention_max_distance", "relative_distance", 128),
    Same("layer_norm_epsilon", "norm_eps", 1e-6),
    Same("dropout_rate", "dropout", 0.1),
    _Activation(),
    _Output(),
    Same("n_positions", "context", 512),
    Only("is_decoder", (False,)),
  ),
  prefix="",
  backbone=_BACKBONE,
  heads={
    "language": HeadMap(
      ("T5ForConditionalGeneration",), tensor("unembedding.kernel", "lm_head.weight", "v d -> v d")
    ),
    "embedding": HeadMap(("T5Model",), bare=True),
  },
  aliases={"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers",
           "head_dim": "d_kv"},
  copies={"encoder.embed_tokens.weight": "shared.weight", "decoder.embed_tokens.weight": "shared.weight"},
  # The first files of v1.1 have this table, which cross-attention doesn't use.
  ignored=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
)  # fmt: skip
