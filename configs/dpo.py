# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Preference tuning by DPO (https://arxiv.org/abs/2305.18290) on a table with the columns prompt, chosen and rejected.

Without a prompt, chosen and rejected are complete chats, and their common beginning is the prompt.
The reference is the model that the run starts from; it is kept frozen in the checkpoints.

Command:   lmx train --config=configs/dpo.py:runs/sft --config.data.sources=preferences.jsonl
Hardware:  1B parameters: one GPU of 80 GB
Time:      not measured
Expected:  not measured
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.run_config import fine_tuning


def get_config(run: str = "") -> ConfigDict:
  config = fine_tuning(run, "transformer")
  config.name = "dpo"
  config.objective.name = "dpo"
  config.data.length, config.data.packing = 512, "padded"
  config.train.duration, config.train.batch_size = "1 epochs", 16
  config.optimizer.peak_lr = 5e-7 if run else 1e-4
  config.optimizer.weight_decay = 0.0
  return config
