# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Fine-tune a tagger (names, parts of speech) on a table with the columns tokens and tags.

Command:   lmx train --config=configs/tag.py:runs/bert --config.data.sources=train.jsonl
Hardware:  two CPU cores for a small model
Time:      not measured
Expected:  not measured
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.run_config import fine_tuning, labels_of


def get_config(run: str = "") -> ConfigDict:
  config = fine_tuning(run, "encoder")
  config.name = "tag"
  config.objective.name = "tagging"
  config.objective.labels = labels_of(run, "tagging")  # A head that is taken over keeps their order.
  config.model.dropout = 0.1
  config.data.length, config.data.packing = 128, "padded"
  config.train.duration, config.train.batch_size = "3 epochs", 16
  config.optimizer.peak_lr = 5e-5 if run else 5e-4
  config.optimizer.weight_decay, config.optimizer.b2 = 0.01, 0.999
  return config
