# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""LSTM language models: medium (20M), and a small one of characters (0.8M).

medium is that of https://arxiv.org/abs/1409.2329: two layers of 650, dropout 0.5, plain SGD with a clipped gradient,
truncated backpropagation over 35 tokens with the state carried from batch to batch. The paper lowers the learning rate
by 1.2 each epoch from the sixth on; here it falls when the validation loss stalls. small has the parameter count of
configs/shakespeare_char.py with a context of 128, and AdamW.

Command:   lmx train --config=configs/lstm.py:small --config.data.sources=input.txt
Hardware:  medium: one GPU, or a few CPU cores for a day; small: two CPU cores
Time:      small: ten minutes on one core
Expected:  small on tinyshakespeare: 1.753 nats per character of validation loss (experiments/lstm_transformer)
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import base_config
from lmx.errors import choose


def _medium(config: ConfigDict) -> None:
  model = config.model
  model.carry_state, config.data.packing = True, "streams"
  model.width, model.tied, model.dropout, model.init, model.init_std = 650, False, 0.5, "uniform", 0.05
  model.context = config.data.length = 35
  config.tokenizer.vocab_size = 10_000
  config.train.duration, config.train.batch_size = "39 epochs", 20
  config.optimizer.name, config.optimizer.b1, config.optimizer.weight_decay = "sgd", 0.0, 0.0
  config.optimizer.schedule, config.optimizer.warmup, config.optimizer.peak_lr = "plateau", "0 steps", 20.0
  config.optimizer.clip_norm = 0.25
  config.evaluation.every = config.checkpoint.every = "1 epochs"


def _small(config: ConfigDict) -> None:
  config.model.width = 222  # 818,736 parameters; configs/shakespeare_char.py has 820,352 with a context of 128.
  # Rows start from a zero state, as a Transformer's do. A state carried through a text without document starts, and
  # without dropout, drifts: cells reach 20,000, and with a zero state at the start, 0.6 nats are lost (2,000 steps).
  config.model.context = config.data.length = 128
  config.data.packing = "concatenated"
  config.model.init = "xavier"  # With a standard deviation of 0.02 it was 0.2 nats behind after 250 steps.
  config.tokenizer.model_type = "char"
  config.data.heldout_split, config.data.heldout_fraction = "tail", 0.1
  config.train.duration, config.train.batch_size = "2000 steps", 8
  config.optimizer.peak_lr, config.optimizer.final_lr_ratio, config.optimizer.warmup = 5e-3, 0.03, "100 steps"
  config.optimizer.b2 = 0.99
  config.evaluation.every, config.checkpoint.every = "250 steps", "500 steps"
  config.evaluation.batch_size = 32


SIZES = {"medium": _medium, "small": _small}


def get_config(size: str = "medium") -> ConfigDict:
  fill = choose("configs/lstm.py:<size>", size, SIZES)
  config = base_config()
  config.name = f"lstm_{size}"
  config.model.family, config.model.layers = "lstm", 2
  config.compute.dtype = "float32"
  fill(config)
  return config
