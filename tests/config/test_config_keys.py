# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Keys that nothing reads are errors, and the names that other programs use lead to lmx's keys."""

import pytest
from laws import assert_law_catches

from lmx.config import loading as configs
from lmx.config.other_names import OTHER_NAMES
from lmx.config.table import keys
from lmx.experiment.readers import readers_of, rows, unread_keys

BASE = "configs/base.py"


def problems(*overrides: str) -> str:
  config = configs.load(BASE, overrides)
  return "\n".join([*configs.check(config), *unread_keys(config, *rows())])


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
    (["compute.stage_rounds=2"], "compute.stage_rounds", "set config.mesh.stage"),
    (["model.window=8", "model.global_first=true"], "model.global_first", "set config.model.global_every"),
    (
      ["model.position=rotary", "model.rope_scaling=linear", "model.rope_original_context=9"],
      "model.rope_original_context",
      "model.rope_scaling=llama3",
    ),
    (["objective.mask_rate=0.2"], "objective.mask_rate", "objective.name=masked"),
    (["objective.name=dpo", "objective.teacher=configs"], "objective.teacher", "objective.name=distillation"),
    (["model.token_types=2"], "model.token_types", "model.family=encoder"),
    (["model.family=lstm", "model.heads=2"], "model.heads", "model.family=transformer or encoder"),
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


def test_the_keys_that_a_tables_rows_name_are_those_that_base_py_leaves_to_it():
  """A key is named by some row of a table if, and only if, its `read_by` in base.py is the key that chooses the row."""

  def same(tables) -> None:
    for chooser, table in tables.items():
      section = chooser.rpartition(".")[0]
      named = {f"{section}.{key}" for names in table.values() for key in names} & set(keys())
      left = {name for name, entry in keys().items() if any(r.chooser == chooser for r in entry.readers)}
      assert left == named - {chooser}, chooser

  same(rows())
  assert_law_catches(same, rows() | {"optimizer.name": {"sgd": ("b1",)}})
  assert_law_catches(same, rows() | {"optimizer.name": rows()["optimizer.name"] | {"new": ("warmup",)}})


def test_the_comments_of_objectives_name_those_that_read_the_key():
  """ "masked: share of tokens ..." starts with its readers; a key that several kinds share has no such start."""
  prefix = {name: entry.meaning.partition(": ")[0] for name, entry in keys().items() if name.startswith("objective.")}
  objectives = set(rows()["objective.name"])
  named = {name: set(text.split(", ")) for name, text in prefix.items() if set(text.split(", ")) <= objectives}
  assert len(named) > 12
  for name, readers in named.items():
    found = {row for row, read in rows()["objective.name"].items() if name.rpartition(".")[2] in read}
    assert readers == found, name


def test_who_reads_a_key_is_reported_in_words():
  assert readers_of("optimizer.b1").endswith("muon, schedule_free, lion, sgd, nesterov (optimizer.name)")
  assert readers_of("optimizer.decay") == "optimizer.schedule = wsd"
  assert readers_of("model.width") == readers_of("seed") == ""


def test_the_names_of_other_programs_are_for_keys_that_exist():
  assert set(OTHER_NAMES.values()) <= set(keys())
  assert not {key.rpartition(".")[2] for key in keys()} & set(OTHER_NAMES), "a name of lmx needs no translation"


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
