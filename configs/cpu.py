# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A real small Transformer on the text that every Python carries; what `lmx train` does when told nothing else.

Command:   lmx train
Hardware:  two CPU cores, about 1 GB of memory
Time:      about two minutes of training (not measured yet)
Expected:  not measured
"""

from ml_collections.config_dict import ConfigDict

from lmx.config import base_config


def get_config() -> ConfigDict:
  config = base_config()
  config.name = "cpu"
  config.model.layers = 4
  config.model.width = 192
  config.model.heads = 6
  config.model.context = 128
  config.compute.dtype = "float32"  # CPUs compute bfloat16 by converting it.
  config.tokenizer.vocab_size = 2048
  config.data.length = 128
  config.train.duration = "600 steps"
  config.train.batch_size = 16
  config.optimizer.peak_lr = 2e-3
  config.optimizer.warmup = "5%"
  config.evaluation.every = "20%"
  config.evaluation.max_rows = 256
  config.checkpoint.every = "20%"
  return config
