# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The files of sentence-transformers: read, refused by name if lmx doesn't support a setting, and written again."""

import json
from pathlib import Path

import numpy as np
import pytest
from golden_models import GOLDEN
from hf_folders import copy, write, write_sentence_files

import lmx
from lmx.errors import LmxError
from lmx.hf.description import describe
from lmx.hf.importing import import_hf
from lmx.hf.sentence import SentenceModel, read_sentence_model

BERT, LLAMA = GOLDEN / "bert-embedding-8", GOLDEN / "llama-language-7"
WIDTH = json.loads((BERT / "config.json").read_text())["hidden_size"]
# Of qwen2, transformers reads no tokenizer but Qwen's own, which these folders don't have: it isn't exported.
FAMILIES = sorted({name: folder for folder in GOLDEN.glob("*-language-*")
                   if (name := folder.name.partition("-")[0]) != "qwen2"}.items())  # fmt: skip


@pytest.fixture
def model(tmp_path) -> Path:
  """A BERT with the files of sentence-transformers: mean pooling, 24 tokens, vectors of length 1."""
  folder = copy(BERT, tmp_path / "model")
  write_sentence_files(folder, "Transformer", "Pooling", "Normalize")
  older = {"word_embedding_dimension": WIDTH, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
  write(folder, "1_Pooling/config.json", older)
  write(folder, "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})
  return folder


def test_the_older_and_the_newer_layout_are_read_alike(model):
  older = read_sentence_model(model, WIDTH)
  assert older == SentenceModel("mean", True, 24)
  write_sentence_files(model, "Transformer", "Pooling", "Normalize", package="base.modules.x")
  write(model, "1_Pooling/config.json",
        {"embedding_dimension": WIDTH, "pooling_mode": "mean", "include_prompt": True})  # fmt: skip
  write(model, "sentence_bert_config.json", {"transformer_task": "feature-extraction"})
  names = json.loads((model / "tokenizer_config.json").read_text())
  write(model, "tokenizer_config.json", names | {"model_max_length": 24})
  assert read_sentence_model(model, WIDTH) == older


@pytest.mark.parametrize(
  ("file", "change", "pattern"),
  [
    ("1_Pooling/config.json", {"pooling_mode": "max"}, r"pooling_mode: got \['max'\]"),
    ("1_Pooling/config.json", {"pooling_mode": ["mean", "cls"]}, r"pooling_mode: got \['mean', 'cls'\]"),
    ("1_Pooling/config.json", {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}, r"got \['max'\]"),
    ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode": "cls"}, r"as in the older keys"),
    ("1_Pooling/config.json", {"pooling_mode_mean_tokens": "yes"}, r"pooling_mode_mean_tokens: got 'yes'"),
    ("1_Pooling/config.json", {"include_prompt": False}, r"include_prompt: got False"),
    ("1_Pooling/config.json", {"embedding_dimension": 7}, r"embedding_dimension: got 7"),
    ("1_Pooling/config.json", {"pooling_mode_cls_tokens": True}, r"key: got 'pooling_mode_cls_tokens'"),
    ("sentence_bert_config.json", {"max_sequence_length": 24}, r"key: got 'max_sequence_length'"),
    ("sentence_bert_config.json", {"document_length": 8}, r"document_length: got 8"),
    ("sentence_bert_config.json", {"module_output_name": "logits"}, r"module_output_name: got 'logits'"),
    ("sentence_bert_config.json", {"do_lower_case": True}, r"do_lower_case: got True"),
    ("sentence_bert_config.json", {"max_seq_length": "256"}, r"max_seq_length: got '256'"),
    ("config_sentence_transformers.json", {"default_prompt_name": "query", "prompts": {"query": "find: "}},
     r"default_prompt_name: got 'query'"),
    ("modules.json", {"type": "x"}, r"modules\.json is not a list"),
  ],
)  # fmt: skip
def test_unsupported_settings_are_refused_with_file_and_key(model, file, change, pattern):
  write(model, file, change)
  with pytest.raises(LmxError, match=pattern):
    describe(model)


@pytest.mark.parametrize("kinds", [("Transformer", "Pooling", "Dense"), ("Transformer",), ("Transformer", "Normalize")])
def test_other_modules_are_refused_by_their_type(model, kinds):
  write_sentence_files(model, *kinds)
  with pytest.raises(LmxError, match=rf"modules\.json: type: got 'sentence_transformers\.models\.{kinds[-1]}"):
    describe(model)


def test_texts_are_truncated_to_the_files_length_which_an_export_keeps(model, tmp_path):
  run = lmx.from_hf(model)
  assert run.config.data.length == 24
  assert run.config.model.pooling == "mean"
  long, longer = (" ".join(["w1 w2"] * count) for count in (30, 40))
  np.testing.assert_array_equal(run.embed(long), run.embed(longer))
  lmx.to_hf(run, tmp_path / "out", dtype="bfloat16")
  assert read_sentence_model(tmp_path / "out", WIDTH) == SentenceModel("mean", True, 24)
  np.testing.assert_array_equal(lmx.from_hf(tmp_path / "out").embed("w1 w2 w3"), run.embed("w1 w2 w3"))


def test_an_export_normalizes_only_where_the_import_did(model, tmp_path):
  write_sentence_files(model, "Transformer", "Pooling")
  lmx.to_hf(lmx.from_hf(model), tmp_path / "out")
  assert read_sentence_model(tmp_path / "out", WIDTH) == SentenceModel("mean", False, 24)


def test_a_decoder_pools_as_its_file_has_it_or_else_its_last_token(tmp_path):
  plain = copy(LLAMA, tmp_path / "plain")
  run = lmx.from_hf(plain)
  assert run.model.spec.head == "language"
  vectors = run.embed(["w1 w2 w3", "w1 w5 w9"])
  assert abs(vectors[0] @ vectors[1]) < 0.999
  np.testing.assert_array_equal(vectors, run.embed(["w1 w2 w3", "w1 w5 w9"], pooling="last"))
  with pytest.raises(LmxError, match=r"pooling: got 'cls'.*first token of a causal model"):
    run.embed("w1", pooling="cls")
  sentence = copy(LLAMA, tmp_path / "sentence")
  write_sentence_files(sentence, "Transformer", "Pooling")
  pooled = lmx.from_hf(sentence)
  assert (pooled.model.spec.head, pooled.model.spec.pooling) == ("embedding", "mean")
  np.testing.assert_allclose(pooled.embed("w1 w2 w3"), run.embed("w1 w2 w3", pooling="mean"), atol=1e-6)
  assert lmx.from_hf(sentence, head="language").generate("w1", max_new_tokens=2, temperature=0)


@pytest.mark.parametrize(("family", "folder"), FAMILIES)
def test_every_family_can_have_an_embedding_head_and_be_exported_with_it(family, folder, tmp_path):
  imported = import_hf(folder, head="embedding")
  assert imported.fresh == ()
  run = lmx.from_hf(copy(folder, tmp_path / "model"), head="embedding")
  lmx.to_hf(run, tmp_path / "out", dtype="bfloat16")
  again = lmx.from_hf(tmp_path / "out")
  assert again.model.spec.head == "embedding"
  np.testing.assert_array_equal(again.embed("w1 w2 w3"), run.embed("w1 w2 w3"))
