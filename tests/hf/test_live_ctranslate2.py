# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 14 against CTranslate2, where it is installed: its converter opens lmx's exports, and its outputs are lmx's.

The settings are those that CTranslate2 4.8 has: no soft-caps, no windows, the usual epsilon of GPT-2's norms.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapted_models import base_of
from exported_models import exported_run, tokenizer
from hf_folders import change_config, write_tokenizer

import lmx
from lmx.api.loaded_run import LoadedRun

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("ctranslate2")

TEXTS = ["w1 w2 w3", "w9 w8 w1 w1 w20 w21 w4 w5", "w5"]
LIMIT = 1e-5
PLAIN = {"rope_parameters": None, "rope_theta": 5e3, "rope_scaling": None, "sliding_window": None}
# Model -> keys of its config.json that CTranslate2 would ignore, set to what it computes.
DECODERS: dict[str, dict[str, Any]] = {
  "gpt2-language-6": {"layer_norm_epsilon": 1e-5},
  "mistral-language-8": PLAIN,
  "qwen3-language-4": PLAIN | {"use_sliding_window": False, "layer_types": None},
}


def model(name: str, folder: Path, **changes: Any) -> Path:
  """A golden model with a word for each row of its table, which CTranslate2 counts."""
  base = base_of(name, folder, **changes)
  write_tokenizer(
    base, [f"w{number}" for number in range(36)], framed="<s> $A </s>", pad=int(name.startswith("roberta"))
  )
  return base


def llama(folder: Path) -> Path:
  """A Llama whose heads are as wide as its width divided by their number: CTranslate2 reads no head_dim of Llama's."""
  torch, library = importlib.import_module("torch"), importlib.import_module("transformers")
  sizes = {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
  rope = {"rope_type": "default", "rope_theta": 5e3}
  torch.manual_seed(0)
  config = library.LlamaConfig(**sizes, intermediate_size=24, vocab_size=40, max_position_embeddings=32,
                               initializer_range=0.5, rope_parameters=rope)  # fmt: skip
  library.LlamaForCausalLM(config).save_pretrained(folder)
  write_tokenizer(folder, [f"w{number}" for number in range(36)], framed="<s> $A")
  return folder


def converted(run: LoadedRun, folder: Path, kind: str) -> Any:
  """CTranslate2's Generator, Translator or Encoder over an export."""
  library = importlib.import_module("ctranslate2")
  lmx.to_hf(run, folder / "out")
  importlib.import_module("ctranslate2.converters").TransformersConverter(str(folder / "out")).convert(
    str(folder / "ct")
  )
  return getattr(library, kind)(str(folder / "ct"), device="cpu", compute_type="float32", intra_threads=1)


def auto_tokenizer(folder: Path) -> Any:
  return importlib.import_module("transformers").AutoTokenizer.from_pretrained(folder / "out")


def check_continuations(run: LoadedRun, folder: Path, texts: list[str]) -> None:
  theirs = converted(run, folder, "Generator")
  reader = auto_tokenizer(folder)
  ours = run.continuations(texts, temperature=0.0, max_new_tokens=8, seed=0)
  for text, samples in zip(texts, ours, strict=True):
    ids = reader(text)["input_ids"]
    logits = np.asarray(run.model(np.array([ids], np.int32)).logits())[..., : len(reader)]
    found = np.array(theirs.forward_batch([ids]))[..., : len(reader)]
    np.testing.assert_allclose(found, logits, atol=LIMIT * max(1, np.abs(logits).max()))
    options = {"include_prompt_in_result": False, "sampling_topk": 1, "max_length": 8}
    written = theirs.generate_batch([reader.convert_ids_to_tokens(ids)], **options)[0].sequences_ids[0]
    stops = {run.tokenizer.eos_id, *run.generation.stops}
    assert [token for token in written if token not in stops] == samples[0].tokens.tolist()


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_gives_lmxs_logits_and_greedy_continuations(name, tmp_path):
  check_continuations(lmx.from_hf(model(name, tmp_path / "model", **DECODERS[name])), tmp_path, TEXTS)


def test_a_llama_gives_lmxs_logits_and_greedy_continuations(tmp_path):
  check_continuations(lmx.from_hf(llama(tmp_path / "model")), tmp_path, TEXTS)


def test_a_byte_level_gpt2_without_an_unknown_token_is_opened(tmp_path):
  run = exported_run("gpt2-language-6", tokenizer("byte pairs"))
  lmx.to_hf(run, tmp_path / "first")
  change_config(tmp_path / "first", layer_norm_epsilon=1e-5)
  check_continuations(lmx.from_hf(tmp_path / "first"), tmp_path, ["The quick brown", "def main(argv):"])


@pytest.mark.parametrize("name", ["t5-language-0", "t5-language-6"])
def test_a_t5_generates_what_lmx_generates(name, tmp_path):
  run = exported_run(name, tokenizer("t5"))
  theirs, texts = converted(run, tmp_path, "Translator"), ["The quick brown fox", "dog jumps", "it was"]
  reader = auto_tokenizer(tmp_path)
  rows = [reader.convert_ids_to_tokens(ids) for ids in reader(texts)["input_ids"]]
  found = [one.hypotheses[0] for one in theirs.translate_batch(rows, beam_size=1, max_decoding_length=8)]
  ours = [one[0].tokens for one in run.continuations(texts, temperature=0.0, max_new_tokens=8, seed=0)]
  assert found == [reader.convert_ids_to_tokens(tokens.tolist()) for tokens in ours]


@pytest.mark.parametrize("name", ["bert-embedding-8", "roberta-classification-8"])
def test_an_encoder_gives_lmxs_hidden_states(name, tmp_path):
  run = lmx.from_hf(model(name, tmp_path / "model"), head="embedding")
  theirs, reader = converted(run, tmp_path, "Encoder"), auto_tokenizer(tmp_path)
  for text in TEXTS:
    ids = reader(text)["input_ids"]
    found = np.array(theirs.forward_batch([ids]).last_hidden_state)
    np.testing.assert_allclose(found, np.asarray(run.model(np.array([ids], np.int32)).hidden), atol=LIMIT)
