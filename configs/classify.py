# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Fine-tune a classifier on a table with the columns text and label (and text_b, for pairs).

The labels are those of the run, or else those found in the training data; --config.objective.labels=negative,positive
fixes their order. A table without a header counts columns: --config.data.columns.text=1 --config.data.columns.label=2.

Command:   lmx train --config=configs/classify.py:runs/minilm --config.data.sources=train.tsv
Hardware:  two CPU cores for a small model
Time:      MiniLM (22M) on 6,920 sentences, 3 epochs: half an hour on one core
Expected:  SST-2, test: 88.5 % (experiments/sentiment)
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.run_config import fine_tuning, labels_of


def get_config(run: str = "") -> ConfigDict:
  config = fine_tuning(run, "encoder")
  config.name = "classify"
  config.objective.name = "classification"
  config.objective.labels = labels_of(run, "classification")  # A head that is taken over keeps their order.
  config.model.dropout = 0.1
  config.data.length, config.data.packing, config.data.pad_multiple = 128, "padded", 16
  config.train.duration, config.train.batch_size = "3 epochs", 16
  config.optimizer.peak_lr = 5e-5 if run else 5e-4
  config.optimizer.weight_decay, config.optimizer.b2 = 0.01, 0.999
  return config
