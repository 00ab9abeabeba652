# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Llama-style decoders: rotary positions, RMSNorm, SwiGLU, no biases. 125m is lmx's; 1b and 8b have the shapes of
Llama-3.2-1B and Llama-3.1-8B, with their rotary scaling to 131,072 tokens, so their weights fit.

The original vocabulary of 1b and 8b, 128,256 tokens, needs its tokenizer.json: --config.tokenizer.kind=huggingface
--config.tokenizer.path=llama3/tokenizer.json. Without it a SentencePiece of the same size is trained on the sources.
Batch, learning rate and rows of 8,192 tokens of 8b follow https://arxiv.org/abs/2407.21783 (table 3 and section 3.4).

Command:   lmx train --config=configs/llama.py:125m --config.data.sources="corpus/*.jsonl"
Hardware:  125m: 8 GPUs of 80 GB or 8 TPU v5p; 1b: 16; 8b: 128 of them
Time:      not measured
Expected:  not measured
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import base_config
from lmx.errors import choose


def _125m(config: ConfigDict) -> None:
  model = config.model
  model.layers, model.width, model.heads, model.mlp_width = 12, 768, 12, 2048
  model.context = config.data.length = 2048
  config.tokenizer.vocab_size = 32_000
  config.train.duration = "10B tokens"
  config.train.batch_size = 256
  config.optimizer.peak_lr = 6e-4
  config.optimizer.warmup = "2%"


def _1b(config: ConfigDict) -> None:
  model = config.model
  model.layers, model.width, model.heads, model.kv_heads, model.mlp_width = 16, 2048, 32, 8, 8192
  _llama3(config, rope_factor=32.0)
  config.train.batch_size = 256
  config.optimizer.peak_lr = 4e-4


def _8b(config: ConfigDict) -> None:
  model = config.model
  model.layers, model.width, model.heads, model.kv_heads, model.mlp_width = 32, 4096, 32, 8, 14_336
  model.tied = False
  _llama3(config, rope_factor=8.0)
  config.train.batch_size = 512
  config.optimizer.peak_lr = 3e-4


def _llama3(config: ConfigDict, rope_factor: float) -> None:
  """What the two Llama 3 sizes share. Frequency bounds of the scaling, 1 and 4, are in lmx.nn."""
  model = config.model
  model.rope_theta = 500_000.0
  model.rope_scaling, model.rope_factor, model.rope_original_context = "llama3", rope_factor, 8192
  model.context = 131_072
  config.data.length = 8192
  config.tokenizer.vocab_size = 128_256
  config.train.duration = "1T tokens"
  config.optimizer.warmup = "8000 steps"
  config.mesh.data, config.mesh.fsdp = 1, -1
  config.compute.remat = "full"


SIZES = {"125m": _125m, "1b": _1b, "8b": _8b}


def get_config(size: str = "125m") -> ConfigDict:
  fill = choose("configs/llama.py:<size>", size, SIZES)
  config = base_config()
  config.name = f"llama_{size}"
  config.model.position = "rotary"
  config.model.norm = "rmsnorm"
  config.model.norm_eps = 1e-5
  config.model.norm_bias = config.model.attention_bias = config.model.mlp_bias = False
  config.model.activation = "swiglu"
  config.model.init = "normal"
  config.tokenizer.train_bytes = 500_000_000
  config.data.heldout_fraction = 0.0005
  config.evaluation.every = "1000 steps"
  config.evaluation.max_rows = 4096
  config.checkpoint.every = "1000 steps"
  fill(config)
  return config
