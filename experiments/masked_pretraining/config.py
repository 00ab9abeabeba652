# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Masked pretraining on film reviews, and SST-2 from its weights or from random ones at two learning rates.

Command:   lmx train --config=experiments/masked_pretraining/config.py:bert_small
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import load
from lmx.errors import choose


def _pretraining() -> ConfigDict:
  config = load("configs/bert.py:small")
  config.data.sources = ("reviews.jsonl",)
  config.train.duration = "1500 steps"
  return config


def _fine_tuning(peak_lr: float, *, pretrained: bool) -> ConfigDict:
  """SST-2 on the shape and the tokenizer of the pretrained encoder, with or without its weights."""
  config = load("configs/classify.py:runs/bert_small")
  if not pretrained:
    config.checkpoint.start_from = None
  config.data.sources, config.data.heldout_sources = ("sst2/train.tsv",), ("sst2/dev.tsv",)
  config.data.columns.text, config.data.columns.label = "1", "2"
  config.optimizer.peak_lr = peak_lr
  config.evaluation.every = "100 steps"
  return config


RUNS = {
  "bert_small": _pretraining,
  "pretrained_2e-4": lambda: _fine_tuning(2e-4, pretrained=True),
  "pretrained_1e-3": lambda: _fine_tuning(1e-3, pretrained=True),
  "random_2e-4": lambda: _fine_tuning(2e-4, pretrained=False),
  "random_1e-3": lambda: _fine_tuning(1e-3, pretrained=False),
}


def get_config(run: str) -> ConfigDict:
  config = choose("experiments/masked_pretraining/config.py:<run>", run, RUNS)()
  config.name = run
  return config
