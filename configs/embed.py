# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Train sentence embeddings on pairs that mean the same, in the columns text and text_b; other rows of a batch are the
negatives (https://arxiv.org/abs/1908.10084, https://arxiv.org/abs/2104.08821).

Command:   lmx train --config=configs/embed.py:runs/bert --config.data.sources=pairs.tsv
Hardware:  two CPU cores for a small model
Time:      not measured
Expected:  not measured
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.run_config import fine_tuning


def get_config(run: str = "") -> ConfigDict:
  config = fine_tuning(run, "encoder")
  config.name = "embed"
  config.objective.name = "contrastive"
  if config.model.pooling is None:  # A run that was imported with a pooling, or trained with one, keeps it.
    config.model.pooling = "mean" if config.model.family == "encoder" else "last"
  config.data.length, config.data.packing = 64, "padded"
  config.train.duration, config.train.batch_size = "1 epochs", 64
  config.optimizer.peak_lr = 3e-5 if run else 5e-4
  config.optimizer.weight_decay, config.optimizer.b2 = 0.01, 0.999
  return config
