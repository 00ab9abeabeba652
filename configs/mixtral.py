# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A small sparse decoder in the manner of Mixtral (https://arxiv.org/abs/2401.04088): 8 experts, 2 for each token; 12
layers of width 768, 0.5B parameters of which 180M work on a token.

Command:   lmx train --config=configs/mixtral.py --config.data.sources="corpus/*.jsonl"
Hardware:  8 GPUs of 80 GB or 8 TPU v5p
Time:      not measured
Expected:  not measured
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import base_config


def get_config() -> ConfigDict:
  config = base_config()
  config.name = "mixtral"
  model = config.model
  model.layers, model.width, model.heads, model.kv_heads = 12, 768, 12, 4
  model.position, model.rope_theta = "rotary", 1e6
  model.norm, model.norm_bias, model.attention_bias, model.mlp_bias = "rmsnorm", False, False, False
  model.activation, model.tied, model.init = "swiglu", False, "normal"
  model.experts, model.experts_per_token, model.expert_width = 8, 2, 2048
  model.context = config.data.length = 2048
  config.tokenizer.vocab_size = 32_000
  config.train.duration, config.train.batch_size = "10B tokens", 256
  config.mesh.data, config.mesh.fsdp = 1, -1
  config.evaluation.max_rows = 4096
  return config
