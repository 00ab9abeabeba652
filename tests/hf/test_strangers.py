# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Untrusted folders: memory is bounded by the size of the files, and every fault is a one-line error."""

import contextlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from golden_models import GOLDEN
from hf_folders import change_config, change_weights, copy, write
from safetensors.numpy import load_file, save_file

from lmx.cli import main
from lmx.config.loading import base_config, check, from_json, to_json
from lmx.errors import ConfigError, LmxError, message
from lmx.hf import importing
from lmx.hf.importing import import_hf
from lmx.hf.weights import INDEX, SINGLE, WeightFiles
from lmx.limits import LIMITS, limit

LLAMA, GPT2, BERT = GOLDEN / "llama-language-7", GOLDEN / "gpt2-language-6", GOLDEN / "bert-masked-8"
ROOT = Path(__file__).resolve().parents[2]


def config_of(source: Path) -> dict:
  return json.loads((source / "config.json").read_text())


# ---------------------------------------------------------------- numbers against tensors


@pytest.mark.parametrize(("key", "value", "expected"), [
  ("num_hidden_layers", 9_000, r"config.model.layers: got 9000. Allowed: at most \d+, the number of tensors"),
  ("num_hidden_layers", 10**9, "num_hidden_layers: got 1000000000. Allowed: at most 10,000"),
  ("vocab_size", 10**9, "config.model.vocab_size: got 1000000000. Allowed: at most .*, the longest dimension"),
  ("hidden_size", 2**30, "config.model.width: got 1073741824"),
  ("intermediate_size", 2**30, "config.model.mlp_width: got 1073741824"),
])  # fmt: skip
def test_sizes_that_the_tensors_cant_have_are_refused_before_a_model_is_built(
  tmp_path, monkeypatch, key, value, expected
):
  folder = copy(LLAMA, tmp_path / "model", **{key: value})
  monkeypatch.setattr(importing, "abstract_model", lambda make: pytest.fail("a model was made"))
  with pytest.raises(LmxError, match=expected):
    import_hf(folder)


def test_an_empty_tensor_does_not_bound_sizes(tmp_path):
  folder = copy(LLAMA, tmp_path / "model", vocab_size=10**6)
  change_weights(folder, lambda arrays: arrays | {"empty": np.zeros((0, 10**7), np.float32)})
  with pytest.raises(LmxError, match=r"config.model.vocab_size"):
    import_hf(folder)


def test_a_learned_table_of_positions_is_bounded_and_a_rotary_context_is_not(tmp_path):
  folder = copy(BERT, tmp_path / "bert", max_position_embeddings=10**9)
  with pytest.raises(LmxError, match=r"config.model.context: got 1000000000"):
    import_hf(folder)
  assert import_hf(copy(LLAMA, tmp_path / "llama", max_position_embeddings=10**6)).spec.context == 10**6


# ---------------------------------------------------------------- weights that aren't finite


def spoil(name: str, count: int, value: float):
  def change(arrays):
    spoiled = arrays[name].astype(np.float32).copy()
    spoiled.reshape(-1)[:count] = value
    return {key: array.astype(np.float32) for key, array in arrays.items()} | {name: spoiled}

  return change


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_weights_are_counted_and_refused_by_default(tmp_path, value):
  folder = copy(LLAMA, tmp_path / "model")
  name = "model.layers.1.mlp.up_proj.weight"
  change_weights(folder, spoil(name, 3, value))
  size = load_file(folder / SINGLE)[name].size
  with pytest.raises(LmxError, match=rf"in 1 tensors: {name} \(3 of {size:,}\).*--nonfinite=keep"):
    import_hf(folder)
  assert import_hf(folder, nonfinite="keep").nonfinite == {name: 3}
  with pytest.raises(LmxError, match=r"nonfinite: got 'kep'. Allowed: keep, stop. Did you mean 'keep'"):
    import_hf(folder, nonfinite="kep")


def test_the_command_refuses_them_and_leaves_no_run(tmp_path, capsys):
  folder = copy(LLAMA, tmp_path / "model")
  change_weights(folder, spoil("model.norm.weight", 1, np.nan))
  command = ["import", str(folder), f"--workdir={tmp_path / 'run'}"]
  assert main.main(command) != 0
  assert not (tmp_path / "run").exists()
  assert main.main([*command, "--nonfinite=keep"]) == 0
  assert "1 numbers of model.norm.weight" in capsys.readouterr().out


# ---------------------------------------------------------------- the index and the headers


def in_two_files(folder: Path) -> dict[str, str]:
  """A model's weights in two files with an index; the index's map."""
  arrays = load_file(folder / SINGLE)
  (folder / SINGLE).unlink()
  names = sorted(arrays)
  places = {name: f"model-0000{1 + (n % 2)}-of-00002.safetensors" for n, name in enumerate(names)}
  for file in set(places.values()):
    save_file({name: arrays[name] for name in names if places[name] == file}, folder / file)
  write(folder, INDEX, {"weight_map": places})
  return places


def test_an_index_that_names_a_missing_tensor_or_the_wrong_file_is_refused(tmp_path):
  folder = copy(LLAMA, tmp_path / "model")
  places = in_two_files(folder)
  with WeightFiles(folder) as files:
    assert files.tensors.keys() == places.keys()
  file = next(iter(places.values()))
  write(folder, INDEX, {"weight_map": places | {"ghost": file}})
  with pytest.raises(LmxError, match=f"{file} has no tensor 'ghost'"):
    WeightFiles(folder)


@pytest.mark.parametrize(
  "name", ["../model.safetensors", "/etc/model.safetensors", "a/b.safetensors", "..", "", "a\\b"]
)
def test_an_index_cant_name_a_file_outside_of_its_folder(tmp_path, name):
  shutil.copy(LLAMA / SINGLE, tmp_path / SINGLE)
  (tmp_path / "inner").mkdir()
  write(tmp_path / "inner", INDEX, {"weight_map": {"a": name}})
  with pytest.raises(LmxError, match=r"file of 'a': got .* the name of a file in this folder"):
    WeightFiles(tmp_path / "inner")


def test_a_tensor_in_two_files_is_refused(tmp_path):
  folder = copy(LLAMA, tmp_path / "model")
  places = in_two_files(folder)
  first, other = sorted(set(places.values()))
  name = next(name for name, place in places.items() if place == first)
  save_file(load_file(folder / other) | {name: load_file(folder / first)[name]}, folder / other)
  with pytest.raises(LmxError, match=f"the tensor '{name}' is in {first} too"):
    WeightFiles(folder)


@pytest.mark.parametrize("length", [0, 2**20, 2**40, 2**64 - 1])
def test_a_header_longer_than_its_file_is_an_error(tmp_path, length):
  (tmp_path / SINGLE).write_bytes(struct.pack("<Q", length) + b"{}      ")
  with pytest.raises(LmxError, match="not a complete safetensors file"):
    WeightFiles(tmp_path)


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize("depth", [150, 5_000])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_deep_nesting_is_one_message(tmp_path, name, depth):
  folder = copy(LLAMA, tmp_path / "model")
  (folder / name).write_text('{"model_type": ' + "[" * depth + "]" * depth + "}")
  with pytest.raises(LmxError, match=rf"{name}.*(nested|recursion limit)"):
    import_hf(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_file_over_the_limit_of_size_is_not_read(tmp_path, monkeypatch, name):
  folder = copy(LLAMA, tmp_path / "model")
  (folder / name).write_text((folder / name).read_text() + " " * 20_000)
  monkeypatch.setenv("LMX_LIMIT_JSON_BYTES", "20000")
  with pytest.raises(LmxError, match=rf"{name}: size in bytes: got .* LMX_LIMIT_JSON_BYTES="):
    import_hf(folder)


@pytest.mark.parametrize("key", sorted(config_of(LLAMA)))
@pytest.mark.parametrize("value", [[], {}, [1], {"1": 2}, 7, "x", None, 1e308, -1, True], ids=repr)
def test_a_value_of_the_wrong_type_never_ends_in_a_traceback(tmp_path, key, value):
  folder = copy(LLAMA, tmp_path / "model", **{key: value})
  with contextlib.suppress(LmxError):
    importing.describe(folder)


def test_too_many_added_tokens_are_refused_by_count(tmp_path, monkeypatch):
  folder = copy(LLAMA, tmp_path / "model")
  monkeypatch.setenv("LMX_LIMIT_ADDED_TOKENS", "10")
  values = json.loads((folder / "tokenizer.json").read_text())
  one = values["added_tokens"][0]
  values["added_tokens"] += [one | {"id": 100 + n, "content": f"<{n}>"} for n in range(20)]
  write(folder, "tokenizer.json", values)
  with pytest.raises(LmxError, match=r"tokenizer.json: added_tokens: got 23. Allowed: at most 10"):
    import_hf(folder)
  folder = copy(LLAMA, tmp_path / "other")
  tokens = {str(100 + n): {"content": f"<{n}>"} for n in range(20)}
  settings = json.loads((folder / "tokenizer_config.json").read_text())
  write(folder, "tokenizer_config.json", settings | {"added_tokens_decoder": tokens})
  with pytest.raises(LmxError, match=r"tokenizer_config.json: added_tokens_decoder: got 20. Allowed: at most 10"):
    import_hf(folder)


# ---------------------------------------------------------------- limits


def test_a_limit_is_a_positive_number(monkeypatch):
  for wrong in ("", "0", "-1", "x", "1.5", "\u0663", "9" * 30):
    monkeypatch.setenv("LMX_LIMIT_LAYERS", wrong)
    with pytest.raises(LmxError, match="LMX_LIMIT_LAYERS: got"):
      limit("layers")


def test_the_security_page_lists_every_limit_with_its_default():
  text = (ROOT / "SECURITY.md").read_text()
  for name, (value, _) in LIMITS.items():
    assert f"| `LMX_LIMIT_{name.upper()}` | {value:,} |" in text, name


def test_a_message_shows_the_beginning_of_a_large_value():
  assert len(message("x", got="a" * 10_000)) < 600


@pytest.mark.parametrize("key", ["layers", "encoder_layers"])
def test_layers_of_a_run_are_bounded_when_it_is_loaded_and_when_it_is_trained(key):
  config = base_config()
  config.model[key] = 10_001
  assert [problem for problem in check(config) if f"config.model.{key}: got 10001" in problem]
  with pytest.raises(ConfigError, match=rf"config.json: config.model.{key}: got 10001. Allowed: at most 10,000"):
    from_json(to_json(config))


@pytest.mark.parametrize("text", ["[" * 5_000, '{"seed": ' + "1" * 5_000 + "}"])
def test_a_runs_config_that_cant_be_parsed_is_one_message(text):
  with pytest.raises(ConfigError, match=r"config.json (is not JSON|holds)"):
    from_json(text)


def test_layers_of_a_config_are_bounded(tmp_path):
  folder = copy(GPT2, tmp_path / "model")
  change_config(folder, n_layer=10**9)
  with pytest.raises(LmxError, match=r"n_layer: got 1000000000. Allowed: at most 10,000"):
    import_hf(folder)
