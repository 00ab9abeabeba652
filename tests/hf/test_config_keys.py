# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A key that a config.json lacks has the default of its family's class; null is refused where the family has none."""

import json
from pathlib import Path

import pytest
from golden_models import GOLDEN, NAMES
from hf_folders import write

from lmx.errors import LmxError
from lmx.hf.description import Description, describe
from lmx.hf.families import FAMILIES

# model_type -> key of config.json -> (key of config.model, its value where the file lacks the key), as the classes of
# transformers 5.23 have them; test_live_config_keys.py compares with the classes themselves.
DEFAULTS = {
  "llama": {"num_key_value_heads": ("kv_heads", None), "rms_norm_eps": ("norm_eps", 1e-6)},
  "mistral": {"num_key_value_heads": ("kv_heads", 8), "sliding_window": ("window", 4096)},
  "mixtral": {"num_key_value_heads": ("kv_heads", 8), "num_local_experts": ("experts", 8)},
  "qwen2": {"num_key_value_heads": ("kv_heads", 32), "rms_norm_eps": ("norm_eps", 1e-6)},
  "qwen3": {"num_key_value_heads": ("kv_heads", 32), "head_dim": ("head_width", 128)},
  "qwen2_moe": {"num_key_value_heads": ("kv_heads", 16), "num_experts": ("experts", 60)},
  "qwen3_moe": {"num_key_value_heads": ("kv_heads", 4), "num_experts_per_tok": ("experts_per_token", 8)},
  "gemma2": {"num_key_value_heads": ("kv_heads", 4), "attn_logit_softcapping": ("attention_softcap", 50.0)},
  "gemma3_text": {"num_key_value_heads": ("kv_heads", 4), "head_dim": ("head_width", 256)},
  "olmo2": {"num_key_value_heads": ("kv_heads", None), "rms_norm_eps": ("norm_eps", 1e-5)},
  "bert": {"layer_norm_eps": ("norm_eps", 1e-12), "hidden_act": ("activation", "gelu")},
  "modernbert": {"norm_eps": ("norm_eps", 1e-5), "hidden_activation": ("activation", "geglu_exact")},
  "roberta": {"type_vocab_size": ("token_types", 2), "max_position_embeddings": ("context", 510)},
  "gpt2": {"activation_function": ("activation", "gelu_tanh"), "n_head": ("heads", 12)},
  "mamba2": {"n_groups": ("mamba_groups", 8), "layer_norm_epsilon": ("norm_eps", 1e-5)},
  "t5": {"d_kv": ("head_width", 64), "relative_attention_num_buckets": ("relative_buckets", 32)},
  "marian": {"activation_function": ("activation", "gelu"), "scale_embedding": ("embedding_scale", 1.0)},
}  # fmt: skip
# Keys that may be null in some family; in the others, and for every other key of the table, null is refused.
MAY_BE_NULL = {
  ("llama", "num_key_value_heads"), ("olmo2", "num_key_value_heads"), ("qwen2", "num_key_value_heads"),
  ("qwen3", "num_key_value_heads"), ("gemma2", "attn_logit_softcapping"), ("mistral", "sliding_window"),
}  # fmt: skip
CASES = [(family, key) for family, keys in DEFAULTS.items() for key in keys]


def golden(family: str) -> dict:
  """The config.json of the first golden model of a family."""
  files = [json.loads((GOLDEN / name / "config.json").read_text()) for name in NAMES]
  return next(values for values in files if values["model_type"] == family)


def read(folder: Path, values: dict) -> Description:
  write(folder, "config.json", values)
  return describe(folder)


def test_the_table_has_a_row_for_every_family():
  assert DEFAULTS.keys() == {name for name in FAMILIES if any(part.startswith(f"{name}-") for part in NAMES)}


@pytest.mark.parametrize(("family", "key"), CASES)
def test_a_missing_key_has_the_default_of_its_family(tmp_path, family, key):
  values = {name: value for name, value in golden(family).items() if name not in (key, "num_experts")}
  if (family, key) != ("qwen2_moe", "num_experts") and family == "qwen2_moe":
    values["num_experts"] = golden(family)["num_experts"]
  ours, default = DEFAULTS[family][key]
  assert read(tmp_path, values).model[ours] == default


@pytest.mark.parametrize(("family", "key"), CASES)
def test_null_is_refused_where_the_family_has_no_such_value(tmp_path, family, key):
  values = golden(family) | {key: None}
  if family == "qwen3_moe":
    values.pop("num_experts", None)
  if (family, key) in MAY_BE_NULL:
    read(tmp_path, values)
  else:
    with pytest.raises(LmxError, match=rf"config\.json: {key}"):
      read(tmp_path, values)


@pytest.mark.parametrize(
  ("family", "key"), [("t5", "num_layers"), ("marian", "encoder_layers"), ("bert", "intermediate_size"),
                      ("llama", "intermediate_size"), ("qwen3_moe", "num_local_experts")],
)  # fmt: skip
def test_a_size_that_is_null_is_refused_by_name(tmp_path, family, key):
  with pytest.raises(LmxError, match=r"null|None"):
    read(tmp_path, golden(family) | {key: None})


def test_a_window_of_no_tokens_is_refused(tmp_path):
  for family in ("mistral", "mixtral"):
    with pytest.raises(LmxError, match=r"sliding_window"):
      read(tmp_path, golden(family) | {"sliding_window": 0})
  off = read(tmp_path, golden("qwen2_moe") | {"sliding_window": 0, "use_sliding_window": False})
  assert off.model["window"] is None


def test_a_rope_theta_that_transformers_would_drop_is_refused(tmp_path):
  both = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e3},
          "rope_scaling": {"rope_type": "linear", "factor": 2.0}}  # fmt: skip
  values = {key: value for key, value in golden("llama").items() if key != "rope_theta"} | both
  with pytest.raises(LmxError, match=r"rope_parameters\.rope_theta"):
    read(tmp_path, values)
  assert read(tmp_path, values | {"rope_theta": 5e3}).model["rope_theta"] == 5e3
  both["rope_parameters"]["rope_theta"] = 1e4  # The default.
  assert read(tmp_path, values | both).model["rope_theta"] == 1e4
