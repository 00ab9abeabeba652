# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""GPT-2 (Radford et al., 2019): small 124M, medium 350M, large 774M, xl 1.56B parameters.

The shapes are the paper's; batch, learning rate and schedule are those of GPT-3 (table 2.1) for the same sizes, as
the GPT-2 paper does not give its own. The original vocabulary, 50,257 tokens, needs its tokenizer.json:
--config.tokenizer.kind=huggingface --config.tokenizer.path=gpt2/tokenizer.json. Without it a SentencePiece of the same
size is trained on the sources, which takes a few hundred megabytes of text.

Command:   lmx train --config=configs/gpt2.py:small --config.data.sources="openwebtext/*.jsonl"
Hardware:  small: 8 GPUs of 80 GB or 8 TPU v5p; xl: 32 of them
Time:      not measured
Expected:  not measured (nanoGPT reports a validation loss of 2.85 on OpenWebText for small, after 300B tokens)
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import base_config
from lmx.errors import choose

# layers, width, heads, peak learning rate
SIZES = {
  "small": (12, 768, 12, 6e-4),
  "medium": (24, 1024, 16, 3e-4),
  "large": (36, 1280, 20, 2.5e-4),
  "xl": (48, 1600, 25, 2e-4),
}


def get_config(size: str = "small") -> ConfigDict:
  layers, width, heads, peak_lr = choose("configs/gpt2.py:<size>", size, SIZES)
  config = base_config()  # Its model section is GPT-2's: learned positions, pre-norm, tanh GELU, biases, tied.
  config.name = f"gpt2_{size}"
  config.model.layers, config.model.width, config.model.heads = layers, width, heads
  config.model.context = config.data.length = 1024

  config.tokenizer.vocab_size = 50_257
  config.tokenizer.train_bytes = 500_000_000
  config.data.heldout_fraction = 0.0005
  config.train.duration = "300B tokens"
  config.train.batch_size = 512
  config.optimizer.peak_lr = peak_lr
  config.optimizer.warmup = "2000 steps"

  if size in ("large", "xl"):
    config.mesh.data, config.mesh.fsdp = 1, -1
    config.compute.remat = "full"
  config.evaluation.every = "1000 steps"
  config.evaluation.max_rows = 4096
  config.checkpoint.every = "1000 steps"
  return config
