# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 14 against `transformers` and PEFT themselves: odd config.json files, biases of their own, adapters."""

import importlib
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from golden_models import GOLDEN
from hf_folders import change_weights, copy
from safetensors.numpy import load_file

from lmx.hf.importing import import_hf

pytestmark = pytest.mark.live
pytest.importorskip("torch")
pytest.importorskip("transformers")

LLAMA, BERT = GOLDEN / "llama-language-7", GOLDEN / "bert-masked-8"
TOKENS = np.random.default_rng(0).integers(4, 34, (2, 12)).astype(np.int32)
LINEAR = {"rope_type": "linear", "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
FORMS = {
  "default and linear": {"rope_parameters": {"rope_type": "default"}, "rope_scaling": LINEAR, "rope_theta": 1e4},
  "older only": {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 5e3, "rope_parameters": None},
  "newer only": {"rope_parameters": LINEAR | {"rope_theta": 5e3}},
  "theta twice": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e3}, "rope_theta": 5e3},
  "llama3 without its length": {"rope_parameters": None, "rope_scaling": LLAMA3, "rope_theta": 1e4},
}


def as_float32(folder: Path) -> Path:
  change_weights(folder, lambda arrays: {name: np.asarray(array, np.float32) for name, array in arrays.items()})
  return folder


def ours(folder: Path) -> np.ndarray:
  """Logits of lmx."""
  imported = import_hf(folder, dtype="float32")
  return np.asarray(jax.jit(lambda p: imported.abstract.join(p)(TOKENS).logits())(imported.parameters))[..., :34]


def theirs(model) -> np.ndarray:
  """Logits of a model of transformers."""
  torch = importlib.import_module("torch")
  with torch.no_grad():
    return model.eval()(input_ids=torch.from_numpy(TOKENS).long()).logits.numpy()[..., :34]


def load(folder: Path, kind: str):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    library = importlib.import_module("transformers")
    return getattr(library, kind).from_pretrained(folder, attn_implementation="eager", dtype="float32")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_rotary_keys_gives_the_logits_of_transformers(tmp_path, form):
  folder = as_float32(copy(LLAMA, tmp_path / "model", **{"rope_scaling": None, "rope_theta": None, **FORMS[form]}))
  np.testing.assert_allclose(ours(folder), theirs(load(folder, "LlamaForCausalLM")), atol=1e-4)


def test_the_output_bias_of_an_untied_bert_is_read(tmp_path):
  folder = as_float32(copy(BERT, tmp_path / "model", tie_word_embeddings=False))
  table = load_file(folder / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
  own = {"cls.predictions.decoder.bias": np.linspace(-1, 1, len(table)).astype(np.float32),
         "cls.predictions.decoder.weight": (table * 2).astype(np.float32)}  # fmt: skip
  change_weights(folder, lambda arrays: arrays | own)
  np.testing.assert_allclose(ours(folder), theirs(load(folder, "BertForMaskedLM")), atol=1e-4)


@pytest.mark.parametrize(("name", "layer"), [("llama-language-7", "q_proj"), ("gpt2-language-6", "c_attn")])
def test_an_adapter_of_peft_is_merged_as_peft_does_it(tmp_path, name, layer):
  peft = pytest.importorskip("peft")
  torch = importlib.import_module("torch")
  kind = "LlamaForCausalLM" if name.startswith("llama") else "GPT2LMHeadModel"
  base = as_float32(copy(GOLDEN / name, tmp_path / "base"))
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=[layer], fan_in_fan_out=layer == "c_attn")
    model = peft.get_peft_model(load(base, kind), config)
    with torch.no_grad():
      for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
          parameter.copy_(torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "adapter")
  np.testing.assert_allclose(ours(tmp_path / "adapter"), theirs(model), atol=1e-4)
  assert np.abs(ours(base) - theirs(model)).max() > 0.01
