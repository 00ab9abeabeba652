# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Tokenizers give back exactly the text they were given, and are read back as they were saved."""

import json
import random

import numpy as np
import pytest
import tokenizers
from laws import assert_law_catches

from lmx.data import tokenizer_training
from lmx.data.stdlib import StdlibSource
from lmx.data.tokenizer import (
  ByteTokenizer,
  Tokenizer,
  TokenizerSpec,
  load_tokenizer,
  open_tokenizer,
  train_sentencepiece,
)
from lmx.data.vocabulary import DESCRIPTION_FILE
from lmx.errors import LmxError

TEXT = [
  document.text
  for document in StdlibSource().documents(None)  # type: ignore[arg-type]
  if document.where.startswith("topics/")
][:30]


def train_huggingface() -> tokenizers.Tokenizer:
  tokenizer = tokenizers.ByteLevelBPETokenizer()
  tokenizer.train_from_iterator(TEXT[:5], vocab_size=400, special_tokens=["<|endoftext|>"], show_progress=False)
  return tokenizer._tokenizer


@pytest.fixture(scope="module")
def specimens(tmp_path_factory) -> dict[str, Tokenizer]:
  folder = tmp_path_factory.mktemp("huggingface")
  train_huggingface().save(str(folder / "tokenizer.json"))
  return {
    "bytes": ByteTokenizer(),
    "bpe": train_sentencepiece(TEXT, vocab_size=600, model_type="bpe"),
    "unigram": train_sentencepiece(TEXT[:8], vocab_size=420, model_type="unigram"),
    "huggingface": open_tokenizer("huggingface", str(folder)),
  }


KINDS = ("bytes", "bpe", "unigram", "huggingface")


def random_text(rng: random.Random) -> str:
  """Characters from everywhere: Latin, spaces and controls, SentencePiece's own mark, all planes of Unicode."""
  ranges = [(0, 0x250), (0x2500, 0x2600), (0x20, 0x21), (9, 11), (0x2581, 0x2582), (0, 0xD800), (0xE000, 0x110000)]
  return "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(30)))


def check_round_trip(tokenizer: Tokenizer) -> None:
  rng = random.Random(0)
  fixed = [
    "",
    " ",
    "\n",
    "\n\n    x\t\ty\r\n",
    "a\u2581 b",
    "<s></s><unk><0x0A><|endoftext|>",
    "\ufb01\u2460\ufeffe\u0301",
  ]
  for text in [*fixed, *(random_text(rng) for _ in range(300)), TEXT[0]]:
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == text
    assert not {tokenizer.bos_id, tokenizer.eos_id} & set(ids.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_comes_back_exactly(specimens, kind):
  assert specimens[kind].lossless
  check_round_trip(specimens[kind])


def test_the_round_trip_law_catches_a_tokenizer_that_drops_spaces(specimens):
  class Dropping(ByteTokenizer):
    def encode_batch(self, texts):
      return super().encode_batch([" ".join(text.split(" ")[:1]) for text in texts])

  assert_law_catches(check_round_trip, Dropping())


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_is_read_back_the_same(specimens, kind, tmp_path):
  tokenizer = specimens[kind]
  tokenizer.save(tmp_path / "saved")
  loaded = load_tokenizer(tmp_path / "saved")
  assert (loaded.fingerprint, loaded.vocab_size) == (tokenizer.fingerprint, tokenizer.vocab_size)
  assert (loaded.bos_id, loaded.eos_id) == (tokenizer.bos_id, tokenizer.eos_id)
  np.testing.assert_array_equal(loaded.encode(TEXT[1]), tokenizer.encode(TEXT[1]))


def test_a_saved_tokenizer_whose_files_were_changed_is_refused(specimens, tmp_path):
  specimens["bpe"].save(tmp_path)
  specimens["unigram"].save_files(tmp_path)
  with pytest.raises(LmxError, match="not the one that was saved"):
    load_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_each_text_gives_alone(specimens, kind):
  texts = ["one", "", "two words", TEXT[2]]
  for ids, text in zip(specimens[kind].encode_batch(texts), texts, strict=True):
    np.testing.assert_array_equal(ids, specimens[kind].encode(text))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_long_text_cut_into_chunks_gives_the_ids_of_the_whole(specimens, kind):
  tokenizer = specimens[kind]
  text = "".join(TEXT)
  whole = tokenizer._processor.encode(text, out_type="numpy")
  assert len(text) > 4 * 16384
  ids = tokenizer.encode(text)
  assert len(ids) == len(whole)
  if kind == "bpe":  # unigram adds up log-probabilities along the text, and ties may fall another way.
    np.testing.assert_array_equal(ids, whole)


def test_a_character_vocabulary_is_the_characters_of_the_text():
  text = "First Citizen:\nBefore we proceed any further, hear me speak.\n\tAll:\r\nSpeak, speak. \u00e9\n"
  tokenizer = train_sentencepiece([text], vocab_size=0, model_type="char")
  pieces = {tokenizer.piece(i) for i in range(tokenizer.vocab_size)}
  assert pieces == set(text) | {"<unk>", "<s>", "</s>"}
  assert len(tokenizer.encode(text)) == len(text)
  assert tokenizer.decode(tokenizer.encode(text)) == text
  assert not tokenizer.lossless
  assert tokenizer.encode("\u65e5").tolist() == [tokenizer.unk_id]


def test_training_twice_gives_the_same_tokenizer():
  first, second = (train_sentencepiece(TEXT[:5], vocab_size=380) for _ in range(2))
  assert first.fingerprint == second.fingerprint


def test_a_vocabulary_that_does_not_fit_the_text_says_what_does():
  with pytest.raises(LmxError, match=r"got 100000. Allowed: at most \d+ .* Fix: --config.tokenizer.vocab_size=\d+"):
    train_sentencepiece(TEXT[:1], vocab_size=100_000)
  with pytest.raises(LmxError, match=r"got 50. Allowed: more than \d+"):
    train_sentencepiece(TEXT[:1], vocab_size=50)
  with pytest.raises(LmxError, match="is it empty"):
    train_sentencepiece([], vocab_size=500)
  with pytest.raises(LmxError, match="Did you mean 'bpe'"):
    train_sentencepiece(TEXT[:1], vocab_size=500, model_type="bpee")


def test_files_that_are_no_tokenizer_are_refused_with_their_name(tmp_path):
  file = tmp_path / "x.model"
  with pytest.raises(LmxError, match=r"config.tokenizer.path: got '.*x.model'"):
    open_tokenizer("sentencepiece", str(file))
  file.write_bytes(b"nonsense")
  for kind in ("sentencepiece", "huggingface"):
    with pytest.raises(LmxError, match=r"x.model is not a"):
      open_tokenizer(kind, str(file))
  with pytest.raises(LmxError, match="Did you mean 'bytes'"):
    open_tokenizer("byte", None)
  with pytest.raises(LmxError, match=DESCRIPTION_FILE):
    load_tokenizer(tmp_path)


def test_a_huggingface_config_names_the_tokens_around_a_document(tmp_path):
  tokenizer = train_huggingface()
  tokenizer.add_special_tokens(["[B]", "[E]"])
  tokenizer.save(str(tmp_path / "tokenizer.json"))
  config = {"bos_token": "[B]", "eos_token": {"content": "[E]"}}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
  loaded = open_tokenizer("huggingface", str(tmp_path / "tokenizer.json"))
  assert [loaded.piece(i) for i in (loaded.bos_id, loaded.eos_id)] == ["[B]", "[E]"]
  loaded.save(tmp_path / "saved")
  assert load_tokenizer(tmp_path / "saved").bos_id == loaded.bos_id


def test_a_tokenizer_without_an_end_of_document_is_refused(tmp_path):
  tokenizer = tokenizers.ByteLevelBPETokenizer()
  tokenizer.train_from_iterator(TEXT[:2], vocab_size=300, show_progress=False)
  tokenizer.save(str(tmp_path / "tokenizer.json"))
  with pytest.raises(LmxError, match=r'found no token that ends a document.*"eos_token"'):
    open_tokenizer("huggingface", str(tmp_path))


def test_the_training_sample_is_spread_evenly_over_the_text():
  documents = [chr(ord("a") + i) * 40_960 for i in range(10)]
  sample = "".join(tokenizer_training._spread(lambda: iter(documents), 81_920))
  assert {c: sample.count(c) for c in sorted(set(sample))} == {chr(ord("a") + i): 8192 for i in range(10)}
  assert "".join(tokenizer_training._spread(lambda: iter(documents), 10**9)) == "".join(documents)


def test_a_spec_with_a_path_or_of_another_kind_needs_no_training():
  assert TokenizerSpec().needs_training
  assert not TokenizerSpec(path="x.model").needs_training
  assert not TokenizerSpec(kind="bytes").needs_training
