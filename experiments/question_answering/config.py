# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Extractive question answering on SubjQA's reviews of electronics, from MiniLM.

Command:   lmx train --config=experiments/question_answering/config.py:span
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import load
from lmx.errors import choose


def _span() -> ConfigDict:
  config = load("configs/span.py:runs/minilm")
  config.data.sources, config.data.heldout_sources = ("train.jsonl",), ("dev.jsonl",)
  config.data.length = 192
  config.train.duration = "4 epochs"
  config.optimizer.peak_lr = 2e-4
  config.evaluation.every = "1 epochs"
  return config


RUNS = {"span": _span}


def get_config(run: str) -> ConfigDict:
  config = choose("experiments/question_answering/config.py:<run>", run, RUNS)()
  config.name = run
  return config
