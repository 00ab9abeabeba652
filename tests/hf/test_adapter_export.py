# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Export of LoRA runs as PEFT adapters: the folder, the import of it, and runs that are refused."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from adapted_models import adapted, base_of
from hf_folders import change_weights
from safetensors.numpy import load_file
from tiny_tasks import fine_tuned

import lmx
from lmx.api.loaded_run import LoadedRun
from lmx.cli.main import main
from lmx.errors import LmxError
from lmx.hf.importing import import_hf
from lmx.training.state import abstract_model_of

ALL = ".*layers.*(query|key|value|out|up|gate|down)"
LABELS = ("a", "b", "c")


def arrays(run: LoadedRun) -> dict[str, np.ndarray]:
  return {name: np.asarray(array) for name, array in abstract_model_of(run.model).split(run.model).items()}


def config(folder: Path) -> dict:
  return json.loads((folder / "adapter_config.json").read_text())


@pytest.mark.parametrize(
  ("name", "head"),
  [
    ("gpt2-language-6", None), ("llama-language-7", None), ("gemma2-language-8", None), ("mixtral-language-2", None),
    ("t5-language-6", None), ("marian-language-3", None), ("bert-masked-8", "classification"),
    ("roberta-masked-8", "classification"), ("bert-masked-8", "embedding"), ("gpt2-language-6", "classification"),
    ("bert-embedding-8", "classification"), ("bert-masked-8", "span"),
  ],
)  # fmt: skip
def test_an_adapter_read_back_on_its_base_is_the_merged_run(tmp_path, name, head):
  base = base_of(name, tmp_path / "base")
  run = adapted(
    base, head=head, labels=LABELS if head == "classification" else (), targets=ALL, changed="head.*" if head else ""
  )
  exported = lmx.to_hf(run, tmp_path / "adapter", adapter=True, base=base)
  assert exported.base == config(tmp_path / "adapter")["base_model_name_or_path"] == str(base)
  found = import_hf(tmp_path / "adapter", head=head, labels=run.labels)
  expected, plain = arrays(run.merged()), import_hf(base, head=head, labels=run.labels).parameters
  assert found.tokenizer is not None
  assert set(found.parameters) == set(expected)
  for name, array in expected.items():
    np.testing.assert_allclose(found.parameters[name], array, atol=1e-5, err_msg=name)
  assert any(np.abs(expected[name] - np.asarray(plain[name])).max() > 0.01 for name in expected if "kernel" in name)


def test_layers_that_share_a_matrix_share_an_adapter_of_the_sum_of_their_ranks(tmp_path):
  base = base_of("gpt2-language-6", tmp_path / "base")
  lmx.to_hf(adapted(base, targets=".*(query|key|value|up)"), tmp_path / "adapter", adapter=True, base=base)
  written = config(tmp_path / "adapter")
  assert (written["r"], written["lora_alpha"], written["fan_in_fan_out"]) == (2, 3, True)
  assert (written["rank_pattern"], written["alpha_pattern"]) == ({"c_attn": 6}, {"c_attn": 9})
  assert written["target_modules"] == ["c_attn", "c_fc"]
  tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
  b_OR = tensors["base_model.model.transformer.h.0.attn.c_attn.lora_B.weight"]
  width = len(b_OR) // 3
  assert not b_OR[:width, 2:].any()
  assert b_OR[:width, :2].any()
  one = adapted(base, targets=".*(key|down)")
  lmx.to_hf(one, tmp_path / "one", adapter=True, base=base)
  assert (config(tmp_path / "one")["rank_pattern"], config(tmp_path / "one")["target_modules"]) == (
    {},
    ["c_attn", "mlp.c_proj"],
  )
  found, expected = import_hf(tmp_path / "one").parameters, arrays(one.merged())
  for name, array in expected.items():
    np.testing.assert_allclose(found[name], array, atol=1e-5, err_msg=name)


def test_modules_trained_together_with_the_adapters_are_saved_fully(tmp_path):
  base = base_of("llama-language-7", tmp_path / "base", tie_word_embeddings=False)
  also = ".*norm.*|layers.attention.query.kernel|token_embedding.*"
  run = adapted(base, targets=ALL, train_also=also, changed=also)
  lmx.to_hf(run, tmp_path / "adapter", adapter=True, base=base)
  written = config(tmp_path / "adapter")
  assert {"model.norm", "model.layers.0.input_layernorm", "model.layers.0.self_attn.q_proj"} <= set(
    written["modules_to_save"]
  )
  assert "q_proj" not in written["target_modules"]
  found, expected = import_hf(tmp_path / "adapter").parameters, arrays(run.merged())
  for name, array in expected.items():
    rows = slice(run.model.spec.vocab_size if name == "token_embedding.embedding" else None)  # The rest is padding.
    np.testing.assert_allclose(found[name][rows], array[rows], atol=1e-5, err_msg=name)


def test_a_classifier_trained_with_adapters_is_exported_and_imported_by_commands(tmp_path, capsys):
  base = base_of("roberta-masked-8", tmp_path / "model")
  assert main(["import", str(base), f"--workdir={tmp_path / 'run'}", "--dtype=float32"]) == 0
  trained = lmx.load(
    fine_tuned(tmp_path / "run", tmp_path, "classify.py", "--config.lora.rank=2", "--config.compute.dtype=float32")
  )
  assert main(["export", str(trained.folder), f"--output={tmp_path / 'out'}", "--adapter"]) == 0
  printed = " ".join(capsys.readouterr().out.split())
  assert (
    f'PeftModel.from_pretrained(transformers.RobertaForSequenceClassification.from_pretrained("{base}", num_labels=2)'
    in printed
  )
  assert (config(tmp_path / "out")["task_type"], config(tmp_path / "out")["modules_to_save"]) == (
    "SEQ_CLS",
    ["classifier"],
  )
  again = lmx.from_hf(tmp_path / "out", head="classification", labels=trained.labels)
  for one, other in zip(again.classify(["w1 w2", "w7"]), trained.classify(["w1 w2", "w7"]), strict=True):
    assert one == pytest.approx(other, abs=1e-5)
  # Without `head`, the adapter's task decides: lmx requires the labels instead of dropping the head.
  with pytest.raises(LmxError, match=r"labels of a classification head"):
    lmx.from_hf(tmp_path / "out")


def refused(run: LoadedRun, tmp_path: Path, pattern: str, base: Path | None) -> None:
  with pytest.raises(LmxError, match=pattern):
    lmx.to_hf(run, tmp_path / "out", adapter=True, base=base)
  assert not (tmp_path / "out").exists()


def test_a_run_without_adapters_is_refused(tmp_path):
  base = base_of("llama-language-7", tmp_path / "base")
  refused(lmx.from_hf(base), tmp_path, r"config\.lora\.rank: got 0.*--config\.lora\.rank=16", base)
  refused(adapted(base).merged(), tmp_path, r"config\.lora\.rank: got 0", base)


def test_a_base_that_the_run_was_not_trained_on_is_refused_with_the_parameter_or_key(tmp_path):
  base = base_of("llama-language-7", tmp_path / "base", tie_word_embeddings=False)
  run = adapted(base)
  refused(run, tmp_path, r"base of the adapter: got None.*--base=FOLDER", None)
  refused(
    adapted(base, changed="final_norm.scale"), tmp_path, r"final_norm\.scale of the run.*train_also doesn't", base
  )
  longer = base_of("llama-language-7", tmp_path / "longer", rms_norm_eps=0.1, tie_word_embeddings=False)
  refused(run, tmp_path, r"config\.model\.norm_eps of the run.*Allowed: 0\.1", longer)
  other = base_of("llama-language-7", tmp_path / "other", tie_word_embeddings=False)
  change_weights(other, lambda tensors: tensors | {"lm_head.weight": tensors["lm_head.weight"] + 1})
  refused(run, tmp_path, r"unembedding\.kernel of the run, against the base .*other numbers", other)
  refused(
    run,
    tmp_path,
    r"The base .*bert: head of a bert model: got \'language\'",
    base_of("bert-masked-8", tmp_path / "bert"),
  )
  lmx.to_hf(run, tmp_path / "adapter", adapter=True, base=base)
  refused(run, tmp_path, r"base of the adapter: got .*this is an adapter itself", tmp_path / "adapter")


@pytest.mark.parametrize(
  ("name", "lora", "pattern"),
  [
    ("mamba2-language-1", {"targets": ALL}, r"not layers\.attention\.out, which is .*\.mixer\.out_proj"),
    ("mixtral-language-2", {"targets": ".*router"}, r"not layers\.mlp\.router, which is .*block_sparse_moe\.gate"),
    ("qwen3_moe-language-4", {"targets": ALL, "train_also": ".*router.*"}, r"mlp\.gate is no plain module"),
    ("mixtral-language-2", {"targets": ALL, "train_also": ".*experts.*"}, r"no plain module"),
    ("marian-language-3", {"targets": ALL}, r"final_logits_bias isn't the weight or bias of a module.*train_also=''"),
    ("mamba2-language-1", {"targets": ".*value", "train_also": ".*skip.scale"}, r"mixer\.D is"),
    ("gpt2-language-6", {"targets": ALL, "train_also": "token_emb.*"}, r"it is the output table as well"),
    ("t5-language-6", {"targets": ALL, "train_also": "token_emb.*"}, r"the same tensor|the output table as well"),
    ("gpt2-language-6", {"targets": ".*up", "train_also": ".*up.kernel"}, r"also trained fully"),
  ],
)  # fmt: skip
def test_layers_that_peft_cannot_adapt_or_save_are_refused_by_name(tmp_path, name, lora, pattern):
  base = base_of(name, tmp_path / "base")
  refused(adapted(base, changed=lora.get("train_also", "head.*"), **lora), tmp_path, pattern, base)


def test_options_of_full_exports_are_refused_for_an_adapter_and_vice_versa(tmp_path, capsys):
  base = base_of("llama-language-7", tmp_path / "model")
  assert main(["import", str(base), f"--workdir={tmp_path / 'run'}", "--dtype=float32"]) == 0
  out = f"--output={tmp_path / 'out'}"
  for flags, pattern in {("--adapter", "--family=llama"): "--family: got 'llama'", ("--base=x",): "base: got 'x'",
                      ("--adapter", "--max-shard-size=1GB"): "--max-shard-size: got '1GB'"}.items():  # fmt: skip
    assert main(["export", str(tmp_path / "run"), out, *flags]) != 0
    assert pattern in " ".join(capsys.readouterr().err.split())


def test_an_average_that_rounds_frozen_weights_still_matches_the_base(tmp_path):
  base = base_of("llama-language-7", tmp_path / "base")
  run = adapted(base)
  plan, found = abstract_model_of(run.model), abstract_model_of(run.model).split(run.model)
  found["final_norm.scale"] = jnp.nextafter(found["final_norm.scale"], jnp.inf)
  lmx.to_hf(dataclasses.replace(run, model=plan.join(found)), tmp_path / "adapter", adapter=True, base=base)
