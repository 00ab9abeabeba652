# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 14 for two texts: every head reads a pair as AutoTokenizer frames it for BERT, RoBERTa and XLM-RoBERTa."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from exported_models import CORPUS, published
from hf_folders import write
from objectives.making import make_objective
from tokenizers import Tokenizer, processors

from lmx.data.tokenizers.tokenizer import HuggingFaceTokenizer
from lmx.objectives.base import ObjectiveContext

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("torch")
pytest.importorskip("transformers")

PAIRS = [("The dog jumps", "no one said why"), (CORPUS[0], "Yes"), ("it was", CORPUS[1]), (CORPUS[0], CORPUS[1])]
KINDS = ("bert", "roberta", "xlm-roberta")
LENGTH = 40


def made(kind: str) -> tuple[Tokenizer, dict[str, str]]:
  """A tokenizer as the family is published with it."""
  if kind == "bert":
    words, names = published("word pieces")
    words.post_processor = processors.BertProcessing(*((one, words.token_to_id(one)) for one in ("[SEP]", "[CLS]")))
    return words, names
  found, names = published("roberta")
  if kind == "xlm-roberta":  # Its post-processor is written as a template.
    single, pair = "<s> $A </s>", "<s> $A </s> </s> $B </s>"
    found.post_processor = processors.TemplateProcessing(single, pair, special_tokens=[("<s>", 0), ("</s>", 2)])
  return found, names


def both(kind: str, folder: Path, token_types: int = 2) -> tuple[Any, ObjectiveContext]:
  """AutoTokenizer's reader, and lmx's setting, of one folder."""
  tokenizer, names = made(kind)
  folder.mkdir()
  (folder / "tokenizer.json").write_text(tokenizer.to_str())
  write(folder, "tokenizer_config.json", names | {"tokenizer_class": "PreTrainedTokenizerFast"})
  ours = HuggingFaceTokenizer(tokenizer.to_str().encode(), (folder / "tokenizer_config.json").read_bytes(), where=kind)
  theirs = importlib.import_module("transformers").AutoTokenizer.from_pretrained(folder)
  return theirs, ObjectiveContext(ours, LENGTH, LENGTH, "encoder", ("x", "y"), token_types, "own")


def fields_of(found: Any) -> list[list[int]]:
  return [found["input_ids"], found["token_type_ids"]]


@pytest.mark.parametrize("kind", KINDS)
def test_classes_and_numbers_of_pairs_are_read_as_autotokenizer_frames_them(kind, tmp_path):
  reader, setting = both(kind, tmp_path / "tokenizer")
  heads = [make_objective("classification", setting, multi_label=False), make_objective("regression", setting)]
  for (first, second), head, label in [(pair, *one) for pair in PAIRS for one in zip(heads, ("x", "1"), strict=True)]:
    ours = head.encoder({"text": first, "text_b": second, "label": label}).fields
    theirs = reader(first, second, truncation=True, max_length=LENGTH, return_token_type_ids=True)
    assert [ours["tokens"].tolist(), ours["token_types"].tolist()] == fields_of(theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_with_its_context_is_read_as_autotokenizer_frames_it(kind, tmp_path):
  reader, setting = both(kind, tmp_path / "tokenizer")
  for context, answer in (("no one said why", "why"), ("Yes: they are! Mostly.", "they are")):
    row = {"question": "The dog jumps", "context": context, "answer": answer}
    ours = make_objective("span", setting).encoder(row).fields
    theirs = reader(row["question"], context, return_token_type_ids=True, return_offsets_mapping=True)
    assert [ours["tokens"].tolist(), ours["token_types"].tolist()] == fields_of(theirs)
    assert ours["context_mask"].tolist() == [int(part == 1) for part in theirs.sequence_ids()]
    first, last = ours["labels"].ravel()[:2].tolist()
    begin, end = theirs["offset_mapping"][first][0], theirs["offset_mapping"][last][1]
    assert context[begin:end].strip() == answer


@pytest.mark.parametrize("kind", KINDS)
def test_the_two_texts_of_an_embedding_are_two_rows_as_autotokenizer_frames_each(kind, tmp_path):
  reader, setting = both(kind, tmp_path / "tokenizer")
  for first, second in PAIRS:
    ours = make_objective("contrastive", setting, temperature=0.05).encoder({"text": first, "text_b": second}).fields
    theirs = [reader(one, truncation=True, max_length=LENGTH, return_token_type_ids=True) for one in (first, second)]
    for found, expected in zip(("", "pair_"), theirs, strict=True):
      assert [ours[f"{found}tokens"].tolist(), ours[f"{found}token_types"].tolist()] == fields_of(expected)
