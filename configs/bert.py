# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""BERT (https://arxiv.org/abs/1810.04805): base 110M and large 340M parameters, and modern, a pre-norm encoder with
rotary positions, GeGLU and no biases (https://arxiv.org/abs/2412.13663) of base's size, and small, a 2M one like it;
these two, and what is fine-tuned from them, are exported as ModernBERT.

Masked-token prediction only, without the next-sentence task (https://arxiv.org/abs/1907.11692 found it useless), over
packed rows. The original vocabulary needs its vocab.txt: --config.tokenizer.kind=huggingface
--config.tokenizer.path=bert/vocab.txt --config.tokenizer.extra_ids=0. Without it a SentencePiece of the same size is
trained on the sources, and its last id is the mask.

Command:   lmx train --config=configs/bert.py:base --config.data.sources="corpus/*.jsonl"
Hardware:  base: 8 GPUs of 40 GB or 8 TPU v4; small: a few CPU cores
Time:      small: 20 minutes on one core
Expected:  small: perplexity 106 of masked tokens after 1,500 steps on IMDb's reviews (experiments/masked_pretraining)
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import base_config
from lmx.config.run_config import modern_encoder
from lmx.errors import choose


def _base(config: ConfigDict) -> None:
  config.model.token_types = 2


def _large(config: ConfigDict) -> None:
  config.model.layers, config.model.width, config.model.heads = 24, 1024, 16
  config.model.token_types = 2


def _modern(config: ConfigDict) -> None:
  modern_encoder(config).model.mlp_width = 2048


def _small(config: ConfigDict) -> None:
  _modern(config)
  model = config.model
  model.layers, model.width, model.heads, model.mlp_width = 4, 128, 4, 352
  model.dropout = 0.0  # No text is read twice.
  model.context, config.data.length = 128, 64
  config.compute.dtype = "float32"  # CPUs compute bfloat16 by converting it.
  config.objective.mask_rate = 0.3  # A small model in a short run learns more from more.
  config.tokenizer.vocab_size = 8000
  config.train.duration, config.train.batch_size = "2500 steps", 32
  config.optimizer.peak_lr, config.optimizer.warmup, config.optimizer.b2 = 2e-3, "5%", 0.98
  config.evaluation.every, config.checkpoint.every, config.evaluation.max_rows = "10%", "20%", 1024


SIZES = {"base": _base, "large": _large, "modern": _modern, "small": _small}


def get_config(size: str = "base") -> ConfigDict:
  fill = choose("configs/bert.py:<size>", size, SIZES)
  config = base_config()
  config.name = f"bert_{size}"
  model = config.model
  model.family = "encoder"
  model.norm_position, model.norm_eps, model.embedding_norm = "post", 1e-12, True
  model.activation, model.dropout, model.init = "gelu", 0.1, "normal"
  model.context = config.data.length = 512
  config.objective.name = "masked"
  config.tokenizer.vocab_size = 30_522
  config.tokenizer.extra_ids = 1
  config.train.duration = "1000000 steps"  # With 256 rows of 512, as the paper has it.
  config.train.batch_size = 256
  config.optimizer.peak_lr = 1e-4
  config.optimizer.b2, config.optimizer.eps, config.optimizer.weight_decay = 0.999, 1e-6, 0.01
  config.optimizer.schedule, config.optimizer.final_lr_ratio, config.optimizer.warmup = "linear", 0.0, "10000 steps"
  config.evaluation.every = config.checkpoint.every = "1%"
  config.evaluation.max_rows = 4096
  fill(config)
  return config
