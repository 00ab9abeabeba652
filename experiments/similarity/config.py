# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Similarity of the sentence pairs of the STS benchmark, from MiniLM.

Command:   lmx train --config=experiments/similarity/config.py:stsb
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import load
from lmx.errors import choose


def _stsb() -> ConfigDict:
  config = load("configs/regress.py:runs/minilm_regression")
  config.train.duration = "1 epochs"
  config.data.sources, config.data.heldout_sources = ("tsv:sts-train.csv",), ("tsv:sts-dev.csv",)
  config.data.columns.label, config.data.columns.text, config.data.columns.text_b = "5", "6", "7"
  return config


RUNS = {"stsb": _stsb}


def get_config(run: str) -> ConfigDict:
  config = choose("experiments/similarity/config.py:<run>", run, RUNS)()
  config.name = run
  return config
