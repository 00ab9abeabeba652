# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Marian, the architecture of the OPUS translation models: the post-norm Transformer with sinusoidal positions."""

import math
from collections.abc import Mapping
from typing import Any

from lmx.hf.families.common import attention, mlp
from lmx.hf.family import Family, HeadMap, Rule, norm, tensor
from lmx.hf.settings import REQUIRED, Also, Always, HFConfig, Keys, Only, Same

_ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "swish": "silu", "silu": "silu", "gelu_new": "gelu_tanh"}


def _stack(side: str) -> tuple[Rule, ...]:
  ours, layer = f"{side}.layers", f"model.{side}.layers.{{layer}}."
  return (
    *attention(f"{ours}.attention", layer + "self_attn", out="out_proj"),
    *norm(f"{ours}.attention_norm", layer + "self_attn_layer_norm"),
    *mlp(f"{ours}.mlp", layer, gate="", up="fc1", down="fc2"),
    *norm(f"{ours}.mlp_norm", layer + "final_layer_norm"),
  )


class _EmbeddingScale:
  """scale_embedding: whether embeddings are multiplied by sqrt(width)."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    ours["embedding_scale"] = (
      math.sqrt(ours["width"]) if theirs.take("scale_embedding", False, bool, nullable=False) else 1.0
    )

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs["scale_embedding"] = ours["embedding_scale"] != 1.0


class _OneVocabulary:
  """decoder_vocab_size: must equal vocab_size, since both sides share one table."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    size, other = theirs.take("vocab_size", None), theirs.take("decoder_vocab_size", None, int)
    if other is not None and size is not None and other != size:
      raise theirs.refuse("decoder_vocab_size", other, f"{size!r}, the vocab_size")

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    pass  # It is their default.


class _BothSides:
  """A key that the encoder and the decoder have separately, and that lmx has once: both must be equal."""

  def __init__(self, theirs: str, ours: str):
    self.theirs, self.ours = theirs, ours

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    ours[self.ours] = theirs.take(f"decoder_{self.theirs}", REQUIRED, int, nullable=False)
    if (other := theirs.take(f"encoder_{self.theirs}", REQUIRED, int, nullable=False)) != ours[self.ours]:
      raise theirs.refuse(f"encoder_{self.theirs}", other, [ours[self.ours]])

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs |= dict.fromkeys((f"encoder_{self.theirs}", f"decoder_{self.theirs}"), ours[self.ours])


MARIAN = Family(
  name="marian",
  lines=(
    Always({"family": "encoder_decoder", "position": "sinusoidal", "norm": "layernorm", "norm_bias": True,
            "norm_position": "post", "attention_bias": True, "mlp_bias": True, "norm_eps": 1e-5}),
    Same("encoder_layers", "encoder_layers", 12),
    Same("decoder_layers", "layers", 12),
    Same("d_model", "width", 1024),
    _BothSides("attention_heads", "heads"),
    _BothSides("ffn_dim", "mlp_width"),
    Same("max_position_embeddings", "context", 1024),
    Same("activation_function", "activation", "gelu", _ACTIVATIONS),
    Same("tie_word_embeddings", "tied", True),
    Same("dropout", "dropout", 0.1),
    Also("attention_dropout", "dropout"),
    _EmbeddingScale(),
    _OneVocabulary(),
    Only("share_encoder_decoder_embeddings", (True,)),
    Only("normalize_before", (False,)),
    Only("normalize_embedding", (False,)),
    Only("add_final_layer_norm", (False,)),
    Only("static_position_embeddings", (True,)),
  ),
  prefix="",
  backbone=(
    *tensor("token_embedding.embedding", "model.shared.weight", "v d -> v d"),
    *_stack("encoder"),
    *_stack("decoder"),
    *attention("decoder.layers.cross_attention", "model.decoder.layers.{layer}.encoder_attn", out="out_proj"),
    *norm("decoder.layers.cross_attention_norm", "model.decoder.layers.{layer}.encoder_attn_layer_norm"),
  ),
  heads={
    "language": HeadMap(
      ("MarianMTModel",),
      (
        *tensor("unembedding.kernel", "lm_head.weight", "v d -> v d"),
        *tensor("head.bias", "final_logits_bias", "1 v -> v"),
      ),
      ours={"output_bias": True},
    ),
    "embedding": HeadMap(("MarianModel",), bare=True),
  },
  aliases={"num_attention_heads": "encoder_attention_heads", "hidden_size": "d_model",
           "num_hidden_layers": "encoder_layers"},
  copies={f"model.{side}.embed_tokens.weight": "model.shared.weight" for side in ("encoder", "decoder")},
  ignored=(r"model\.(encoder|decoder)\.embed_positions\.weight",),
  optional=("final_logits_bias",),
)  # fmt: skip
