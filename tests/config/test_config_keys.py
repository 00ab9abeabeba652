# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Keys that nothing reads are errors, and the names that other programs use lead to lmx's keys."""

import pytest
from laws import assert_law_catches

from lmx.config import loading as configs
from lmx.config.keys import OTHER_NAMES, READERS
from lmx.optim.optimizers import OPTIMIZERS

BASE = "configs/base.py"
HYPERPARAMETERS = ("b1", "b2", "eps")


def problems(*overrides: str) -> str:
  return "\n".join(configs.check(configs.load(BASE, overrides)))


@pytest.mark.parametrize(
  ("overrides", "key", "fix"),
  [
    (["optimizer.name=sgd", "optimizer.b2=0.5"], "optimizer.b2", "optimizer.name=adamw"),
    (["model.rope_theta=5"], "model.rope_theta", "model.position=rotary"),
    (["model.mamba_state=7"], "model.mamba_state", "model.mixer=mamba2"),
    (["lora.alpha=3"], "lora.alpha", "set config.lora.rank"),
    (["optimizer.schedule=constant", "optimizer.final_lr_ratio=0.3"], "optimizer.final_lr_ratio", "schedule=cosine"),
    (["optimizer.decay=5%"], "optimizer.decay", "optimizer.schedule=wsd"),
    (["model.load_balance=0.5"], "model.load_balance", "set config.model.experts"),
    (["model.global_every=2"], "model.global_every", "set config.model.window"),
    (["compute.remat_keep=queries"], "compute.remat_keep", "compute.remat=full"),
  ],
)
def test_a_key_that_the_chosen_part_does_not_read_is_an_error(overrides, key, fix):
  found = problems(*overrides)
  assert f"config.{key}: got" in found
  assert "doesn't read it" in found
  assert fix in found


@pytest.mark.parametrize(
  "overrides",
  [
    ["optimizer.name=rmsprop", "optimizer.b2=0.5"],
    ["model.position=rotary", "model.rope_theta=5"],
    ["model.mixer=mamba2", "model.mamba_state=64"],
    ["lora.rank=4", "lora.alpha=3"],
    ["optimizer.schedule=linear", "optimizer.final_lr_ratio=0.3"],
    ["model.experts=4", "model.load_balance=0.5"],
    ["model.window=16", "model.global_every=2"],
  ],
)
def test_a_key_that_is_read_may_be_changed(overrides):
  assert problems(*overrides) == ""


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_who_reads_an_optimizers_keys_is_what_the_optimizer_says(name):
  def check(reads) -> None:
    for key in HYPERPARAMETERS:
      allowed = next(values for found, _, values in READERS if found == f"optimizer.{key}")
      assert (name in allowed) == (key in reads), key

  reads = OPTIMIZERS[name].reads
  check(reads)
  assert_law_catches(check, tuple(key for key in HYPERPARAMETERS if key not in reads))


def test_every_key_of_the_tables_exists():
  flat = configs.flatten(configs.load(BASE))
  assert {key for key, _, _ in READERS} | {chooser for _, chooser, _ in READERS} <= set(flat)
  assert set(OTHER_NAMES.values()) <= set(flat)
  assert not {key.rpartition(".")[2] for key in flat} & set(OTHER_NAMES), "a name of lmx needs no translation"


@pytest.mark.parametrize(
  ("typed", "key"),
  [
    ("model.hidden_size", "model.width"), ("hidden_size", "model.width"), ("d_model", "model.width"),
    ("n_embd", "model.width"), ("n_layer", "model.layers"), ("num_hidden_layers", "model.layers"),
    ("base_num_decoder_layers", "model.layers"), ("n_head", "model.heads"), ("num_key_value_heads", "model.kv_heads"),
    ("head_dim", "model.head_width"), ("d_ff", "model.mlp_width"), ("model.intermediate_size", "model.mlp_width"),
    ("max_seq_len", "data.length"), ("block_size", "model.context"), ("learning_rate", "optimizer.peak_lr"),
    ("optimizer.learning_rate", "optimizer.peak_lr"), ("weight_decay", "optimizer.weight_decay"),
    ("train.weight_decay", "optimizer.weight_decay"), ("max_grad_norm", "optimizer.clip_norm"),
    ("gradient_accumulation_steps", "train.micro_batches"), ("gradient_checkpointing", "compute.remat"),
    ("per_device_batch_size", "train.batch_size"), ("lora_r", "lora.rank"), ("target-modules", "lora.targets"),
    ("model.widht", "model.width"), ("optimizer.peek_lr", "optimizer.peak_lr"),
  ],
)  # fmt: skip
def test_the_names_of_other_programs_lead_to_the_key(typed, key):
  _, found = configs.try_load(BASE, [f"{typed}=1"])
  assert f"config.{typed}: no such key. Did you mean config.{key}?" in found[0]
