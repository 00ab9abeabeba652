# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Import of PEFT adapters, which are merged into the base as it is read, and of formats that lmx doesn't read."""

import numpy as np
import pytest
from golden_models import GOLDEN
from hf_folders import change_weights, copy, write
from safetensors.numpy import load_file, save_file

from lmx.errors import LmxError
from lmx.hf.importing import import_hf

LLAMA = GOLDEN / "llama-language-7"
QUERY = "model.layers.1.self_attn.q_proj"
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["q_proj"], "bias": "none"}


def write_adapter(folder, base, **changes) -> np.ndarray:
  """An adapter of the second layer's queries; what it adds to their weight."""
  random = np.random.default_rng(0)
  shape = load_file(base / "model.safetensors")[f"{QUERY}.weight"].shape
  a, b = (random.standard_normal(size).astype(np.float32) for size in ((2, shape[1]), (shape[0], 2)))
  folder.mkdir(exist_ok=True)
  write(folder, "adapter_config.json", CONFIG | changes)
  names = {f"base_model.model.{QUERY}.lora_A.weight": a, f"base_model.model.{QUERY}.lora_B.weight": b}
  save_file(names, folder / "adapter_model.safetensors")
  return 3 * b @ a


def merged(base, folder, added: np.ndarray):
  """A copy of the base whose weight has the adapter's part."""
  copy(base, folder)
  arrays = {name: np.asarray(array, np.float32) for name, array in load_file(base / "model.safetensors").items()}
  arrays[f"{QUERY}.weight"] = arrays[f"{QUERY}.weight"] + added
  save_file(arrays, folder / "model.safetensors")
  return folder


@pytest.mark.parametrize("same_folder", [True, False])
def test_an_adapter_is_merged_from_its_bases_folder_or_another(tmp_path, same_folder):
  base = copy(LLAMA, tmp_path / "base")
  folder = base if same_folder else tmp_path / "adapter"
  added = write_adapter(folder, LLAMA, base_model_name_or_path=str(base))
  found, expected = import_hf(folder), import_hf(merged(LLAMA, tmp_path / "merged", added))
  plain = import_hf(LLAMA)
  for name, array in expected.parameters.items():
    np.testing.assert_allclose(found.parameters[name], array, atol=1e-6, err_msg=name)
  assert np.abs(np.asarray(found.parameters["layers.attention.query.kernel"] - plain.parameters[
    "layers.attention.query.kernel"])).max() > 0.1  # fmt: skip


@pytest.mark.parametrize(
  ("changes", "pattern"),
  [
    ({"peft_type": "IA3"}, r"peft_type: got 'IA3'"),
    ({"use_dora": True}, r"use_dora: got True"),
    ({"bias": "all"}, r"bias: got 'all'"),
    ({"modules_to_save": ["embed_tokens"]}, r"modules_to_save: got 'embed_tokens'.*modules that are in"),
    ({"modules_to_save": [1]}, r"modules_to_save: got \[1\]"),
    ({"rank_pattern": {"q_.*": 2}}, r"rank_pattern: got 'q_\.\*'"),
    ({"rank_pattern": {"q_proj": 3}}, r"shape of the adapter of model\.layers\.1\.self_attn\.q_proj.*of rank 3"),
    ({"alpha_pattern": {"q_proj": "6"}}, r"alpha_pattern\.q_proj: got '6'"),
    ({"task_type": "TOKEN_FLS"}, r"task_type: got 'TOKEN_FLS'"),
    ({"r": 3}, r"shape of the adapter of model\.layers\.1\.self_attn\.q_proj"),
    ({"init_lora_weights": "pissa"}, r"init_lora_weights: got 'pissa'"),
    ({"base_model_name_or_path": "no/such/other"}, r"base_model_name_or_path: got 'no/such/other'"),
  ],
)
def test_anything_but_plain_lora_is_refused_by_its_key(tmp_path, changes, pattern):
  copy(LLAMA, tmp_path / "base")
  write_adapter(tmp_path / "adapter", LLAMA, **{"base_model_name_or_path": str(tmp_path / "base"), **changes})
  with pytest.raises(LmxError, match=pattern):
    import_hf(tmp_path / "adapter")


def test_rank_pattern_and_alpha_pattern_are_applied(tmp_path):
  base = copy(LLAMA, tmp_path / "base")
  patterns = {"r": 5, "lora_alpha": 1, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 6}}
  added = write_adapter(tmp_path / "adapter", LLAMA, base_model_name_or_path=str(base), **patterns)
  found, expected = import_hf(tmp_path / "adapter"), import_hf(merged(LLAMA, tmp_path / "merged", added))
  for name, array in expected.parameters.items():
    np.testing.assert_allclose(found.parameters[name], array, atol=1e-6, err_msg=name)


def test_an_embedding_that_was_trained_apart_from_its_output_table_is_refused(tmp_path):
  base = copy(LLAMA, tmp_path / "base", tie_word_embeddings=True)
  change_weights(base, lambda arrays: {name: array for name, array in arrays.items() if name != "lm_head.weight"})
  write_adapter(tmp_path / "adapter", LLAMA, base_model_name_or_path=str(base), modules_to_save=["embed_tokens"])
  table = {
    "base_model.model.model.embed_tokens.weight": load_file(LLAMA / "model.safetensors")["model.embed_tokens.weight"]
  }
  file = tmp_path / "adapter" / "adapter_model.safetensors"
  save_file(load_file(file) | table, file)
  with pytest.raises(LmxError, match=r"modules_to_save.*model\.embed_tokens\.weight.*lm_head\.weight as well"):
    import_hf(tmp_path / "adapter")


def test_a_gguf_file_is_refused_with_a_fix(tmp_path):
  (tmp_path / "model.gguf").write_bytes(b"GGUF")
  for path in (tmp_path / "model.gguf", tmp_path):
    with pytest.raises(LmxError, match=r"gguf.*fetch the model that it was made from"):
      import_hf(path)
