# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Rows and settings that families modelled on Llama share: layer names, the gated MLP, most settings."""

from lmx.hf.family import HeadMap, Rule, linear, norm, tensor
from lmx.hf.settings import Also, Always, Line, Only, Same

SILU = {"silu": "swiglu", "swish": "swiglu"}
GELU_TANH = {"gelu_pytorch_tanh": "geglu", "gelu_new": "geglu"}
# Harmless buffers that older files hold: angles of rotary positions, masks, position counters.
BUFFERS = (
  r".*rotary_emb\.inv_freq",
  r".*\.attn\.(masked_)?bias",
  r".*embeddings\.position_ids",
)
_LAYER = "layers.{layer}."


def attention(ours: str, theirs: str, *, out: str = "o_proj") -> tuple[Rule, ...]:
  """Rows of an attention layer's projections in the layout of torch's Linear: (outputs, inputs).

  Args:
    ours, theirs: names of the layer; theirs may have {layer}.
    out: name of their output projection.
  """
  rows: tuple[Rule, ...] = ()
  for name, heads in (("query", "h"), ("key", "g"), ("value", "g")):
    kernel, bias = f"({heads} k) d -> d {heads} k", f"({heads} k) -> {heads} k"
    rows += linear(f"{ours}.{name}", f"{theirs}.{name[0]}_proj", kernel, bias)
  return rows + linear(f"{ours}.out", f"{theirs}.{out}", "d (h k) -> h k d", "d -> d")


def mlp(ours: str, theirs: str, *, gate: str, up: str, down: str) -> tuple[Rule, ...]:
  """Rows of an MLP.

  Args:
    ours: name of the layer.
    theirs: beginning of their names, up to and including the dot.
    gate, up, down: names of their linear layers; gate "": the family has no gated MLPs.
  """
  rows = linear(f"{ours}.up", f"{theirs}{up}", "f d -> d f", "f -> f")
  rows += linear(f"{ours}.gate", f"{theirs}{gate}", "f d -> d f", "f -> f") if gate else ()
  return rows + linear(f"{ours}.down", f"{theirs}{down}", "d f -> f d", "d -> d")


TABLES = (
  *tensor("token_embedding.embedding", "embed_tokens.weight", "v d -> v d"),
  *norm("final_norm", "norm"),
)
ATTENTION = (
  *attention("layers.attention", _LAYER + "self_attn"),
  *norm("layers.attention.query_norm", _LAYER + "self_attn.q_norm", letter="k"),
  *norm("layers.attention.key_norm", _LAYER + "self_attn.k_norm", letter="k"),
)
MLP = mlp("layers.mlp", _LAYER + "mlp.", gate="gate_proj", up="up_proj", down="down_proj")
PRE_NORMS = (
  *norm("layers.attention_norm", _LAYER + "input_layernorm"),
  *norm("layers.mlp_norm", _LAYER + "post_attention_layernorm"),
)
DECODER = (*TABLES, *ATTENTION, *MLP, *PRE_NORMS)


def scores_head(name: str) -> HeadMap:
  """Classification or regression on the last token, without a bias, as `transformers` has it for decoders."""
  return HeadMap(
    (f"{name}ForSequenceClassification",),
    (*tensor("head.out.kernel", "score.weight", "c d -> d c"), *tensor("head.out.bias", None, "c -> c")),
    ours={"pooling": "last", "pooler": False, "head_bias": False},
  )


def decoder_heads(name: str, bare: str | None = None) -> dict[str, HeadMap]:
  """The heads that `transformers` has for every decoder: language model, scores of the last token, and none.

  Args:
    name: what the names of the family's classes begin with.
    bare: class of the model without a head; None: {name}Model.
  """
  scores = scores_head(name)
  language = HeadMap((f"{name}ForCausalLM",), tensor("unembedding.kernel", "lm_head.weight", "v d -> v d"))
  return {"language": language, "classification": scores, "regression": scores,
          "embedding": HeadMap((bare or f"{name}Model",), bare=True)}  # fmt: skip


SIZES: tuple[Line, ...] = (
  Same("num_hidden_layers", "layers"),
  Same("hidden_size", "width"),
  Same("num_attention_heads", "heads"),
  Same("num_key_value_heads", "kv_heads", None),
  Same("intermediate_size", "mlp_width"),
  Same("max_position_embeddings", "context"),
)
DECODER_LINES: tuple[Line, ...] = (
  Always(
    {"family": "transformer", "mixer": "attention", "norm_bias": False, "norm": "rmsnorm", "norm_position": "pre"}
  ),
  *SIZES,
  Same("head_dim", "head_width", None),
  Same("rms_norm_eps", "norm_eps", 1e-6),
  Same("tie_word_embeddings", "tied", False),
  Also("attention_dropout", "dropout"),
  Only("pretraining_tp", (1,)),
)
