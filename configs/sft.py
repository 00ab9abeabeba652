# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Fine-tune a decoder (a Llama, say) on chats, with loss on the answers only.

A chat is in the column messages (with tools, if any), in ShareGPT's conversations, in Alpaca's instruction, input and
output, or in prompt and completion. It is rendered by the template of the tokenizer, else by ChatML; one that rewrites
earlier turns gets an example for each answer. With low-rank adapters, everything else is frozen:
add --config.lora.rank=16 --config.optimizer.peak_lr=2e-4; `lmx export` merges them into the weights, or with
--adapter writes only the adapters, for PEFT.

Command:   lmx train --config=configs/sft.py:runs/llama --config.data.sources=chats.jsonl
Hardware:  1B parameters: one GPU of 80 GB
Time:      1B: not measured; 2.6M parameters on 2,034 chats: two minutes an epoch on a few CPU cores
Expected:  see experiments/chat
"""

from ml_collections.config_dict import ConfigDict

from lmx.config.run_config import fine_tuning


def get_config(run: str = "") -> ConfigDict:
  config = fine_tuning(run, "transformer")
  config.name = "sft"
  config.objective.name = "chat"
  config.data.length, config.data.packing = 512, "packed"
  config.train.duration, config.train.batch_size = "3 epochs", 16
  config.optimizer.peak_lr = 2e-5 if run else 1e-3
  config.optimizer.weight_decay = 0.0
  config.optimizer.schedule, config.optimizer.warmup = "cosine", "3%"
  return config
