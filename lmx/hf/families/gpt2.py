# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""GPT-2: linear layers stored as (inputs, outputs), and one matrix for queries, keys and values."""

from lmx.hf.families.common import BUFFERS, scores_head
from lmx.hf.family import Family, HeadMap, linear, norm, tensor
from lmx.hf.settings import Also, Always, Only, Same

_LAYER = "h.{layer}."
_QUERIES = tuple(
  row
  for name, heads in (("query", "h"), ("key", "g"), ("value", "g"))
  for row in linear(
    f"layers.attention.{name}",
    _LAYER + "attn.c_attn",
    f"d ({heads} k) -> d {heads} k",
    f"({heads} k) -> {heads} k",
    along=1,
  )
)
_LANGUAGE = HeadMap(("GPT2LMHeadModel",), tensor("unembedding.kernel", "lm_head.weight", "v d -> v d"))
_SCORES = scores_head("GPT2")

GPT2 = Family(
  name="gpt2",
  lines=(
    Always({"family": "transformer", "mixer": "attention", "position": "learned", "norm": "layernorm",
            "norm_bias": True, "norm_position": "pre", "attention_bias": True, "mlp_bias": True}),
    Same("n_layer", "layers", 12),
    Same("n_embd", "width", 768),
    Same("n_head", "heads", 12),
    Same("n_inner", "mlp_width", None),
    Same("n_positions", "context", 1024),
    Also("n_ctx", "context"),  # llama.cpp and mlx-lm read it.
    Same("layer_norm_epsilon", "norm_eps", 1e-5),
    Same("activation_function", "activation", "gelu_new",
         {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}),
    Same("tie_word_embeddings", "tied", True),
    Same("resid_pdrop", "dropout", 0.1),
    Also("attn_pdrop", "dropout"),
    Also("embd_pdrop", "dropout"),
    Only("scale_attn_weights", (True,)),
    Only("scale_attn_by_inverse_layer_idx", (False,)),
    Only("add_cross_attention", (False,)),
  ),
  prefix="transformer.",
  backbone=(
    *tensor("token_embedding.embedding", "wte.weight", "v d -> v d"),
    *tensor("position_embedding.embedding", "wpe.weight", "p d -> p d"),
    *norm("layers.attention_norm", _LAYER + "ln_1"),
    *norm("layers.mlp_norm", _LAYER + "ln_2"),
    *norm("final_norm", "ln_f"),
    *_QUERIES,
    *linear("layers.attention.out", _LAYER + "attn.c_proj", "(h k) d -> h k d", "d -> d"),
    *linear("layers.mlp.up", _LAYER + "mlp.c_fc", "d f -> d f", "f -> f"),
    *linear("layers.mlp.down", _LAYER + "mlp.c_proj", "f d -> f d", "d -> d"),
  ),
  heads={"language": _LANGUAGE, "classification": _SCORES, "regression": _SCORES,
         "embedding": HeadMap(("GPT2Model",), bare=True)},
  ignored=BUFFERS,
  aliases={"hidden_size": "n_embd", "max_position_embeddings": "n_positions", "num_attention_heads": "n_head",
           "num_hidden_layers": "n_layer", "n_ctx": "n_positions"},
)  # fmt: skip
