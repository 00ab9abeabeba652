# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Fine-tune extractive question answering on a table with the columns question, context, answer and answer_start.

An empty answer means that the context has none. Several right answers are in the column answers, as SQuAD has them:
{"text": [...], "answer_start": [...]}; the first is learned, and an evaluation takes the best.

Command:   lmx train --config=configs/span.py:runs/bert --config.data.sources=train.jsonl
Hardware:  two CPU cores for a small model
Time:      MiniLM (22M): 12 minutes for an epoch of 2,156 reviews on one core
Expected:  SubjQA, test, 4 epochs at 2e-4: exact match 46.0, F1 50.9 (experiments/question_answering)
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.run_config import fine_tuning


def get_config(run: str = "") -> ConfigDict:
  config = fine_tuning(run, "encoder")
  config.name = "span"
  config.objective.name = "span"
  config.model.dropout = 0.1
  config.data.length, config.data.packing = 384, "padded"
  config.train.duration, config.train.batch_size = "2 epochs", 16
  config.optimizer.peak_lr = 5e-5 if run else 5e-4
  config.optimizer.weight_decay, config.optimizer.b2 = 0.01, 0.999
  return config
