# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The runs of the chat study: a small pretrained decoder, and its fine-tuning with all parameters or with adapters.

Command:   lmx train --config=experiments/chat/config.py:pretrained
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import load
from lmx.errors import choose


def _pretrained() -> ConfigDict:
  config = load("configs/cpu.py")
  config.data.sources = ("imdb.jsonl.gz",)
  config.model.width = 192
  config.model.position = "rotary"
  config.model.context = config.data.length = 256
  config.tokenizer.vocab_size = 4096
  config.train.duration, config.train.batch_size = "500 steps", 8
  return config


def _fine_tuned() -> ConfigDict:
  config = load("configs/sft.py:runs/pretrained")
  config.data.sources, config.data.heldout_sources = ("chat/train.jsonl",), ("chat/test.jsonl",)
  config.data.length = 256
  config.data.bad_documents = "skip"  # Chats without an answer within 256 tokens.
  config.train.duration = "1 epochs"
  return config


def _full() -> ConfigDict:
  config = _fine_tuned()
  config.optimizer.peak_lr = 1e-3
  return config


def _lora() -> ConfigDict:
  config = _fine_tuned()
  config.lora.rank = 16
  config.optimizer.peak_lr = 3e-3
  return config


RUNS = {"pretrained": _pretrained, "chat_full": _full, "chat_lora": _lora}


def get_config(run: str) -> ConfigDict:
  config = choose("experiments/chat/config.py:<run>", run, RUNS)()
  config.name = run
  return config
