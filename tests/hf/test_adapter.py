# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""PEFT's adapters: merged into the base when it is read, and never left out; and files that lmx doesn't read."""

import numpy as np
import pytest
from golden_models import GOLDEN
from hf_folders import copy, write
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


@pytest.mark.parametrize("beside", [True, False])
def test_an_adapter_is_merged_beside_its_base_or_elsewhere(tmp_path, beside):
  base = copy(LLAMA, tmp_path / "base")
  folder = base if beside else tmp_path / "adapter"
  added = write_adapter(folder, LLAMA, base_model_name_or_path=str(base))
  found, expected = import_hf(folder), import_hf(merged(LLAMA, tmp_path / "merged", added))
  plain = import_hf(LLAMA)
  for name, array in expected.parameters.items():
    np.testing.assert_allclose(found.parameters[name], array, atol=1e-6, err_msg=name)
  assert np.abs(np.asarray(found.parameters["layers.attention.query.kernel"] - plain.parameters[
    "layers.attention.query.kernel"])).max() > 0.1  # fmt: skip


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"peft_type": "IA3"}, r"peft_type: got 'IA3'"),
    ({"use_dora": True}, r"use_dora: got True"),
    ({"bias": "all"}, r"bias: got 'all'"),
    ({"modules_to_save": ["lm_head"]}, r"modules_to_save: got \['lm_head'\]"),
    ({"r": 3}, r"shape of the adapter of model\.layers\.1\.self_attn\.q_proj"),
    ({"init_lora_weights": "pissa"}, r"init_lora_weights: got 'pissa'"),
    ({"base_model_name_or_path": "no/such-base"}, r"base_model_name_or_path: got 'no/such-base'"),
  ],
)
def test_what_is_no_plain_lora_is_refused_by_its_key(tmp_path, changes, said):
  copy(LLAMA, tmp_path / "base")
  write_adapter(tmp_path / "adapter", LLAMA, **{"base_model_name_or_path": str(tmp_path / "base"), **changes})
  with pytest.raises(LmxError, match=said):
    import_hf(tmp_path / "adapter")


def test_a_gguf_says_what_to_do(tmp_path):
  (tmp_path / "model.gguf").write_bytes(b"GGUF")
  for path in (tmp_path / "model.gguf", tmp_path):
    with pytest.raises(LmxError, match=r"gguf.*fetch the model that it was made from"):
      import_hf(path)
