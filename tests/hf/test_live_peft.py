# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 14 against PEFT itself: an exported adapter on its base computes what the run does, for every family and head."""

import dataclasses
import importlib
import json
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from adapted_models import adapted, base_of
from tiny_tasks import fine_tuned

import lmx
from lmx.api.loaded_run import LoadedRun
from lmx.cli.main import main

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

TOKENS = np.random.default_rng(0).integers(4, 34, (2, 12)).astype(np.int32)
LIMIT = 1e-5
ALL = ".*layers.*(query|key|value|out|up|gate|down)"
# Model -> config.lora.targets of all that PEFT can adapt there.
LANGUAGE = {
  "gpt2-language-6": ALL, "llama-language-7": ALL, "mistral-language-8": ALL, "qwen2-language-4": ALL,
  "qwen3-language-4": ALL, "gemma2-language-8": ALL, "gemma3_text-language-5": ALL, "olmo2-language-5": ALL,
  "mixtral-language-2": ALL, "qwen2_moe-language-1": ALL, "qwen3_moe-language-4": ALL,
  "mamba2-language-1": ".*layers.*(gate|value|step|read|write)", "bert-masked-8": ALL, "roberta-masked-8": ALL,
  "t5-language-0": ALL, "t5-language-6": ALL, "marian-language-3": ALL,
}  # fmt: skip
HEADS = [
  ("bert-masked-8", "classification"), ("bert-masked-8", "tagging"), ("bert-masked-8", "span"),
  ("bert-masked-8", "regression"), ("bert-classification-8", "classification"), ("roberta-masked-8", "classification"),
  ("roberta-masked-8", "tagging"), ("llama-language-7", "classification"), ("gpt2-language-6", "classification"),
]  # fmt: skip
LABELS = {"classification": ("a", "b", "c"), "tagging": ("a", "b", "c")}


def scores(model, head: str) -> np.ndarray:
  """Logits or scores of a model of lmx for the tokens."""
  tokens = {"tokens": TOKENS}
  if hasattr(model.spec, "encoder_layers"):
    tokens = {"encoder_tokens": TOKENS, "tokens": TOKENS}
  if head in ("language", "masked"):
    return np.asarray(jax.jit(lambda: model(**tokens).logits())())[..., :34]
  return np.asarray(model(TOKENS, segment_ids=np.ones_like(TOKENS)).scores)


def theirs(folder: Path, base: Path, architecture: str, labels: int) -> tuple[np.ndarray, list[str]]:
  """Logits or scores of PEFT's model for the same tokens, and its warnings."""
  peft, torch, library = (importlib.import_module(name) for name in ("peft", "torch", "transformers"))
  options = {"num_labels": labels} if labels else {}
  with warnings.catch_warnings(record=True) as caught, torch.no_grad():
    warnings.simplefilter("always")
    model = getattr(library, architecture).from_pretrained(
      base, attn_implementation="eager", dtype="float32", **options
    )
    found = len(caught)
    model = peft.PeftModel.from_pretrained(model, folder).eval()
    ids = torch.from_numpy(TOKENS).long()
    output = model(input_ids=ids, **({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}))
  logits = output.logits if hasattr(output, "logits") else torch.stack([output.start_logits, output.end_logits], -1)
  return logits.numpy(), [str(one.message) for one in caught[found:]]


def check(run: LoadedRun, folder: Path, base: Path, *, tokenizer: bool = True) -> None:
  """PEFT's and lmx's own reading of an exported adapter equal the run."""
  head = run.model.spec.head
  reader = run.tokenizer if tokenizer else None  # A qwen2 model's is of one kind in transformers, and this one isn't.
  exported = lmx.to_hf(dataclasses.replace(run, tokenizer=reader), folder, adapter=True, base=base)
  outputs = run.model.spec.outputs if head in ("classification", "regression", "tagging") else 0
  found, warned = theirs(folder, base, exported.architecture, outputs)
  expected = scores(run.merged().model, head)
  if head in ("language", "masked"):
    found = found[..., :34]
  np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=LIMIT * max(1, np.abs(expected).max()))
  assert not [line for line in warned if "missing" in line.lower() or "fan_in_fan_out" in line], warned
  again = lmx.from_hf(folder, head=None if head in ("language", "masked") else head, labels=run.labels)
  np.testing.assert_allclose(scores(again.model, head), expected, atol=LIMIT * max(1, np.abs(expected).max()))
  plain = scores(lmx.from_hf(base, head=head, labels=run.labels).model, head)
  assert np.abs(plain - expected).max() > 0.01


@pytest.mark.parametrize("name", LANGUAGE)
def test_an_exported_adapter_gives_peft_the_logits_of_the_run(tmp_path, name):
  base = base_of(name, tmp_path / "base")
  check(adapted(base, targets=LANGUAGE[name]), tmp_path / "adapter", base, tokenizer=not name.startswith("qwen2"))


@pytest.mark.parametrize(
  ("name", "also"),
  [("llama-language-7", ".*norm.*|unembedding.*"), ("llama-language-7", "layers.attention.query.*"),
   ("gpt2-language-6", ".*norm.*|layers.mlp.up.bias"), ("bert-masked-8", "head.*"), ("roberta-masked-8", "head.*"),
   ("t5-language-6", ".*norm.*"), ("qwen2_moe-language-1", ".*norm.*|.*shared_gate.*")],
)  # fmt: skip
def test_modules_trained_together_with_the_adapters_are_saved_with_them(tmp_path, name, also):
  base = base_of(name, tmp_path / "base")
  check(adapted(base, targets=ALL, train_also=also, changed=also), tmp_path / "adapter", base)


def test_a_run_trained_by_the_command_line_is_opened_by_peft_on_the_model_that_was_imported(tmp_path):
  base = base_of("llama-language-7", tmp_path / "base")
  assert main(["import", str(base), f"--workdir={tmp_path / 'run'}", "--dtype=float32"]) == 0
  flags = ["--config.lora.rank=2", "--config.optimizer.peak_lr=0.1", "--config.compute.dtype=float32"]
  trained = lmx.load(fine_tuned(tmp_path / "run", tmp_path, "sft.py", *flags))
  assert main(["export", str(trained.folder), f"--output={tmp_path / 'adapter'}", "--adapter"]) == 0
  found, _ = theirs(tmp_path / "adapter", base, "LlamaForCausalLM", 0)
  np.testing.assert_allclose(found[..., :34], scores(trained.model, "language"), atol=LIMIT * 10)
  assert np.abs(scores(lmx.load(tmp_path / "run").model, "language") - found[..., :34]).max() > 1e-3
  automatic = importlib.import_module("peft").AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
  assert automatic.peft_config["default"].r == 2


@pytest.mark.parametrize(("name", "head"), HEADS)
def test_a_new_head_is_saved_with_the_adapter(tmp_path, name, head):
  base = base_of(name, tmp_path / "base")
  run = adapted(base, head=head, labels=LABELS.get(head, ()), changed="head.*")
  check(run, tmp_path / "adapter", base)
  assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["modules_to_save"]
