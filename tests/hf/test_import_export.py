# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""From a Hugging Face directory to a run and back, by function and by command, and inputs that are refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from golden_models import GOLDEN
from hf_folders import change_weights, copy, write_tokenizer
from safetensors.numpy import load_file

import lmx
from lmx.cli import main
from lmx.errors import LmxError
from lmx.hf.exporting import choose_family, export_hf
from lmx.hf.families import FAMILIES
from lmx.hf.importing import import_hf
from lmx.hf.weights import WeightFiles
from lmx.parallel.mesh import make_mesh
from lmx.training.checkpoint import Checkpointer
from lmx.training.checkpoint_reading import restore_shared
from lmx.training.initialize import NEW_PARTS

LLAMA, BERT, T5 = GOLDEN / "llama-language-7", GOLDEN / "bert-masked-8", GOLDEN / "t5-language-6"


# ---------------------------------------------------------------- import and export by command


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
  """An imported Llama."""
  folder = tmp_path_factory.mktemp("imported")
  copy(LLAMA, folder / "model")
  assert main.main(["import", str(folder / "model"), f"--workdir={folder / 'run'}", "--dtype=float32"]) == 0
  return folder / "run"


def test_an_imported_run_loads_and_generates_and_prints_the_next_commands(tmp_path, capsys):
  model = copy(LLAMA, tmp_path / "model")
  assert main.main(["import", str(model), f"--workdir={tmp_path / 'run'}"]) == 0
  printed = capsys.readouterr().out
  assert "llama, language head" in printed
  assert "parameters" in printed
  assert f"lmx generate {tmp_path / 'run'}" in printed.replace("\n", "")
  loaded = lmx.load(tmp_path / "run")
  assert (loaded.step, loaded.config.objective.name, loaded.config.model.vocab_size) == (0, "causal", 40)
  assert loaded.config.compute.dtype == "bfloat16"  # As the files hold it.
  assert isinstance(loaded.generate("w1 w2", max_new_tokens=3)[0], str)
  np.testing.assert_array_equal(
    np.asarray(loaded.model.token_embedding.embedding[...])[:40],
    load_file(model / "model.safetensors")["model.embed_tokens.weight"].astype(np.float32),
  )


def test_a_run_can_start_from_an_imported_one_with_another_head(run):
  template = import_hf(LLAMA, head="classification", labels=("a", "b")).abstract
  shapes = {name: leaf for name, leaf in template.shapes.items()}
  found, new = restore_shared(run / "checkpoints", shapes, NEW_PARTS)
  assert set(new) == {"head.out.kernel"}
  assert found.keys() == shapes.keys() - set(new)


def test_an_imported_run_has_no_optimizer_state_to_resume(run):
  with (
    Checkpointer(run / "checkpoints") as checkpoints,
    pytest.raises(LmxError, match=r"parameters only.*--config\.checkpoint\.start_from="),
  ):
    checkpoints.restore(None)


def test_export_restores_every_file_of_the_model(run, tmp_path, capsys):
  output = tmp_path / "again"
  assert main.main(["export", str(run), f"--output={output}", "--max-shard-size=6KB"]) == 0
  assert "LlamaForCausalLM" in capsys.readouterr().out
  assert json.loads((output / "generation_config.json").read_text())["temperature"] == 0.7
  assert json.loads((output / "tokenizer_config.json").read_text())["eos_token"] == "</s>"
  assert (output / "model.safetensors.index.json").is_file()
  with WeightFiles(LLAMA) as before, WeightFiles(output) as after:
    assert before.tensors.keys() == after.tensors.keys()
    for name in before.tensors:
      np.testing.assert_array_equal(before.read(name).astype(np.float32), after.read(name))
  again = import_hf(output)
  assert again.description.model == import_hf(LLAMA).description.model


def test_labels_survive_a_round_trip(tmp_path):
  imported = import_hf(GOLDEN / "bert-classification-8")
  assert imported.settings["objective.labels"] == ("L0", "L1", "L2")
  export_hf(imported.parameters, imported.spec, imported.description.model, tmp_path / "out", labels=("x", "y", "z"))
  assert import_hf(tmp_path / "out").description.labels == ("x", "y", "z")


def test_a_new_head_reads_the_parameters_that_exist_and_initializes_the_rest_from_the_seed():
  labels = ("a", "b", "c")
  first, again, other = (import_hf(BERT, head="classification", labels=labels, seed=seed) for seed in (0, 0, 1))
  assert set(first.fresh) == {f"head.{part}.{kind}" for part in ("pooler", "out") for kind in ("kernel", "bias")}
  assert "cls.predictions.transform.dense.weight" in first.left_out
  name = "head.out.kernel"
  np.testing.assert_array_equal(first.parameters[name], again.parameters[name])
  assert np.any(np.asarray(first.parameters[name]) != np.asarray(other.parameters[name]))
  own = import_hf(GOLDEN / "bert-classification-8", head="classification", labels=labels)
  assert own.fresh == ()


def test_a_head_for_labels_needs_them():
  with pytest.raises(LmxError, match=r"labels of a classification head.*--labels="):
    import_hf(BERT, head="classification")


def test_names_of_older_files_and_of_bare_models_are_understood(tmp_path):
  model = copy(BERT, tmp_path / "model")
  old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

  def older(arrays):
    names = {name: next((name.replace(a, b) for a, b in old.items() if name.endswith(a)), name) for name in arrays}
    return {names[name]: array for name, array in arrays.items()} | {
      "cls.seq_relationship.bias": arrays["cls.predictions.bias"][:2],
      "cls.predictions.decoder.weight": arrays["bert.embeddings.word_embeddings.weight"],
    }

  change_weights(model, older)
  imported = import_hf(model)
  assert imported.left_out == ("cls.predictions.decoder.weight", "cls.seq_relationship.bias")
  bare = copy(BERT, tmp_path / "bare", architectures=["BertModel"])
  change_weights(bare, lambda arrays: {k[5:]: v for k, v in arrays.items() if k.startswith("bert.")})
  for name, array in import_hf(bare).parameters.items():
    np.testing.assert_array_equal(array, imported.parameters[name], err_msg=name)


def test_a_model_with_two_tables_is_untied_whatever_its_config_says(tmp_path):
  model = copy(T5, tmp_path / "model", tie_word_embeddings=True, scale_decoder_outputs=False)
  assert import_hf(model).spec.tied is False
  change_weights(model, lambda arrays: arrays | {"lm_head.weight": arrays["shared.weight"]})
  same = import_hf(model)
  assert same.spec.tied
  assert same.left_out == ("lm_head.weight",)


def test_a_model_on_a_mesh_is_written_as_from_one_device(tmp_path):
  imported = import_hf(LLAMA, mesh=make_mesh({"fsdp": 4, "tensor": 2}))
  export_hf(imported.parameters, imported.spec, imported.description.model, tmp_path / "out", dtype="bfloat16")
  with WeightFiles(LLAMA) as before, WeightFiles(tmp_path / "out") as after:
    for name in before.tensors:
      np.testing.assert_array_equal(before.read(name), after.read(name))


def test_padding_rows_are_zero_and_never_exported(tmp_path):
  imported = import_hf(LLAMA)
  table = np.asarray(imported.parameters["token_embedding.embedding"])
  assert table.shape[0] == 128
  assert not table[40:].any()
  export_hf(imported.parameters, imported.spec, imported.description.model, tmp_path / "out")
  assert load_file(tmp_path / "out" / "model.safetensors")["model.embed_tokens.weight"].shape[0] == 40


def test_a_shard_reads_no_more_than_its_part(monkeypatch):
  read = []
  original = WeightFiles.read

  def spy(self, name, index=()):
    array = original(self, name, index)
    read.append((name, array.size))
    return array

  monkeypatch.setattr(WeightFiles, "read", spy)
  mesh = make_mesh({"fsdp": 2, "tensor": 2}, jax.devices()[:4])
  imported = import_hf(LLAMA, mesh=mesh)
  stacked = imported.abstract.shapes["layers.mlp.up.kernel"]
  sizes = [size for name, size in read if "layers.0.mlp.up_proj" in name]
  assert sizes
  assert max(sizes) == stacked.size // stacked.shape[0] // 4


# ---------------------------------------------------------------- refused inputs


def test_a_missing_tensor_is_named(tmp_path):
  model = copy(LLAMA, tmp_path / "model")
  change_weights(model, lambda arrays: {k: v for k, v in arrays.items() if "layers.1.mlp.up_proj" not in k})
  with pytest.raises(LmxError, match=r"1 of the .* missing, first 'model\.layers\.1\.mlp\.up_proj\.weight'"):
    import_hf(model)


def test_an_unknown_tensor_is_named(tmp_path):
  model = copy(LLAMA, tmp_path / "model")
  change_weights(model, lambda arrays: arrays | {"model.layers.0.adapter.weight": arrays["model.norm.weight"]})
  with pytest.raises(LmxError, match=r"1 tensors have no place.*'model\.layers\.0\.adapter\.weight'"):
    import_hf(model)


def test_harmless_buffers_are_left_out_and_listed(tmp_path):
  model = copy(LLAMA, tmp_path / "model")
  name = "model.layers.0.self_attn.rotary_emb.inv_freq"
  change_weights(model, lambda arrays: arrays | {name: arrays["model.norm.weight"]})
  assert import_hf(model).left_out == (name,)


def test_a_tensor_of_another_shape_is_named(tmp_path):
  model = copy(LLAMA, tmp_path / "model", intermediate_size=20)
  with pytest.raises(LmxError, match=r"shape of .*proj\.weight: got \[.*\], by config\.json|shape of .*proj\.weight"):
    import_hf(model)


@pytest.mark.parametrize(
  ("source", "change", "pattern"),
  [
    (LLAMA, {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, r"rope_type: got 'yarn'.*llama3"),
    (LLAMA, {"hidden_act": "relu"}, r"hidden_act: got 'relu'.*silu"),
    (LLAMA, {"pretraining_tp": 2}, r"pretraining_tp: got 2"),
    (LLAMA, {"model_type": "lama"}, r"model_type: got 'lama'.*Did you mean 'llama'"),
    (LLAMA, {"architectures": ["LlamaForTokenClassification"]}, r"architectures: got 'LlamaForTokenClassification'"),
    (BERT, {"position_embedding_type": "relative_key"}, r"position_embedding_type: got 'relative_key'"),
    (BERT, {"is_decoder": True}, r"is_decoder: got True"),
    (GOLDEN / "roberta-masked-8", {"hidden_act": "relu"}, r"activation .*masked head: got 'relu'"),
    (GOLDEN / "gemma2-language-8", {"layer_types": ["full_attention"] + ["sliding_attention"] * 3}, r"layer_types"),
    (GOLDEN / "gemma3_text-language-5", {"attn_logit_softcapping": 3.0}, r"attn_logit_softcapping: got 3\.0"),
    (GOLDEN / "qwen3_moe-language-4", {"decoder_sparse_step": 2}, r"decoder_sparse_step: got 2"),
    (T5, {"feed_forward_proj": "gated-relu"}, r"feed_forward_proj: got 'gated-relu'"),
  ],
  ids=lambda value: str(value)[-40:],
)
def test_a_setting_that_lmx_lacks_is_refused_with_its_key_and_value(tmp_path, source, change, pattern):
  with pytest.raises(LmxError, match=pattern):
    import_hf(copy(source, tmp_path / "model", **change))


def test_a_tokenizer_larger_than_the_table_is_refused(tmp_path):
  model = copy(LLAMA, tmp_path / "model")
  write_tokenizer(model, [f"w{n}" for n in range(60)])
  with pytest.raises(LmxError, match=r"number of ids: got 64\. Allowed: at most 40"):
    import_hf(model)


def test_weights_of_another_family_are_refused(tmp_path):
  model = copy(LLAMA, tmp_path / "model")
  shutil.copy(BERT / "model.safetensors", model / "model.safetensors")
  with pytest.raises(
    LmxError, match=r"tensors of a llama model are missing, first 'model\.embed_tokens\.weight'|missing"
  ):
    import_hf(model)


def test_a_hub_name_without_a_network_is_one_message(monkeypatch):
  monkeypatch.setenv("HF_HUB_OFFLINE", "1")
  with pytest.raises(LmxError, match=r"no/such-model"):
    import_hf("no/such-model")
  with pytest.raises(LmxError, match="a directory that exists"):
    import_hf("/no/such/directory at all")


def test_a_run_is_no_hugging_face_model_and_a_file_no_directory(run):
  with pytest.raises(LmxError, match=r"no_?.*model\.safetensors|lmx export"):
    import_hf(run)
  with pytest.raises(LmxError, match="its directory"):
    import_hf(run / "config.json")


def test_the_output_bias_of_marian_is_a_parameter_and_zero_where_a_file_lacks_it(tmp_path):
  model = copy(GOLDEN / "marian-language-3", tmp_path / "model")
  size = json.loads((model / "config.json").read_text())["vocab_size"]
  bias = np.arange(size, dtype=np.float32)[None]
  change_weights(model, lambda arrays: arrays | {"final_logits_bias": bias})
  imported = import_hf(model)
  np.testing.assert_array_equal(np.asarray(imported.parameters["head.bias"])[:size], bias[0])
  export_hf(imported.parameters, imported.spec, imported.description.model, tmp_path / "out")
  np.testing.assert_array_equal(load_file(tmp_path / "out" / "model.safetensors")["final_logits_bias"], bias)
  change_weights(model, lambda arrays: {name: array for name, array in arrays.items() if name != "final_logits_bias"})
  assert not np.asarray(import_hf(model).parameters["head.bias"]).any()


def test_an_untied_output_bias_is_read_and_a_copy_that_differs_is_refused(tmp_path):
  model = copy(BERT, tmp_path / "model", tie_word_embeddings=False)
  own = "cls.predictions.decoder.bias"
  table = load_file(model / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
  bias = np.linspace(-1, 1, len(table)).astype(np.float32)
  change_weights(model, lambda arrays: arrays | {own: bias, "cls.predictions.decoder.weight": table * 2})
  imported = import_hf(model)
  np.testing.assert_array_equal(np.asarray(imported.parameters["head.bias"])[: len(bias)], bias)
  export_hf(imported.parameters, imported.spec, imported.description.model, tmp_path / "out")
  written = load_file(tmp_path / "out" / "model.safetensors")
  np.testing.assert_array_equal(written[own], bias)
  np.testing.assert_array_equal(written["cls.predictions.bias"], bias)
  tied = copy(BERT, tmp_path / "tied", tie_word_embeddings=True)
  change_weights(tied, lambda arrays: {n: a for n, a in arrays.items() if "decoder.weight" not in n} | {own: bias})
  with pytest.raises(LmxError, match=r"cls\.predictions\.decoder\.bias: got 'other numbers than in cls\.predictions"):
    import_hf(tied)
  shared = copy(T5, tmp_path / "t5")
  change_weights(shared, lambda arrays: arrays | {"encoder.embed_tokens.weight": arrays["shared.weight"] * 2})
  with pytest.raises(LmxError, match=r"encoder\.embed_tokens\.weight: got 'other numbers than in shared\.weight'"):
    import_hf(shared)


@pytest.mark.parametrize("command", [["import", str(LLAMA), "--workdir"], ["export", "RUN", "--output"]])
def test_a_folder_that_is_not_empty_is_refused(run, tmp_path, capsys, command):
  (tmp_path / "mine.txt").write_text("mine")
  words = [str(run) if word == "RUN" else word for word in command]
  assert main.main([*words[:-1], f"{words[-1]}={tmp_path}"]) == 2
  assert "new or empty folder" in capsys.readouterr().err
  assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_model_without_a_tokenizer_needs_one(tmp_path, capsys):
  assert main.main(["import", str(LLAMA), f"--workdir={tmp_path / 'run'}"]) == 2
  assert "--tokenizer=FOLDER" in capsys.readouterr().err
  assert not (tmp_path / "run").exists()


def test_a_model_that_no_family_can_express_lists_the_reason_for_each():
  imported = import_hf(LLAMA)
  model = imported.description.model
  spec = dataclasses.replace(imported.spec, norm="layernorm", activation="relu")
  with pytest.raises(LmxError) as caught:
    choose_family({**model, **vars(spec)}, spec, None)
  assert {family for family in FAMILIES if f"  {family}: " in str(caught.value)} == {
    name for name, family in FAMILIES.items() if family.ours == "transformer"
  }
  assert "llama: config.model.activation: got 'relu'. Allowed: swiglu" in str(caught.value)


def test_a_head_bias_that_llama_lacks_is_refused(tmp_path):
  imported = import_hf(GOLDEN / "llama-classification-7")
  parameters = dict(imported.parameters)
  parameters["head.out.bias"] = np.ones(imported.spec.outputs, np.float32)
  with pytest.raises(LmxError, match=r"no place for 'head\.out\.bias', and it isn't zero"):
    export_hf(parameters, imported.spec, imported.description.model, tmp_path / "out", family="llama")
