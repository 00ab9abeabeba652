# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""An LSTM and a Transformer with equal parameters, text and number of training tokens.

Command:   lmx train --config=experiments/lstm_transformer/config.py:lstm
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import load
from lmx.errors import choose


def _lstm() -> ConfigDict:
  config = load("configs/lstm.py:small")
  config.data.sources = ("input.txt",)
  return config


def _transformer() -> ConfigDict:
  config = load("configs/shakespeare_char.py:input.txt")
  config.model.context = config.data.length = 128  # The rows and batches of the LSTM.
  config.train.batch_size = 8
  config.evaluation.batch_size = 32
  return config


RUNS = {"lstm": _lstm, "transformer": _transformer}


def get_config(run: str) -> ConfigDict:
  config = choose("experiments/lstm_transformer/config.py:<run>", run, RUNS)()
  config.name = run
  return config
