# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Marian in the layout that it is published in, against `transformers`: ids, greedy and beam outputs."""

import importlib
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from golden_models import GOLDEN
from hf_folders import change_config, change_weights, write

import lmx

pytestmark = pytest.mark.live
pytest.importorskip("torch")
pytest.importorskip("transformers")

TEXTS = ["the cat sat on a mat", "a dog and the cat", "the mat", "\u00e9t\u00e9 the dog"]
ANSWERS = ["die katze sass auf der matte", "ein hund und die katze", "die matte", "der hund"]
STEPS = 160  # Enough for its words, too few for the longest answer: greedy and beams differ there.


def published(folder: Path) -> Path:
  """A Marian with two SentencePiece models, one vocabulary of both, an output bias, and generation by beams."""
  spm = importlib.import_module("sentencepiece")
  folder.mkdir()
  pieces: list[str] = ["</s>", "<unk>"]
  for name, texts in (("source", TEXTS), ("target", ANSWERS)):
    spm.SentencePieceTrainer.train(sentence_iterator=iter(texts * 20), model_prefix=str(folder / name), vocab_size=34,
                                   model_type="bpe", hard_vocab_limit=False, minloglevel=2)  # fmt: skip
    (folder / f"{name}.model").rename(folder / f"{name}.spm")
    (folder / f"{name}.vocab").unlink()
    processor = spm.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
    pieces += [processor.id_to_piece(i) for i in range(3, processor.vocab_size())]
  pieces = [*dict.fromkeys(pieces), "<pad>"]
  write(folder, "vocab.json", {piece: n for n, piece in enumerate(pieces)})
  write(folder, "tokenizer_config.json", {"source_lang": "en", "target_lang": "de", "model_max_length": 64,
                                          "tokenizer_class": "MarianTokenizer"})  # fmt: skip
  _write_model(folder, len(pieces), _pairs(folder, pieces))
  return folder


def _pairs(folder: Path, pieces: list[str]) -> list[tuple[list[int], list[int]]]:
  """Ids of each text and its answer, with the end."""
  spm = importlib.import_module("sentencepiece")
  number = {piece: n for n, piece in enumerate(pieces)}
  sides = []
  for name, texts in (("source", TEXTS), ("target", ANSWERS)):
    processor = spm.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
    sides.append([[*(number.get(piece, 1) for piece in processor.encode(text, out_type=str)), 0] for text in texts])
  return list(zip(*sides, strict=True))


def _write_model(folder: Path, size: int, pairs: list[tuple[list[int], list[int]]]) -> None:
  """A small model, trained on the pairs, so that its output depends on its text."""
  transformers, torch = importlib.import_module("transformers"), importlib.import_module("torch")
  values = json.loads((GOLDEN / "marian-language-3" / "config.json").read_text())
  ids = {"pad_token_id": size - 1, "decoder_start_token_id": size - 1, "eos_token_id": 0, "forced_eos_token_id": 0}
  keys = {key: value for key, value in values.items() if not key.endswith(("_token_id", "vocab_size"))}
  torch.manual_seed(0)
  config = transformers.MarianConfig(**keys | ids | {"vocab_size": size, "max_position_embeddings": 64})
  model = transformers.MarianMTModel(config).eval()
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      if "embed_positions" not in name and parameter.ndim > 1:
        parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)
  random = 0.3 * np.random.default_rng(1).standard_normal((1, size)).astype(np.float32)
  model.final_logits_bias.copy_(torch.from_numpy(random))
  optimizer = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=1e-2)
  for step in range(STEPS):
    text, answer = (torch.tensor([ids]) for ids in pairs[step % len(pairs)])
    optimizer.zero_grad()
    model(input_ids=text, labels=answer).loss.backward()
    optimizer.step()
  model.save_pretrained(folder)
  change_weights(folder, lambda arrays: arrays | {"final_logits_bias": random})
  change_config(folder, bad_words_ids=[[size - 1]])
  write(folder, "generation_config.json", {"bad_words_ids": [[size - 1]], "bos_token_id": 0, "max_length": 12,
        "num_beams": 4, "renormalize_logits": True, **ids})  # fmt: skip


def theirs(folder: Path, **options) -> tuple[list[list[int]], list[str]]:
  """(ids of the texts, the model's outputs)."""
  transformers = importlib.import_module("transformers")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.MarianMTModel.from_pretrained(folder).eval()
    written = [model.generate(**tokenizer([text], return_tensors="pt"), **options)[0] for text in TEXTS]
  return tokenizer(TEXTS)["input_ids"], [tokenizer.decode(ids, skip_special_tokens=True) for ids in written]


def test_a_published_folder_and_its_export_generate_what_transformers_generates(tmp_path):
  folder = published(tmp_path / "model")
  run = lmx.from_hf(folder)
  ids, searched = theirs(folder)
  assert all(len(set(text)) > 4 for text in searched), searched  # Several different tokens each.
  assert len(set(searched)) > 2
  assert [[*encoded.tolist(), 0] for encoded in run.tokenizer.encode_batch(TEXTS)] == ids
  assert run.generate(TEXTS) == run.translate(TEXTS) == searched
  greedy = theirs(folder, num_beams=1)[1]
  assert greedy != searched
  assert run.translate(TEXTS, beams=1) == greedy == run.generate(TEXTS, temperature=0)
  lmx.to_hf(run, tmp_path / "out")
  assert theirs(tmp_path / "out") == (ids, searched)
  assert theirs(tmp_path / "out", num_beams=1)[1] == greedy


@pytest.mark.parametrize("changes", [{"length_penalty": 0.3, "num_beams": 2}, {"early_stopping": True}])
def test_other_beams_and_penalties_give_the_outputs_of_transformers(tmp_path, changes):
  folder = published(tmp_path / "model")
  values = json.loads((folder / "generation_config.json").read_text())
  write(folder, "generation_config.json", values | changes)
  assert lmx.from_hf(folder).translate(TEXTS) == theirs(folder)[1]
