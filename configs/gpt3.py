# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""GPT-3 sizes up to 13B, from table 2.1 of https://arxiv.org/abs/2005.14165, with that table's batch and learning rate.

Optimizer and durations are the paper's appendix B: Adam (0.9, 0.95), decay 0.1, clipping at 1, warm-up over 375M
tokens, 300B tokens in all. Known differences: attention is dense in every layer (the paper alternates it with a banded
sparse one), the batch is not ramped up, and the cosine ends at 300B tokens, not at 260B. The original vocabulary,
50,257 tokens, needs its tokenizer.json: --config.tokenizer.kind=huggingface
--config.tokenizer.path=gpt2/tokenizer.json. Without it a SentencePiece of the same size is trained on the sources.

Command:   lmx train --config=configs/gpt3.py:125m --config.data.sources="corpus/*.jsonl"
Hardware:  125m: 8 GPUs of 80 GB or 8 TPU v5p; 13b: 128 of them
Time:      not measured
Expected:  not measured
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import base_config
from lmx.errors import choose

# layers, width, heads, rows of 2,048 tokens in a batch (0.5M, 1M, 2M tokens), peak learning rate
SIZES = {
  "125m": (12, 768, 12, 256, 6.0e-4),
  "350m": (24, 1024, 16, 256, 3.0e-4),
  "760m": (24, 1536, 16, 256, 2.5e-4),
  "1.3b": (24, 2048, 16, 512, 2.0e-4),  # The table prints 24 heads of 128; 16 of them fill the width and give 1.3B.
  "2.7b": (32, 2560, 32, 512, 1.6e-4),
  "6.7b": (32, 4096, 32, 1024, 1.2e-4),
  "13b": (40, 5120, 40, 1024, 1.0e-4),  # The table prints a width of 5,140, which 40 heads of 128 do not fill.
}


def get_config(size: str = "125m") -> ConfigDict:
  layers, width, heads, rows, peak_lr = choose("configs/gpt3.py:<size>", size, SIZES)
  config = base_config()
  config.name = f"gpt3_{size}"
  config.model.layers, config.model.width, config.model.heads = layers, width, heads
  config.model.context = config.data.length = 2048

  config.tokenizer.vocab_size = 50_257
  config.tokenizer.train_bytes = 500_000_000
  config.data.heldout_fraction = 0.0005
  config.train.duration = "300B tokens"
  config.train.batch_size = rows
  config.optimizer.peak_lr = peak_lr
  config.optimizer.warmup = "375M tokens"

  if width >= 1536:
    config.mesh.data, config.mesh.fsdp = 1, -1
    config.compute.remat = "full"
  config.evaluation.every = "1000 steps"
  config.evaluation.max_rows = 4096
  config.checkpoint.every = "1000 steps"
  return config
