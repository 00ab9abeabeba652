# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A character model of Shakespeare in nanoGPT's laptop setting: 4 layers, width 128, context 64, 2,000 updates.

The text is the 1.1 MB input.txt of https://github.com/karpathy/char-rnn/tree/master/data/tinyshakespeare, or any
other single file; its last 10 % are the validation set. Loss is in nats per character.

Command:   lmx train --config=configs/shakespeare_char.py:input.txt
Hardware:  two CPU cores
Time:      about 3 minutes of training
Expected:  validation loss 1.78 (measured 1.7811; nanoGPT's README reports 1.88 for this setting)
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import base_config


def get_config(path: str) -> ConfigDict:
  config = base_config()
  config.name = "shakespeare_char"
  config.data.sources = (path,)
  config.data.packing = "concatenated"  # One stream of characters, cut into rows.
  config.data.heldout_split = "tail"
  config.data.heldout_fraction = 0.1
  config.tokenizer.model_type = "char"  # One piece for each character of the text.

  config.model.layers = 4
  config.model.width = 128
  config.model.heads = 4
  config.model.context = config.data.length = 64
  config.model.norm_bias = config.model.attention_bias = config.model.mlp_bias = False
  config.compute.dtype = "float32"  # CPUs compute bfloat16 by converting it.

  config.train.duration = "2000 steps"
  config.train.batch_size = 12
  config.optimizer.peak_lr = 3e-3  # nanoGPT's 1e-3 ends at 1.913 here: 2,000 updates are few.
  config.optimizer.final_lr_ratio = 0.03
  config.optimizer.warmup = "100 steps"
  config.optimizer.b2 = 0.99  # Few tokens a step make for noisy gradients: average over more of them.

  config.evaluation.every = "250 steps"
  config.evaluation.batch_size = 64
  config.evaluation.sample_tokens = 500
  config.checkpoint.every = "500 steps"
  return config
