# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Sentiment of SST-2's sentences and of 400 reviews of IMDb, from MiniLM.

Command:   lmx train --config=experiments/sentiment/config.py:sst2
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import load
from lmx.errors import choose


def _sst2() -> ConfigDict:
  config = load("configs/classify.py:runs/minilm_classification")
  config.data.sources, config.data.heldout_sources = ("sst2/train.tsv",), ("sst2/dev.tsv",)
  config.data.columns.text, config.data.columns.label = "1", "2"
  config.optimizer.warmup = "500 steps"
  return config


def _imdb() -> ConfigDict:
  config = load("configs/classify.py:runs/minilm_classification")
  config.data.sources, config.data.heldout_sources = ("imdb/train.tsv",), ("imdb/test.tsv",)
  config.data.columns.label, config.data.columns.text = "1", "2"
  return config


RUNS = {"sst2": _sst2, "imdb": _imdb}


def get_config(run: str) -> ConfigDict:
  config = choose("experiments/sentiment/config.py:<run>", run, RUNS)()
  config.name = run
  return config
