# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A config.json with the same setting under two keys: read as transformers 5 reads it, or refused if they disagree."""

import json

import pytest
from golden_models import GOLDEN
from hf_folders import change_config

from lmx.errors import LmxError
from lmx.hf.description import describe

LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
NAMES = {"llama": "llama-language-7", "gemma3": "gemma3_text-language-5", "qwen2": "qwen2-language-4",
         "mistral": "mistral-language-8", "gpt2": "gpt2-language-6", "t5": "t5-language-6",
         "marian": "marian-language-3", "mixtral": "mixtral-language-2", "mamba2": "mamba2-language-1",
         "bert": "bert-classification-8"}  # fmt: skip


def model_of(name: str, folder, without: tuple[str, ...] = (), **changes) -> dict:
  """Keys of config.model from a golden config.json, some of its keys left out and others changed."""
  values = json.loads((GOLDEN / NAMES[name] / "config.json").read_text())
  kept = {key: value for key, value in values.items() if key not in without}
  (folder / "config.json").write_text(json.dumps(kept))
  change_config(folder, **changes)
  return dict(describe(folder).model)


ROPE = ("rope_theta", "rope_scaling", "rope_parameters")


@pytest.mark.parametrize(
  ("keys", "expected"),
  [
    ({}, (10_000.0, "none", None)),
    ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, (5e5, "none", None)),
    ({"rope_parameters": {"rope_type": "default"}, "rope_scaling": LINEAR}, (10_000.0, "linear", 4.0)),
    ({"rope_parameters": LINEAR, "rope_scaling": None, "rope_theta": 2e4}, (2e4, "linear", 4.0)),
    ({"rope_parameters": LINEAR, "rope_scaling": {"type": "linear", "factor": 4}}, (10_000.0, "linear", 4.0)),
    ({"rope_parameters": {"rope_theta": 2e4}, "rope_theta": 20000}, (2e4, "none", None)),
    ({"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 2}}, (10_000.0, "linear", 2.0)),
  ],
)
def test_rotary_keys_are_read_as_transformers_reads_them(tmp_path, keys, expected):
  found = model_of("llama", tmp_path, ROPE, **keys)
  assert (found["rope_theta"], found["rope_scaling"], found.get("rope_factor")) == expected


def test_llama3_scaling_without_its_original_context_uses_the_models(tmp_path):
  assert model_of("llama", tmp_path, ROPE, rope_scaling=LLAMA3)["rope_original_context"] == model_of(
    "llama", tmp_path)["context"]  # fmt: skip
  outside = model_of("llama", tmp_path, ROPE, rope_scaling=LLAMA3, original_max_position_embeddings=12)
  assert outside["rope_original_context"] == 12


@pytest.mark.parametrize(
  ("name", "keys", "pattern"),
  [
    ("llama", {"rope_parameters": {"rope_theta": 5e5}, "rope_theta": 1e4}, r"rope_theta: got 10000\.0.*500000\.0"),
    ("llama", {"rope_parameters": {"rope_theta": 5e5}, "rope_scaling": LINEAR, "rope_theta": 1e4}, r"500000\.0"),
    ("llama", {"rope_parameters": LLAMA3, "rope_scaling": LINEAR}, r"rope_scaling\.rope_type: got 'linear'.*llama3"),
    ("llama", {"rope_parameters": LINEAR, "rope_scaling": LINEAR | {"factor": 2}}, r"rope_scaling\.factor: got 2"),
    ("llama", {"rope_scaling": {"type": "yarn", "factor": 4}, "rope_parameters": {"rope_type": "default"}}, "yarn"),
    ("llama", {"rope_scaling": LINEAR | {"type": "dynamic"}}, r"rope_scaling\.type: got 'dynamic'"),
    ("llama", {"rope_scaling": {"type": "linear"}}, r"rope_scaling\.factor: got None.*'linear' needs"),
    ("llama", {"rope_scaling": {"factor": 4.0}}, r"rope_scaling\.factor: got 4\.0.*nothing with rope_type 'default'"),
    ("llama", {"rope_scaling": "linear"}, r"rope_scaling: got 'linear'.*an object"),
    ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8}}, r"rope_scaling\.low_freq_factor: got None"),
    ("llama", {"rope_theta": True}, r"rope_theta: got True.*a finite number"),
    ("llama", {"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 9},
               "original_max_position_embeddings": 12}, r"original_max_position_embeddings: got 9"),
    ("llama", {"partial_rotary_factor": 0.5}, r"partial_rotary_factor: got 0\.5"),
    ("llama", {"text_config": {"hidden_size": 3, "tie_word_embeddings": True}}, r"text_config: got"),
    ("llama", {"quantization_config": {"bits": 4}}, r"quantization_config: got"),
    ("llama", {"vocab_size": None}, r"vocab_size: got None.*a whole number"),
    ("llama", {"num_hidden_layers": True}, r"num_hidden_layers: got True"),
    ("llama", {"num_hidden_layers": "2"}, r"num_hidden_layers: got '2'"),
    ("mamba2", {"head_dim": 0}, r"head_dim: got 0.*a positive whole number"),
    ("llama", {"pretraining_tp": True}, r"pretraining_tp: got True"),
    ("llama", {"hidden_act": ["silu"]}, r"hidden_act: got \['silu'\]"),
    ("llama", {"rms_norm_eps": float("nan")}, r"rms_norm_eps: got nan"),
    ("llama", {"tie_word_embeddings": 1}, r"tie_word_embeddings: got 1"),
    ("llama", {"architectures": "LlamaForCausalLM"}, r"architectures: got 'LlamaForCausalLM'.*a list"),
    ("gemma3", {"rope_parameters": {"rope_type": "linear", "factor": 8}}, r"rope_parameters: got"),
    ("gemma3", {"rope_parameters": {"full_attention": {"rope_theta": 5e5}}, "rope_theta": 1e6}, r"1000000\.0"),
    ("gemma3", {"rope_local_base_freq": 2e4, "rope_parameters": {"sliding_attention": {"rope_theta": 1e4}}}, "20000"),
    ("qwen2", {"use_sliding_window": False, "layer_types": ["sliding_attention"] * 9}, r"layer_types: got"),
    ("mistral", {"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 8}, r"layer_types: got"),
    ("gpt2", {"n_embd": 32, "hidden_size": 64}, r"hidden_size: got 64\. Allowed: 32 as n_embd"),
    ("t5", {"head_dim": 999}, r"head_dim: got 999.* as d_kv"),
    ("t5", {"feed_forward_proj": "gated-gelu", "dense_act_fn": "relu"}, r"dense_act_fn: got 'relu'"),
    ("marian", {"num_hidden_layers": 77}, r"num_hidden_layers: got 77.* as encoder_layers"),
    ("mixtral", {"num_experts": 77}, r"num_experts: got 77.* as num_local_experts"),
    ("bert", {"num_labels": 7}, r"num_labels: got 7. Allowed: 3"),
    ("bert", {"id2label": {"0": "a", "2": "b"}}, r"id2label: got"),
  ],
)  # fmt: skip
def test_contradictions_and_wrong_types_are_refused_by_their_key(tmp_path, name, keys, pattern):
  without = ROPE if any("rope" in key or "rotary" in key for key in keys) else ()
  with pytest.raises(LmxError, match=pattern):
    model_of(name, tmp_path, without, **keys)


def test_one_key_given_twice_with_two_values_is_refused(tmp_path):
  text = (GOLDEN / NAMES["llama"] / "config.json").read_text().rstrip().removesuffix("}")
  (tmp_path / "config.json").write_text(text + ', "hidden_size": 99}')
  with pytest.raises(LmxError, match=r"hidden_size: got 99.*is there as well"):
    describe(tmp_path)


def test_an_alias_is_read_where_the_key_is_missing(tmp_path):
  size = model_of("gpt2", tmp_path)["width"]
  assert model_of("gpt2", tmp_path, ("n_embd",), hidden_size=size)["width"] == size
