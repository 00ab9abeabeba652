# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""BERT and RoBERTa: post-norm encoders, with a head for each kind of task."""

from lmx.hf.families.common import BUFFERS
from lmx.hf.family import Family, HeadMap, Rule, linear, norm, tensor
from lmx.hf.settings import Also, Always, Line, Only, Same

_LAYER = "encoder.layer.{layer}."


def _attention() -> tuple[Rule, ...]:
  rows: tuple[Rule, ...] = ()
  for name, heads in (("query", "h"), ("key", "g"), ("value", "g")):
    theirs = f"{_LAYER}attention.self.{name}"
    rows += linear(f"layers.attention.{name}", theirs, f"({heads} k) d -> d {heads} k", f"({heads} k) -> {heads} k")
  return rows + linear("layers.attention.out", _LAYER + "attention.output.dense", "d (h k) -> h k d", "d -> d")


def _backbone(before: int) -> tuple[Rule, ...]:
  """Rows without the prefix; the first `before` rows of their position table are unused, and ours lacks them."""
  return (
    *tensor("token_embedding.embedding", "embeddings.word_embeddings.weight", "v d -> v d"),
    *tensor("position_embedding.embedding", "embeddings.position_embeddings.weight", "p d -> p d", before=before),
    *tensor("token_type_embedding.embedding", "embeddings.token_type_embeddings.weight", "t d -> t d"),
    *norm("embedding_norm", "embeddings.LayerNorm"),
    *_attention(),
    *norm("layers.attention_norm", _LAYER + "attention.output.LayerNorm"),
    *linear("layers.mlp.up", _LAYER + "intermediate.dense", "f d -> d f", "f -> f"),
    *linear("layers.mlp.down", _LAYER + "output.dense", "d f -> f d", "d -> d"),
    *norm("layers.mlp_norm", _LAYER + "output.LayerNorm"),
  )


_LINES: tuple[Line, ...] = (
  Always({"family": "encoder", "norm": "layernorm", "norm_bias": True, "norm_position": "post", "embedding_norm": True,
          "position": "learned", "attention_bias": True, "mlp_bias": True}),
  Same("num_hidden_layers", "layers", 12),
  Same("hidden_size", "width", 768),
  Same("num_attention_heads", "heads", 12),
  Same("intermediate_size", "mlp_width", 3072),
  Same("type_vocab_size", "token_types", 2),
  Same("layer_norm_eps", "norm_eps", 1e-12),
  Same("hidden_act", "activation", "gelu",
       {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}),
  Same("hidden_dropout_prob", "dropout", 0.1),
  Also("attention_probs_dropout_prob", "dropout"),
  Same("tie_word_embeddings", "tied", True),
  Only("position_embedding_type", ("absolute",)),
  Only("is_decoder", (False,)),
  Only("add_cross_attention", (False,)),
)  # fmt: skip
_OUT = linear("head.out", "classifier", "c d -> d c", "c -> c")
_SPAN = linear("head.out", "qa_outputs", "c d -> d c", "c -> c")
_POOLER = "pooler.dense"
_WITH_POOLER = {"pooling": "cls", "pooler": True}

_BERT_SCORES = HeadMap(
  ("BertForSequenceClassification",),
  (*_OUT, *linear("head.pooler", "bert." + _POOLER, "e d -> d e", "e -> e")),
  ours=_WITH_POOLER,
)
BERT = Family(
  name="bert",
  lines=(*_LINES, Same("max_position_embeddings", "context", 512)),
  prefix="bert.",
  backbone=_backbone(0),
  heads={
    "masked": HeadMap(
      ("BertForMaskedLM", "BertForPreTraining"),
      (
        *linear("head.transform", "cls.predictions.transform.dense", "e d -> d e", "e -> e"),
        *norm("head.norm", "cls.predictions.transform.LayerNorm"),
        *tensor("head.bias", "cls.predictions.bias", "v -> v"),
        *tensor("unembedding.kernel", "cls.predictions.decoder.weight", "v d -> v d"),
      ),
    ),
    "classification": _BERT_SCORES,
    "regression": _BERT_SCORES,
    "span": HeadMap(("BertForQuestionAnswering",), _SPAN),
    "tagging": HeadMap(("BertForTokenClassification",), _OUT),
    "embedding": HeadMap(("BertModel",), bare=True),
  },
  copies={"cls.predictions.decoder.bias": "cls.predictions.bias"},
  output_bias="cls.predictions.decoder.bias",
  # The head for next-sentence prediction of BertForPreTraining; the pooler, which only sequence-level heads use.
  ignored=(
    *BUFFERS,
    r"cls\.seq_relationship\..*",
    r"(bert\.)?pooler\.dense\..*",
  ),
  renamed=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
)

_ROBERTA_SCORES = HeadMap(
  ("RobertaForSequenceClassification",),
  (
    *linear("head.pooler", "classifier.dense", "e d -> d e", "e -> e"),
    *linear("head.out", "classifier.out_proj", "c d -> d c", "c -> c"),
  ),
  ours=_WITH_POOLER,
)


class _OffsetContext:
  """max_position_embeddings: positions begin at pad_token_id + 1, so the table has two rows more than the context."""

  def read(self, theirs, ours) -> None:
    ours["context"] = theirs.take("max_position_embeddings", 512, int, nullable=False) - _PAD - 1
    Only("pad_token_id", (_PAD,)).read(theirs, ours)

  def write(self, ours, theirs) -> None:
    theirs["max_position_embeddings"] = ours["context"] + _PAD + 1
    theirs["pad_token_id"] = _PAD


_PAD = 1
ROBERTA = Family(
  name="roberta",
  lines=(*_LINES, _OffsetContext()),
  prefix="roberta.",
  backbone=_backbone(_PAD + 1),
  heads={
    "masked": HeadMap(
      ("RobertaForMaskedLM",),
      (
        *linear("head.transform", "lm_head.dense", "e d -> d e", "e -> e"),
        *norm("head.norm", "lm_head.layer_norm"),
        *tensor("head.bias", "lm_head.bias", "v -> v"),
        *tensor("unembedding.kernel", "lm_head.decoder.weight", "v d -> v d"),
      ),
      needs={"activation": "gelu"},  # RobertaLMHead always uses GELU.
    ),
    "classification": _ROBERTA_SCORES,
    "regression": _ROBERTA_SCORES,
    "span": HeadMap(("RobertaForQuestionAnswering",), _SPAN),
    "tagging": HeadMap(("RobertaForTokenClassification",), _OUT),
    "embedding": HeadMap(("RobertaModel",), bare=True),
  },
  copies={"lm_head.decoder.bias": "lm_head.bias"},
  output_bias="lm_head.decoder.bias",
  ignored=(*BUFFERS, r"(roberta\.)?pooler\.dense\..*"),
  fixed={"pad_token_id": _PAD},
)
