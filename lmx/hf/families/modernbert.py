# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""ModernBERT (https://arxiv.org/abs/2412.13663): a pre-norm encoder with RoPE, GeGLU and windows in most layers.

The first layer has no attention norm, since the embeddings have just been normalized.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lmx.hf.families.common import BUFFERS
from lmx.hf.family import Family, HeadMap, Rule, linear, norm, tensor
from lmx.hf.rope import FULL, SLIDING, TwoRopes
from lmx.hf.settings import Also, Always, HFConfig, Keys, Only, Same, same

_LAYER = "layers.{layer}."
_ACTIVATIONS = {"gelu": "geglu_exact", "gelu_pytorch_tanh": "geglu", "gelu_new": "geglu", "silu": "swiglu"}


def _shared(names: tuple[tuple[str, str], ...], theirs: str, of_head: str = "") -> tuple[Rule, ...]:
  """Rows of linear layers that are concatenated along the outputs of one matrix.

  Args:
    names: (our layer, the letter of its outputs), in order.
    theirs: name of the shared layer.
    of_head: "k" for outputs of (heads, head width), "" for outputs of one dimension.
  """
  rows: tuple[Rule, ...] = ()
  for name, letter in names:
    out, ours = (f"({letter} k)", f"{letter} k") if of_head else (letter, letter)
    rows += linear(name, theirs, f"{out} d -> d {ours}", f"{out} -> {ours}", along=0)
  return rows


def _after_first(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
  """The rows of a norm that the first layer lacks: ours is the identity there."""
  return tuple(dataclasses.replace(rule, first=1, unused=float(rule.ours.endswith(".scale"))) for rule in rules)


_ATTENTION = tuple(
  (f"layers.attention.{name}", letter) for name, letter in (("query", "h"), ("key", "g"), ("value", "g"))
)
_BACKBONE = (
  *tensor("token_embedding.embedding", "embeddings.tok_embeddings.weight", "v d -> v d"),
  *norm("embedding_norm", "embeddings.norm"),
  *_shared(_ATTENTION, _LAYER + "attn.Wqkv", of_head="k"),
  *linear("layers.attention.out", _LAYER + "attn.Wo", "d (h k) -> h k d", "d -> d"),
  *_after_first(norm("layers.attention_norm", _LAYER + "attn_norm")),
  *_shared((("layers.mlp.gate", "f"), ("layers.mlp.up", "f")), _LAYER + "mlp.Wi"),
  *linear("layers.mlp.down", _LAYER + "mlp.Wo", "d f -> f d", "d -> d"),
  *norm("layers.mlp_norm", _LAYER + "mlp_norm"),
  *norm("final_norm", "final_norm"),
)
_TRANSFORM = (*linear("head.transform", "head.dense", "e d -> d e", "e -> e"), *norm("head.norm", "head.norm"))
_SCORES = (*_TRANSFORM, *linear("head.out", "classifier", "c d -> d c", "c -> c"))
_ROWS = HeadMap(("ModernBertForSequenceClassification",), _SCORES, ours={"pooler": False, "head_bias": True})


class _Layers:
  """Global attention in every n-th layer, starting with the first; sliding windows in the others.

  `local_attention` counts the tokens on both sides of the window without the token itself, so half of it is on either
  side. Files of transformers 4 have `global_attn_every_n_layers`, newer ones `layer_types`.
  """

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    size = theirs.take("local_attention", 128, int, nullable=False)
    if size < 0:
      raise theirs.refuse("local_attention", size, "a whole number of at least 0")
    half = theirs.take("sliding_window", None, int)  # transformers 5 sets local_attention to twice this.
    if half is not None and half != size // 2:
      raise theirs.refuse("sliding_window", half, f"none, or half of local_attention = {size}")
    kinds, layers = theirs.take("layer_types", None, list), ours["layers"]
    every = theirs.take("global_attn_every_n_layers", None, int)
    if every is not None and every < 1:
      raise theirs.refuse("global_attn_every_n_layers", every, "a positive whole number")
    if kinds is not None:
      every = _period(kinds) if every is None else every
      if kinds != _kinds(every, layers):
        allowed = f"{FULL} in layer 0 and every {every} layers after it, {SLIDING} in the others ({layers} layers)"
        raise theirs.refuse("layer_types", kinds, allowed)
    every = 3 if every is None else every
    local = SLIDING in _kinds(every, layers)
    ours |= {"window": size // 2 + 1 if local else None, "global_every": every if local else None,
             "global_first": local}  # fmt: skip

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    every = 1 if ours["window"] is None else ours["global_every"] or ours["layers"] + 1
    theirs |= {"global_attn_every_n_layers": every, "layer_types": _kinds(every, ours["layers"]),
               "local_attention": 128 if ours["window"] is None else 2 * (ours["window"] - 1)}  # fmt: skip


def _kinds(every: int, layers: int) -> list[str]:
  """layer_types with full attention in the first of every `every` layers."""
  return [SLIDING if layer % every else FULL for layer in range(layers)]


def _period(kinds: list[Any]) -> int:
  """Number of layers from the first with full attention to the second, or to the end."""
  return kinds.index(FULL, 1) if FULL in kinds[1:] else max(1, len(kinds))


class _Activation:
  """hidden_activation of the gate and classifier_activation of the heads: lmx has one key for both."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    Same("hidden_activation", "activation", "gelu", _ACTIVATIONS).read(theirs, ours)
    heads = theirs.take("classifier_activation", "gelu")
    if _ACTIVATIONS.get(heads if isinstance(heads, str) else "") != ours["activation"]:
      allowed = [word for word, activation in _ACTIVATIONS.items() if activation == ours["activation"]]
      raise theirs.refuse("classifier_activation", heads, f"{allowed[0]!r}, the hidden_activation")

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    Same("hidden_activation", "activation", "gelu", _ACTIVATIONS).write(ours, theirs)
    theirs["classifier_activation"] = theirs["hidden_activation"]


class _Pooling:
  """classifier_pooling; other poolings are written as cls, which `write_settings` then refuses as a difference."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    Same("classifier_pooling", "pooling", "cls", {"cls": "cls", "mean": "mean"}).read(theirs, ours)

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs["classifier_pooling"] = ours["pooling"] if ours["pooling"] in ("cls", "mean") else "cls"


class _Leftovers:
  """Keys that change no output; token ids are written as null, since the defaults exceed small vocabularies."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    for key in ("position_embedding_type", "reference_compile", "repad_logits_with_grad", "sparse_prediction",
                "sparse_pred_ignore_index", "deterministic_flash_attn"):  # fmt: skip
      theirs.take(key, None)
    if not same(other := theirs.take("layer_norm_eps", ours["norm_eps"]), ours["norm_eps"]):
      raise theirs.refuse(
        "layer_norm_eps",
        other,
        f"{ours['norm_eps']!r}, the value of norm_eps, which is the key that transformers reads",
      )

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs |= dict.fromkeys(f"{role}_token_id" for role in ("pad", "bos", "eos", "cls", "sep"))


MODERNBERT = Family(
  name="modernbert",
  lines=(
    Always({"family": "encoder", "norm": "layernorm", "norm_position": "pre", "embedding_norm": True, "token_types": 0,
            "first_attention_norm": False, "head_transform": True}),
    Same("num_hidden_layers", "layers", 22),
    Same("hidden_size", "width", 768),
    Same("num_attention_heads", "heads", 12),
    Same("intermediate_size", "mlp_width", 1152),
    Same("max_position_embeddings", "context", 8192),
    Same("norm_eps", "norm_eps", 1e-5),
    Same("norm_bias", "norm_bias", False),
    Same("attention_bias", "attention_bias", False),
    Same("mlp_bias", "mlp_bias", False),
    Same("classifier_bias", "transform_bias", False),
    Same("embedding_dropout", "dropout", 0.0),
    Also("attention_dropout", "dropout"),
    Also("mlp_dropout", "dropout"),
    Also("classifier_dropout", "dropout"),
    Same("tie_word_embeddings", "tied", True),
    Only("decoder_bias", (True,)),
    _Activation(),
    _Pooling(),
    _Layers(),
    TwoRopes("global_rope_theta", "local_rope_theta", 160_000.0, scaling=False),
    _Leftovers(),
  ),
  prefix="model.",
  backbone=_BACKBONE,
  heads={
    "masked": HeadMap(
      ("ModernBertForMaskedLM",),
      (
        *_TRANSFORM,
        *tensor("head.bias", "decoder.bias", "v -> v"),
        *tensor("unembedding.kernel", "decoder.weight", "v d -> v d"),
      ),
    ),
    "classification": _ROWS,
    "regression": _ROWS,
    "span": HeadMap(("ModernBertForQuestionAnswering",), _SCORES),
    "tagging": HeadMap(("ModernBertForTokenClassification",), _SCORES),
    "embedding": HeadMap(("ModernBertModel",), bare=True),
  },
  ignored=BUFFERS,
)  # fmt: skip
