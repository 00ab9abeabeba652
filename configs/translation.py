# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The original Transformer (https://arxiv.org/abs/1706.03762, table 3): base 65M and big 213M parameters, and small 2M
for tens of thousands of short sentences.

The data is a table with the columns source and target (--config.data.columns.source names others); one SentencePiece
is trained on both languages. `lmx predict RUN --beams=4` translates.

Command:   lmx train --config=configs/translation.py:base --config.data.sources=train.tsv
Hardware:  base: 8 GPUs; small: a few CPU cores
Time:      small on 29,000 pairs: half an hour on one core
Expected:  small on Multi30k German to English: 38.2 BLEU with beams of 4 (experiments/translation)
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import base_config
from lmx.errors import choose


def _base(config: ConfigDict) -> None:
  config.model.layers, config.model.width, config.model.heads = 6, 512, 8
  config.model.dropout = 0.1
  config.model.context = config.data.length = 256
  config.tokenizer.vocab_size = 37_000
  config.train.duration, config.train.batch_size = "100000 steps", 256
  config.optimizer.peak_lr, config.optimizer.warmup = 7e-4, "4000 steps"  # The paper's formula at its height.


def _big(config: ConfigDict) -> None:
  _base(config)
  config.model.width, config.model.heads, config.model.dropout = 1024, 16, 0.3
  config.train.duration, config.optimizer.peak_lr = "300000 steps", 5e-4


def _small(config: ConfigDict) -> None:
  config.model.layers, config.model.width, config.model.heads, config.model.mlp_width = 3, 128, 4, 512
  config.model.dropout = 0.1
  config.model.context = config.data.length = 96
  config.compute.dtype = "float32"  # CPUs compute bfloat16 by converting it.
  config.tokenizer.vocab_size = 6000
  config.train.duration, config.train.batch_size = "8 epochs", 16
  config.optimizer.peak_lr, config.optimizer.warmup = 3e-3, "15%"
  config.optimizer.schedule = "cosine"  # In a short run the rate must fall to zero.


SIZES = {"base": _base, "big": _big, "small": _small}


def get_config(size: str = "base") -> ConfigDict:
  fill = choose("configs/translation.py:<size>", size, SIZES)
  config = base_config()
  config.name = f"translation_{size}"
  model = config.model
  model.family, model.position, model.norm_position, model.activation = "encoder_decoder", "sinusoidal", "post", "relu"
  model.attention_bias, model.init = False, "xavier"
  config.objective.name, config.objective.label_smoothing = "seq2seq", 0.1
  config.optimizer.name, config.optimizer.weight_decay = "adam", 0.0
  config.optimizer.b2, config.optimizer.eps, config.optimizer.clip_norm = 0.98, 1e-9, 1.0
  config.optimizer.schedule, config.optimizer.final_lr_ratio = "inverse_sqrt", 0.0
  fill(config)
  model.embedding_scale, model.init_std = model.width**0.5, model.width**-0.5
  config.data.encoder_length = config.data.length
  return config
