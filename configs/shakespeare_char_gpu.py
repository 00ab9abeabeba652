# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The larger character model of Shakespeare, nanoGPT's GPU setting: 6 layers, width 384, context 256, dropout 0.2.

Command:   lmx train --config=configs/shakespeare_char_gpu.py:input.txt
Hardware:  one GPU
Time:      not measured (nanoGPT's README says about 3 minutes on an A100)
Expected:  not measured (nanoGPT's README reports a validation loss of 1.4697 nats per character)
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import load


def get_config(path: str) -> ConfigDict:
  config = load(f"configs/shakespeare_char.py:{path}")  # What is not set here is as there.
  config.name = "shakespeare_char_gpu"
  config.model.layers = 6
  config.model.width = 384
  config.model.heads = 6
  config.model.context = config.data.length = 256
  config.model.dropout = 0.2
  config.compute.dtype = "bfloat16"
  config.train.duration = "5000 steps"
  config.train.batch_size = 64
  config.optimizer.peak_lr = 1e-3
  config.optimizer.final_lr_ratio = 0.1
  config.evaluation.batch_size = 256
  return config
