# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The original Transformer, small, on Multi30k's German and English.

Command:   lmx train --config=experiments/translation/config.py:translation_small
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import load
from lmx.errors import choose


def _small() -> ConfigDict:
  config = load("configs/translation.py:small")
  config.data.sources, config.data.heldout_sources = ("multi30k/train.tsv",), ("multi30k/val.tsv",)
  return config


RUNS = {"translation_small": _small}


def get_config(run: str) -> ConfigDict:
  config = choose("experiments/translation/config.py:<run>", run, RUNS)()
  config.name = run
  return config
