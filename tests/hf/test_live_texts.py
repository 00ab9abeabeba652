# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 14 for texts, against `transformers` itself: lmx's exports and published models, from text to answer."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from exported_models import TEXTS, exported_run, published, tokenizer
from golden_models import NAMES
from tokenizer_folders import FOLDERS

import lmx
from lmx.api.tasks import open_text
from lmx.errors import LmxError
from lmx.hf.families import FAMILIES as FAMILY_NAMES
from lmx.hf.importing import read_tokenizer
from lmx.hf.tokenizer_files import TextInputs
from tools.reference.cases import draw_case

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore")]
FAMILIES = [next(name for name in NAMES if name.startswith(f"{family}-")) for family in FAMILY_NAMES]
CASES = [(name, "sentencepiece+3") for name in NAMES]
CASES += [(name, kind) for name in FAMILIES for kind in ("bytes", "byte pairs")]
CASES += [("bert-classification-8", kind) for kind in ("char", "unigram", "word pieces")]
CASES += [(name, "modernbert") for name in NAMES if name.startswith("modernbert")]


def export(name: str, kind: str, folder: Path, **settings) -> lmx.api.loaded_run.LoadedRun:
  run = exported_run(name, tokenizer(kind), **settings)
  lmx.to_hf(run, folder, family=name.partition("-")[0])
  return run


def auto_tokenizer(folder: Path):
  return importlib.import_module("transformers").AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_an_exports_tokenizer_gives_lmxs_ids_in_every_family(name, kind, tmp_path):
  reader = tokenizer(kind)
  if name.startswith("roberta") and kind != "roberta":
    with pytest.raises(LmxError, match=r"uses id 1 for padding"):
      export(name, kind, tmp_path / "out")
    return
  if name.startswith("qwen2-"):
    with pytest.raises(LmxError, match="Qwen2Tokenizer"):
      export(name, kind, tmp_path / "out")
    return
  run = export(name, kind, tmp_path / "out")
  theirs = auto_tokenizer(tmp_path / "out")
  setting = run.setting
  framing = TextInputs.of(reader, run.model.spec, setting.architecture, setting.framing).framing
  assert len(theirs) == reader.vocab_size
  for text in TEXTS:
    ids = reader.encode(text)
    assert theirs.encode(text, add_special_tokens=False) == ids.tolist(), repr(text)
    assert theirs.encode(text) == framing.single.fill(ids)[0].tolist()
  first, second = map(reader.encode, TEXTS[:2])
  pair, types = framing.pair.fill(first, second)
  found = theirs(TEXTS[0], TEXTS[1])
  assert found["input_ids"] == pair.tolist()
  assert ("token_type_ids" in found) == (setting.token_types > 1)
  if "token_type_ids" in found:
    assert found["token_type_ids"] == types.tolist()


# ---------------------------------------------------------------- from text to scores, as people publish models

# model_type -> the tokenizer that such models are published with.
PUBLISHED = {"bert": "word pieces", "roberta": "roberta", "gpt2": "gpt2", "llama": "llama", "qwen2": "qwen",
             "qwen3": "qwen", "modernbert": "modernbert"}  # fmt: skip
SHORT_AND_LONG = [TEXTS[0], TEXTS[4], "x", TEXTS[1] + TEXTS[3]]
SECOND = ["a second text, longer than the first", "no", TEXTS[2], "nobody said why"]


def publish(family: str, head: str, folder: Path, **keys):
  """A random model with its tokenizer, saved by `transformers`."""
  torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
  made, names = published(PUBLISHED[family])
  case = draw_case(family, head, 3)
  keys = {"vocab_size": made.get_vocab_size(), **({} if head == "language" else {"num_labels": 3}), **keys}
  keys |= {"n_positions" if family == "gpt2" else "max_position_embeddings": 130}
  values = {key: value for key, value in case.config.items() if not key.endswith("token_id") and key != "id2label"}
  for key in ("label2id", "model_type", "architectures", "num_labels"):
    values.pop(key, None)
  config = transformers.AutoConfig.for_model(family, **{**values, **keys})
  torch.manual_seed(0)
  model = getattr(transformers, case.architecture)(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.copy_(torch.randn_like(parameter) * 0.3)
  model.save_pretrained(folder)
  (folder / "tokenizer.json").write_text(made.to_str())
  (folder / "tokenizer_config.json").write_text(json.dumps(names))
  return model


def their_scores(folder: Path, architecture: str, texts: list[str], second: list[str] | None, **options) -> np.ndarray:
  """Logits of one padded batch; without a padding token, row by row."""
  torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
  model = getattr(transformers, architecture).from_pretrained(folder).eval()
  reader = auto_tokenizer(folder)
  rows = [texts] if reader.pad_token is not None and model.config.pad_token_id is not None else [[one] for one in texts]
  scores = []
  for row in rows:
    pairs = None if second is None else [second[texts.index(one)] for one in row]
    with torch.no_grad():
      inputs = reader(row, pairs, padding=len(row) > 1, return_tensors="pt", **options)
      scores.append(model(**inputs).logits.numpy())
  return np.concatenate(scores)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("family", PUBLISHED)
def test_a_published_classifier_gives_their_probabilities_and_so_does_its_export(family, pairs, tmp_path):
  keys = {
    "bert": {"pad_token_id": 0, "type_vocab_size": 2},
    "roberta": {"pad_token_id": 1},
    "qwen2": {"pad_token_id": 0},
    "modernbert": {"pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
  }
  keys = keys.get(family, {})
  model = publish(family, "classification", tmp_path / "model", problem_type="single_label_classification", **keys)
  second = SECOND if pairs else None
  cut = {"truncation": True, "max_length": 33}
  run = lmx.from_hf(tmp_path / "model")
  run.config.data.length = 33
  found = run.classify(SHORT_AND_LONG, second)
  ours = np.array([[one[label] for label in run.labels] for one in found])
  lmx.to_hf(run, tmp_path / "exported", family=family)
  for folder in (tmp_path / "model", tmp_path / "exported"):
    theirs = their_scores(folder, type(model).__name__, SHORT_AND_LONG, second, **cut)
    np.testing.assert_allclose(ours, softmax(theirs), atol=2e-5, err_msg=str(folder))
  assert auto_tokenizer(tmp_path / "exported").pad_token is not None


def softmax(scores: np.ndarray) -> np.ndarray:
  raised = np.exp(scores - scores.max(-1, keepdims=True))
  return raised / raised.sum(-1, keepdims=True)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_a_published_decoder_gives_their_loss_and_their_continuation_of_a_text(family, tmp_path):
  torch = importlib.import_module("torch")
  model = publish(family, "language", tmp_path / "model", **({"pad_token_id": 0} if family == "qwen3" else {}))
  run, reader = lmx.from_hf(tmp_path / "model"), auto_tokenizer(tmp_path / "model")
  inputs = reader(TEXTS[0], return_tensors="pt")
  with torch.no_grad():
    loss = float(model(**inputs, labels=inputs["input_ids"]).loss)
    ids = model.generate(**inputs, do_sample=False, max_new_tokens=6, pad_token_id=0, eos_token_id=None)[0].tolist()
  assert run.loss(TEXTS[0]).nats_per_token == pytest.approx(loss, rel=2e-5)
  ours = run.continuations([TEXTS[0]], temperature=0.0, max_new_tokens=6, seed=0)[0][0].tokens.tolist()
  assert ids[inputs["input_ids"].shape[1] :][: len(ours)] == ours


# ---------------------------------------------------------------- pipelines over exports


def pipeline(task: str, folder: Path, **options):
  return importlib.import_module("transformers").pipeline(task, str(folder), device="cpu", **options)


GENERATING = [("gpt2-language-6", "sentencepiece"), ("llama-language-7", "bytes"), ("qwen3-language-4", "byte pairs")]


@pytest.mark.parametrize(("name", "kind"), GENERATING)
def test_the_pipeline_text_generation_continues_as_lmx_does(name, kind, tmp_path):
  run = export(name, kind, tmp_path / "out")
  theirs = pipeline("text-generation", tmp_path / "out")
  ours = run.continuations(TEXTS[:2], temperature=0.0, max_new_tokens=8, seed=0)
  for text, samples in zip(TEXTS[:2], ours, strict=True):
    found = theirs(text, do_sample=False, max_new_tokens=8, temperature=None, top_p=None, return_tensors=True)
    prompt = open_text(run.tokenizer.encode(text), run.setting)
    ids = found[0]["generated_token_ids"]
    assert ids[: len(prompt)] == prompt.tolist()
    assert [token for token in ids[len(prompt) :] if token != run.tokenizer.eos_id] == samples[0].tokens.tolist()


CLASSIFYING = [("bert-classification-8", "sentencepiece"), ("bert-classification-8", "byte pairs"),
               ("llama-classification-7", "sentencepiece"), ("llama-classification-7", "bytes"),
               ("llama-classification-7", "byte pairs"),
               ("modernbert-classification-26", "modernbert")]  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), CLASSIFYING)
def test_the_pipeline_text_classification_gives_lmxs_probabilities(name, kind, tmp_path):
  run = export(name, kind, tmp_path / "out")
  theirs = pipeline("text-classification", tmp_path / "out", top_k=None, batch_size=4)
  for ours, found in zip(run.classify(SHORT_AND_LONG), theirs(SHORT_AND_LONG, truncation=True), strict=True):
    assert {one["label"]: pytest.approx(one["score"], abs=2e-5) for one in found} == ours


TAGGING = [("bert-tagging-8", "sentencepiece"), ("bert-tagging-8", "word pieces"),
           ("modernbert-tagging-27", "modernbert")]  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), TAGGING)
def test_the_pipeline_token_classification_gives_lmxs_tags(name, kind, tmp_path):
  run = export(name, kind, tmp_path / "out")
  theirs = pipeline("token-classification", tmp_path / "out", ignore_labels=[])
  words = ["The", "quick", "brown", "fox", "was", "unseen", "there"]
  text, starts = " ".join(words), np.cumsum([0, *(len(word) + 1 for word in words)])
  found = {one["index"]: one for one in theirs(text)}
  by_start = {text.index(word): None for word in words}
  for one in sorted(found.values(), key=lambda one: -one["index"]):
    begin = one["start"] + (text[one["start"]] == " ")
    if begin in by_start:
      by_start[begin] = one["entity"]
  assert [by_start[int(start)] for start in starts[:-1]] == run.tag(words)


@pytest.mark.parametrize("kind", ["sentencepiece", "word pieces"])
def test_the_pipeline_feature_extraction_gives_lmxs_hidden_states(kind, tmp_path):
  run = export("bert-embedding-8", kind, tmp_path / "out")
  theirs = pipeline("feature-extraction", tmp_path / "out")
  for text in TEXTS[:2]:
    hidden = np.array(theirs(text)[0])
    pooled = {"cls": hidden[0], "mean": hidden.mean(0), "last": hidden[-1]}[run.model.spec.pooling]
    np.testing.assert_allclose(run.embed(text, normalize=False)[0], pooled, atol=2e-5)


MASKED = [("bert-masked-8", "sentencepiece+3"), ("bert-masked-8", "word pieces"),
          ("modernbert-masked-27", "sentencepiece+3"), ("modernbert-masked-27", "modernbert")]  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), MASKED)
def test_the_pipeline_fill_mask_gives_lmxs_words(name, kind, tmp_path):
  run = export(name, kind, tmp_path / "out")
  theirs = pipeline("fill-mask", tmp_path / "out", top_k=3)
  reader = run.tokenizer
  parts = [
    reader.encode("The quick" if kind == "modernbert" else "The quick "),
    [reader.mask_id],
    reader.encode(" fox"),
  ]
  row = np.concatenate([[reader.cls_id], *parts, [reader.sep_id]]).astype(np.int32)[None]
  logits = np.asarray(run.model(row).logits())[0, 1 + len(parts[0])][: reader.vocab_size]
  found = theirs(f"The quick {theirs.tokenizer.mask_token} fox")
  assert [one["token"] for one in found] == np.argsort(-logits)[:3].tolist()
  np.testing.assert_allclose([one["score"] for one in found], softmax(logits)[np.argsort(-logits)[:3]], atol=2e-5)


# ---------------------------------------------------------------- tokenizers as people publish them


@pytest.mark.parametrize("name", FOLDERS)
def test_a_published_tokenizer_is_read_as_autotokenizer_reads_it(name, tmp_path):
  folder = FOLDERS[name](tmp_path / "model")
  theirs, ours = auto_tokenizer(folder), read_tokenizer(folder, 1000)
  assert len(theirs) == ours.vocab_size
  for text in [*TEXTS, "a <tool> b<tool>c", "a<new>b", "a <x y> z", "x\n\ny", "Caf\u00e9 THE"]:
    assert theirs.encode(text, add_special_tokens=False) == ours.encode(text).tolist(), repr(text)
  for role in ("bos", "eos", "pad", "cls", "sep", "mask"):
    expected = getattr(theirs, f"{role}_token_id")
    assert expected is None or expected == getattr(ours, f"{role}_id"), role
  first, second = ours.encode(TEXTS[0]), ours.encode(TEXTS[1])
  assert ours.own_framing.single.fill(first)[0].tolist() == theirs.encode(TEXTS[0])
  ids, types = ours.own_framing.pair.fill(first, second)
  found = theirs(TEXTS[0], TEXTS[1], return_token_type_ids=True)
  assert (found["input_ids"], found["token_type_ids"]) == (ids.tolist(), types.tolist())
