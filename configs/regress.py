# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Fine-tune a regressor on a table with the columns text, text_b (if there are pairs) and label, a number.

Command:   lmx train --config=configs/regress.py:runs/minilm --config.data.sources=train.tsv
Hardware:  two CPU cores for a small model
Time:      MiniLM (22M) on 5,749 pairs: 8 to 10 minutes an epoch on one core
Expected:  STS benchmark, test: Pearson 0.768 after one epoch (experiments/similarity)
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.run_config import fine_tuning


def get_config(run: str = "") -> ConfigDict:
  config = fine_tuning(run, "encoder")
  config.name = "regress"
  config.objective.name = "regression"
  config.model.dropout = 0.1
  config.data.length, config.data.packing, config.data.pad_multiple = 128, "padded", 16
  config.train.duration, config.train.batch_size = "4 epochs", 16
  config.optimizer.peak_lr = 5e-5 if run else 5e-4
  config.optimizer.weight_decay, config.optimizer.b2 = 0.01, 0.999
  return config
