# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The character model of Shakespeare at lmx's learning rate and at nanoGPT's.

Command:   lmx train --config=experiments/shakespeare_char/config.py:shakespeare_lr
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import load
from lmx.errors import choose


def _ours() -> ConfigDict:
  return load("configs/shakespeare_char.py:input.txt")


def _nanogpt() -> ConfigDict:
  config = _ours()
  config.optimizer.peak_lr, config.optimizer.final_lr_ratio = 1e-3, 0.1
  return config


RUNS = {"shakespeare_char": _ours, "shakespeare_lr": _nanogpt}


def get_config(run: str) -> ConfigDict:
  config = choose("experiments/shakespeare_char/config.py:<run>", run, RUNS)()
  config.name = run
  return config
