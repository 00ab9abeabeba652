# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Random small Hugging Face models: a config.json for each family and head, drawn over the family's options.

Nothing here needs torch. Sizes are tiny, and options take values at which they make a difference: windows shorter than
the rows, a rotary base so small that positions turn far, caps in the range of the numbers.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

Config = dict[str, Any]
VOCABULARY, ROWS, LENGTH, MEMORY = 40, 2, 12, 9


@dataclasses.dataclass(frozen=True)
class Case:
  """One model.

  Attributes:
    family: its model_type.
    head: a row of lmx's HEADS.
    architecture: the class of `transformers`.
    config: keys of config.json.
    seed: of its numbers and inputs.
  """

  family: str
  head: str
  architecture: str
  config: Config
  seed: int

  @property
  def name(self) -> str:
    return f"{self.family}-{self.head}-{self.seed}"

  def options(self) -> str:
    """The drawn options for people, without the sizes that all models share."""
    dull = {
      "vocab_size",
      "num_hidden_layers",
      "pad_token_id",
      "bos_token_id",
      "eos_token_id",
      "max_position_embeddings",
    }
    return " ".join(f"{key}={value}" for key, value in self.config.items() if key not in dull)


class Draw:
  """A source of choices."""

  def __init__(self, seed: int):
    self.generator = np.random.default_rng(seed)

  def one(self, *values: Any) -> Any:
    return values[int(self.generator.integers(len(values)))]


def _sizes(draw: Draw) -> Config:
  heads = draw.one(2, 4)
  return {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": draw.one(2, 3),
    "num_attention_heads": heads,
    "intermediate_size": draw.one(12, 24),
    "max_position_embeddings": 32,
    "tie_word_embeddings": draw.one(True, False),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
  }


def _rope(draw: Draw) -> Config:
  scaling = draw.one(
    None,
    {"rope_type": "linear", "factor": draw.one(2.0, 4.0)},
    {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 8},
  )  # fmt: skip
  return {"rope_theta": draw.one(10_000.0, 50.0), "rope_scaling": scaling}


def _decoder(draw: Draw) -> Config:
  sizes = _sizes(draw)
  kv_heads = draw.one(*(n for n in (1, 2, 4) if n <= sizes["num_attention_heads"]))
  more = {"num_key_value_heads": kv_heads, "head_dim": draw.one(4, 6), "rms_norm_eps": draw.one(1e-6, 1e-3)}
  return sizes | more | _rope(draw)


def _gpt2(draw: Draw) -> Config:
  return {
    "vocab_size": VOCABULARY,
    "n_embd": 16,
    "n_layer": draw.one(2, 3),
    "n_head": draw.one(2, 4),
    "n_inner": draw.one(None, 24),
    "n_positions": 32,
    "activation_function": draw.one("gelu_new", "gelu", "relu"),
    "layer_norm_epsilon": draw.one(1e-5, 1e-3),
    "tie_word_embeddings": draw.one(True, False),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
  }


def _llama(draw: Draw) -> Config:
  return _decoder(draw) | {"attention_bias": draw.one(True, False), "mlp_bias": draw.one(True, False)}


def _mistral(draw: Draw) -> Config:
  return _decoder(draw) | {"sliding_window": draw.one(None, 3, 5)}


def _qwen2(draw: Draw) -> Config:
  config = _decoder(draw) | {"use_sliding_window": draw.one(True, False), "sliding_window": 4}
  return config | {"max_window_layers": draw.one(0, config["num_hidden_layers"])}


def _qwen3(draw: Draw) -> Config:
  return _qwen2(draw) | {"attention_bias": draw.one(True, False)}


def _gemma(draw: Draw, every: int) -> Config:
  config = _decoder(draw)
  layers = every * 2 + draw.one(0, 1)  # A whole number of periods, or a remainder.
  kinds = ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)]
  return config | {
    "num_hidden_layers": layers,
    "layer_types": kinds,
    "sliding_window": draw.one(3, 5),
    "query_pre_attn_scalar": draw.one(4, 9),
    "attn_logit_softcapping": draw.one(None, 2.0),
    "final_logit_softcapping": draw.one(None, 3.0),
    "attention_bias": draw.one(True, False),
    "hidden_activation": "gelu_pytorch_tanh",
  }


def _gemma3(draw: Draw) -> Config:
  config = _gemma(draw, draw.one(2, 3)) | {"attn_logit_softcapping": None}
  far = {"rope_theta": config.pop("rope_theta"), **(config.pop("rope_scaling") or {"rope_type": "default"})}
  near = {"rope_theta": draw.one(10.0, 100.0), "rope_type": "default"}
  return config | {"rope_parameters": {"full_attention": far, "sliding_attention": near}}


def _mixtral(draw: Draw) -> Config:
  experts = {"num_local_experts": draw.one(3, 4), "num_experts_per_tok": draw.one(1, 2)}
  return _decoder(draw) | experts | {"sliding_window": draw.one(None, 4)}


def _qwen_moe(draw: Draw) -> Config:
  return _decoder(draw) | {
    "num_experts": draw.one(3, 4),
    "num_experts_per_tok": draw.one(1, 2),
    "moe_intermediate_size": draw.one(8, 12),
    "norm_topk_prob": draw.one(True, False),
  }


def _qwen2_moe(draw: Draw) -> Config:
  return _qwen_moe(draw) | {"shared_expert_intermediate_size": draw.one(8, 12), "qkv_bias": draw.one(True, False)}


def _mamba2(draw: Draw) -> Config:
  groups, width = draw.one(1, 2), draw.one(4, 8)
  return {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": draw.one(2, 3),
    "expand": 2,
    "head_dim": width,
    "num_heads": 32 // width,
    "n_groups": groups,
    "state_size": draw.one(4, 6),
    "conv_kernel": draw.one(3, 4),
    "chunk_size": 4,
    "layer_norm_epsilon": draw.one(1e-5, 1e-3),
    "tie_word_embeddings": draw.one(True, False),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
  }


def _bert(draw: Draw) -> Config:
  return _sizes(draw) | {
    "tie_word_embeddings": True,  # transformers 5 has no other.
    "hidden_act": draw.one("gelu", "gelu_new", "relu"),
    "type_vocab_size": draw.one(1, 2),
    "layer_norm_eps": draw.one(1e-12, 1e-3),
  }


def _roberta(draw: Draw) -> Config:
  return _bert(draw) | {"pad_token_id": 1, "bos_token_id": 0, "max_position_embeddings": 34}


def _modernbert(draw: Draw) -> Config:
  layers, every = draw.one(3, 4), draw.one(1, 2, 3)
  return _sizes(draw) | {
    "tie_word_embeddings": True,  # transformers 5 writes no other.
    "num_hidden_layers": layers,
    "layer_types": ["sliding_attention" if layer % every else "full_attention" for layer in range(layers)],
    "local_attention": draw.one(4, 6),
    "hidden_activation": (activation := draw.one("gelu", "gelu_pytorch_tanh")),
    "classifier_activation": activation,
    "norm_eps": draw.one(1e-5, 1e-3),
    **{f"{name}_bias": draw.one(True, False) for name in ("norm", "attention", "mlp", "classifier")},
    "rope_parameters": {
      "full_attention": {"rope_theta": draw.one(160_000.0, 50.0), "rope_type": "default"},
      "sliding_attention": {"rope_theta": draw.one(10_000.0, 10.0), "rope_type": "default"},
    },
    "classifier_pooling": draw.one("cls", "mean"),
  }


def _t5(draw: Draw) -> Config:
  return {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "d_kv": draw.one(4, 6),
    "d_ff": draw.one(12, 24),
    "num_heads": draw.one(2, 4),
    "num_layers": draw.one(1, 2),
    "num_decoder_layers": draw.one(2, 3),
    "relative_attention_num_buckets": draw.one(8, 12),
    "relative_attention_max_distance": draw.one(10, 20),
    "feed_forward_proj": draw.one("relu", "gated-gelu"),
    "tie_word_embeddings": draw.one(True, False),
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
  }


def _marian(draw: Draw) -> Config:
  heads, inner = draw.one(2, 4), draw.one(12, 24)
  return {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "encoder_layers": draw.one(1, 2),
    "decoder_layers": draw.one(2, 3),
    "encoder_attention_heads": heads,
    "decoder_attention_heads": heads,
    "encoder_ffn_dim": inner,
    "decoder_ffn_dim": inner,
    "max_position_embeddings": 32,
    "activation_function": draw.one("relu", "gelu"),
    "scale_embedding": draw.one(True, False),
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
  }


_DECODER_HEADS = {"language": "ForCausalLM", "classification": "ForSequenceClassification"}
_ENCODER_HEADS = {"masked": "ForMaskedLM", "classification": "ForSequenceClassification",
                  "regression": "ForSequenceClassification", "span": "ForQuestionAnswering",
                  "tagging": "ForTokenClassification", "embedding": "Model"}  # fmt: skip
# family -> (how a config is drawn, start of the class names, head -> end of the class name)
FAMILIES: dict[str, tuple[Callable[[Draw], Config], str, dict[str, str]]] = {
  "gpt2": (_gpt2, "GPT2", {"language": "LMHeadModel", "classification": "ForSequenceClassification"}),
  "llama": (_llama, "Llama", _DECODER_HEADS),
  "mistral": (_mistral, "Mistral", _DECODER_HEADS),
  "qwen2": (_qwen2, "Qwen2", _DECODER_HEADS),
  "qwen3": (_qwen3, "Qwen3", _DECODER_HEADS),
  "gemma2": (lambda draw: _gemma(draw, 2), "Gemma2", _DECODER_HEADS),
  "gemma3_text": (_gemma3, "Gemma3", {"language": "ForCausalLM"}),
  "olmo2": (_llama, "Olmo2", {"language": "ForCausalLM"}),
  "mixtral": (_mixtral, "Mixtral", _DECODER_HEADS),
  "qwen2_moe": (_qwen2_moe, "Qwen2Moe", _DECODER_HEADS),
  "qwen3_moe": (_qwen_moe, "Qwen3Moe", _DECODER_HEADS),
  "mamba2": (_mamba2, "Mamba2", {"language": "ForCausalLM"}),
  "bert": (_bert, "Bert", _ENCODER_HEADS),
  "roberta": (_roberta, "Roberta", _ENCODER_HEADS),
  "modernbert": (_modernbert, "ModernBert", _ENCODER_HEADS),
  "t5": (_t5, "T5", {"language": "ForConditionalGeneration"}),
  "marian": (_marian, "Marian", {"language": "MTModel"}),
}
PAIRS = [(family, head) for family, (_, _, heads) in FAMILIES.items() for head in heads]
_LABELS = {"classification": 3, "regression": 1, "tagging": 4}


def draw_case(family: str, head: str, seed: int) -> Case:
  """The seed's model of a family with a head."""
  make, start, heads = FAMILIES[family]
  config = make(Draw(seed * 1000 + len(family)))
  if head in _LABELS:
    count = _LABELS[head]
    config |= {"id2label": {str(i): f"L{i}" for i in range(count)}, "label2id": {f"L{i}": i for i in range(count)}}
  if family == "roberta" and head == "masked":
    config |= {"hidden_act": "gelu"}  # The head has it always; lmx refuses a model of two activations.
  if family == "modernbert" and head == "embedding":
    config |= {"classifier_pooling": "cls"}  # What `theirs.answers` takes as a row's vector.
  if head == "regression":
    config |= {"problem_type": "regression"}
  architecture = start + heads[head]
  return Case(family, head, architecture, config | {"architectures": [architecture], "model_type": family}, seed)


def draw_inputs(case: Case) -> dict[str, np.ndarray]:
  """A batch in lmx's names: rows of different length, padding at their end, targets where the head has a vocabulary."""
  generator = np.random.default_rng(case.seed)
  padding = case.config["pad_token_id"]
  tokens = generator.integers(3, VOCABULARY, (ROWS, LENGTH)).astype(np.int32)
  segment_ids = np.ones((ROWS, LENGTH), np.int32)
  segment_ids[1, LENGTH - 4 :] = 0
  batch = {"tokens": np.where(segment_ids > 0, tokens, padding).astype(np.int32), "segment_ids": segment_ids}
  if case.family in ("bert", "roberta") and case.config["type_vocab_size"] > 1:
    batch["token_types"] = generator.integers(0, 2, (ROWS, LENGTH)).astype(np.int32)
  if case.family in ("t5", "marian"):
    batch |= {"encoder_tokens": generator.integers(3, VOCABULARY, (ROWS, MEMORY)).astype(np.int32)}
    batch["encoder_segment_ids"] = np.ones((ROWS, MEMORY), np.int32)
    batch["encoder_segment_ids"][0, MEMORY - 3 :] = 0
    batch["segment_ids"] = np.ones((ROWS, LENGTH), np.int32)
    batch["tokens"] = tokens
  if case.head in ("language", "masked"):
    batch["targets"] = generator.integers(3, VOCABULARY, (ROWS, LENGTH)).astype(np.int32)
    batch["loss_weights"] = (generator.random((ROWS, LENGTH)) < 0.6).astype(np.float32) * (batch["segment_ids"] > 0)
  return batch
