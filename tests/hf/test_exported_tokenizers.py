# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 14 for texts: an export's tokenizer.json gives lmx's ids and lmx's special tokens around texts."""

import json

import pytest
import tokenizers
from exported_models import TEXTS, tokenizer
from laws import assert_law_catches

KINDS = ("bytes", "sentencepiece", "sentencepiece+3", "char", "unigram", "byte pairs", "word pieces")


def check_ids(values: dict, kind: str) -> None:
  reader = tokenizer(kind)
  other = tokenizers.Tokenizer.from_str(json.dumps(values))
  for text in TEXTS:
    assert other.encode(text, add_special_tokens=False).ids == reader.encode(text).tolist(), repr(text)
  assert other.get_vocab_size() == reader.vocab_size
  if reader.lossless:
    assert [other.decode(reader.encode(text).tolist()) for text in TEXTS] == TEXTS


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_json_gives_the_ids_of_every_tokenizer(kind):
  check_ids(tokenizer(kind).as_json(), kind)


def test_the_law_of_ids_catches_a_space_that_is_added():
  values = tokenizer("sentencepiece").as_json()
  values["normalizer"] = {"type": "Prepend", "prepend": " "}
  assert_law_catches(check_ids, values, "sentencepiece")
