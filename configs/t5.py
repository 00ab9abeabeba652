# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""T5 (https://arxiv.org/abs/1910.10683): small 60M and base 220M parameters, and v1_1_small (gated GELU, untied).

Span corruption over packed rows of 512 tokens. The original vocabulary, 32,000 tokens and 100 sentinels, needs its
SentencePiece model: --config.tokenizer.path=t5/spiece.model. Without it one of the same size is trained.

Command:   lmx train --config=configs/t5.py:small --config.data.sources="corpus/*.jsonl"
Hardware:  small: 8 GPUs of 40 GB or 8 TPU v4
Time:      not measured
Expected:  not measured
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import base_config
from lmx.errors import choose


def _small(config: ConfigDict) -> None:
  model = config.model
  model.layers, model.width, model.heads, model.head_width, model.mlp_width = 6, 512, 8, 64, 2048
  model.activation, model.logits_scale = "relu", 512**-0.5


def _base(config: ConfigDict) -> None:
  model = config.model
  model.layers, model.width, model.heads, model.head_width, model.mlp_width = 12, 768, 12, 64, 3072
  model.activation, model.logits_scale = "relu", 768**-0.5


def _v1_1_small(config: ConfigDict) -> None:
  model = config.model
  model.layers, model.width, model.heads, model.head_width, model.mlp_width = 8, 512, 6, 64, 1024
  model.activation, model.tied = "geglu", False


SIZES = {"small": _small, "base": _base, "v1_1_small": _v1_1_small}


def get_config(size: str = "small") -> ConfigDict:
  fill = choose("configs/t5.py:<size>", size, SIZES)
  config = base_config()
  config.name = f"t5_{size}"
  model = config.model
  model.family, model.position = "encoder_decoder", "relative"
  model.norm, model.norm_eps, model.norm_bias = "rmsnorm", 1e-6, False
  model.attention_bias = model.mlp_bias = False
  model.attention_scale = 1.0  # T5 leaves the scores unscaled; queries are initialized smaller by 1 / sqrt(head_width).
  model.init, model.init_std = "lecun", 1.0
  model.context = config.data.encoder_length = 512
  config.data.length = 256  # Room for what is taken out of many short documents in one row.
  config.objective.name = "span_corruption"
  config.tokenizer.vocab_size, config.tokenizer.extra_ids = 32_000, 100
  config.train.duration = "524288 steps"
  config.train.batch_size = 128
  config.optimizer.name, config.optimizer.b1, config.optimizer.b2 = "adafactor", 0.0, 0.999
  config.optimizer.schedule, config.optimizer.peak_lr = "inverse_sqrt", 1e-2
  config.optimizer.warmup, config.optimizer.final_lr_ratio = "10000 steps", 0.0
  config.optimizer.weight_decay, config.optimizer.eps = 0.0, 1e-15
  config.evaluation.every = config.checkpoint.every = "1%"
  config.evaluation.max_rows = 4096
  fill(config)
  return config
