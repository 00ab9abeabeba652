# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Tokenizers decode to exactly the text that they encoded, and load as they were saved."""

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import tokenizers
from laws import assert_law_catches

from lmx.data import tokenizer_training
from lmx.data.document import RequiredColumns
from lmx.data.sources.stdlib import StdlibSource
from lmx.data.spec import DataSpec
from lmx.data.tokenizers import huggingface_tokenizer
from lmx.data.tokenizers.tokenizer import (
  ByteTokenizer,
  SentencePieceTokenizer,
  Tokenizer,
  TokenizerSpec,
  load_tokenizer,
  open_tokenizer,
  train_sentencepiece,
)
from lmx.data.tokenizers.vocabulary import DESCRIPTION_FILE
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


@pytest.mark.parametrize("slice_size", [1, 8, 1 << 17])  # Characters, of the kind that encodes a batch in slices.
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_has_the_ids_of_each_text(specimens, kind, slice_size, monkeypatch):
  texts = ["one", "", "two words", TEXT[2], ""]
  expected = [specimens[kind].encode(text) for text in texts]
  monkeypatch.setattr(huggingface_tokenizer, "_SLICE", slice_size)
  for ids, one in zip(specimens[kind].encode_batch(texts), expected, strict=True):
    np.testing.assert_array_equal(ids, one)
  assert specimens[kind].encode_batch([]) == []


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_long_text_encoded_in_chunks_has_the_ids_of_the_complete_text(specimens, kind):
  tokenizer = specimens[kind]
  text = "".join(TEXT)
  whole = tokenizer._processor.encode(text, out_type="numpy")
  assert len(text) > 4 * 16384
  ids = tokenizer.encode(text)
  assert len(ids) == len(whole)
  if kind == "bpe":  # SentencePiece adds up unigram's log-probabilities in float32, not exactly in so long a text.
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


def test_a_vocabulary_that_does_not_fit_the_text_is_refused_with_what_does():
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
  with pytest.raises(LmxError, match=r'found no end-of-document token.*"eos_token"'):
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


def test_added_ids_come_last_and_are_saved_with_the_run(specimens, tmp_path):
  for kind, tokenizer in specimens.items():
    more = tokenizer.extended(5)
    assert (more.own_size, more.vocab_size, more.extra_ids) == (tokenizer.vocab_size, tokenizer.vocab_size + 5, 5)
    assert (more.mask_id, more.sentinels) == (tokenizer.vocab_size, 5)
    assert [more.sentinel(i) for i in range(5)] == [more.vocab_size - 1 - i for i in range(5)]
    assert more.piece(more.sentinel(2)) == "<extra_id_2>"
    assert more.fingerprint != tokenizer.fingerprint
    assert more.extended(0).fingerprint == more.extended(2).extended(0).fingerprint == tokenizer.fingerprint
    np.testing.assert_array_equal(more.encode(TEXT[1]), tokenizer.encode(TEXT[1]))
    assert more.decode([*more.encode("x y"), more.sentinel(0)]) == "x y"
    assert len(more.starts_word) == more.vocab_size
    more.save(tmp_path / kind)
    loaded = load_tokenizer(tmp_path / kind)
    assert (loaded.vocab_size, loaded.fingerprint, loaded.extra_ids) == (more.vocab_size, more.fingerprint, 5)
    with pytest.raises(LmxError, match=r"sentinel: got 5. Allowed: 0 to 4"):
      more.sentinel(5)
    assert tokenizer.mask_id is None
    with pytest.raises(LmxError, match="this tokenizer has no sentinels"):
      tokenizer.sentinel(0)


def test_a_config_adds_ids_to_whatever_tokenizer_it_names(specimens, tmp_path):
  specimens["bpe"].extended(3).save(tmp_path)
  data = DataSpec(cache_dir=str(tmp_path / "cache"))
  for wanted, expected in ((0, 3), (3, 3), (7, 7)):
    spec = TokenizerSpec(kind="sentencepiece", path=str(tmp_path), extra_ids=wanted)
    assert tokenizer_training.make_tokenizer(spec, data).extra_ids == expected
  (tmp_path / "a.txt").write_text(TEXT[0])
  data = DataSpec(sources=(str(tmp_path / "a.txt"),), heldout_fraction=0.0, cache_dir=str(tmp_path / "cache"))
  trained = [tokenizer_training.make_tokenizer(TokenizerSpec(vocab_size=340, extra_ids=n), data) for n in (0, 4)]
  assert [tokenizer.vocab_size for tokenizer in trained] == [340, 344]
  assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_tokenizer_is_trained_on_the_columns_that_an_objective_reads(tmp_path):
  rows = [{"source": "aaa bbb ccc", "target": ["ddd", {"x": "eee fff"}], "other": "zzz"}] * 40
  (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  columns = {"source": "source", "target": "target"}
  data = DataSpec(sources=(str(tmp_path / "a.jsonl"),), columns=columns, cache_dir=str(tmp_path), heldout_fraction=0)
  spec = TokenizerSpec(vocab_size=275, model_type="bpe")
  tokenizer = tokenizer_training.make_tokenizer(spec, data, RequiredColumns(("source", "target")))
  assert [len(tokenizer.encode(text)) <= 2 for text in ("aaa", "eee", "zzz")] == [True, True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_are_the_characters_that_each_id_stands_for(specimens, kind):
  check_offsets(specimens[kind])


def check_offsets(tokenizer: Tokenizer) -> None:
  for text in ("", "plain words here", "h\u00e9llo  \u2581 w\u00f6rld\n\u65e5\U0001f389x", "a\n\n<s> b", TEXT[0][:300]):
    ids, offsets = tokenizer.encode_with_offsets(text)
    np.testing.assert_array_equal(ids, tokenizer.encode(text))
    assert offsets.shape == (len(ids), 2)
    covered: set[int] = set()
    for token, (start, end) in zip(ids.tolist(), offsets.tolist(), strict=True):
      assert tokenizer.decode([token]).replace("\ufffd", "") in text[start:end]
      covered.update(range(start, end))
    assert {i for i, c in enumerate(text) if not c.isspace()} <= covered


def test_the_law_of_offsets_catches_offsets_in_bytes():
  class InBytes(ByteTokenizer):
    def encode_with_offsets(self, text):
      ids = self.encode(text)
      return ids, np.stack([np.arange(len(ids)), np.arange(len(ids)) + 1], axis=1)

  assert_law_catches(check_offsets, InBytes())


def word_borders(tokenizer: Tokenizer, text: str) -> list[str]:
  ids = tokenizer.encode(text)
  words: list[list[int]] = []
  for token in ids.tolist():
    if tokenizer.starts_word[token] or not words:
      words.append([])
    words[-1].append(token)
  return [tokenizer.decode(word).strip() for word in words]


@pytest.mark.parametrize("kind", KINDS)
def test_words_start_where_a_space_does(specimens, kind):
  text = " the quick brownish foxes jumped"
  assert word_borders(specimens[kind], text) == text.split()


PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "un", "##aff", "##able", ",", "[", "]", "mask")


def test_berts_vocabulary_is_read_lower_cased_unless_its_config_says_otherwise(tmp_path):
  (tmp_path / "vocab.txt").write_text("\n".join([*PIECES, "The"]) + "\n")
  tokenizer = open_tokenizer("huggingface", str(tmp_path))
  assert tokenizer.vocab_size == len(PIECES) + 1
  assert [tokenizer.piece(i) for i in tokenizer.encode("The unaffable, [MASK]").tolist()] == [
    *("the", "un", "##aff", "##able", ",", "[", "mask", "]"),
  ]
  assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id) == (0, 1, 2, 3, 4)
  assert (tokenizer.bos_id, tokenizer.eos_id) == (2, 3)
  assert word_borders(tokenizer, "the unaffable") == ["the", "unaffable"]
  ids, offsets = tokenizer.encode_with_offsets("The unaffable")
  assert ["The unaffable"[a:b] for a, b in offsets.tolist()] == ["The", "un", "aff", "able"]
  tokenizer.save(tmp_path / "saved")
  assert load_tokenizer(tmp_path / "saved").encode("the unaffable").tolist() == ids.tolist()
  (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
  assert open_tokenizer("huggingface", str(tmp_path / "vocab.txt")).encode("The").tolist() == [len(PIECES)]
  (tmp_path / "vocab.txt").write_text("the\n")
  with pytest.raises(LmxError, match=r"vocab.txt has no \[UNK\]"):
    open_tokenizer("huggingface", str(tmp_path))


@pytest.mark.parametrize("names", [("encoder.json", "vocab.bpe"), ("my_vocab.json", "my_merges.txt")])
def test_gpt2s_two_files_are_the_tokenizer_they_were_made_from(tmp_path, names):
  whole = tokenizers.ByteLevelBPETokenizer()
  whole.train_from_iterator(TEXT[:5], vocab_size=400, special_tokens=["<|endoftext|>"], show_progress=False)
  made = [Path(file) for file in whole.save_model(str(tmp_path))]
  for file, name in zip(made, names, strict=True):
    file.rename(tmp_path / name)
  path = tmp_path if names[0] == "encoder.json" else tmp_path / names[1]
  tokenizer = open_tokenizer("huggingface", str(path))
  assert tokenizer.lossless
  check_round_trip(tokenizer)
  assert tokenizer.encode(TEXT[1]).tolist() == whole.encode(TEXT[1]).ids
  assert tokenizer.piece(tokenizer.eos_id) == "<|endoftext|>"
  (tmp_path / names[1]).unlink()
  with pytest.raises(LmxError, match=rf"needs .*{names[0]} and .*{names[1]}"):
    open_tokenizer("huggingface", str(tmp_path / names[0]))


def test_a_tokenizers_own_mask_and_sentinels_are_used_and_never_come_from_text(tmp_path):
  tokenizer = train_huggingface()
  tokenizer.add_special_tokens(["<mask>", "<extra_id_0>", "<extra_id_1>", "[CLS]"])
  tokenizer.save(str(tmp_path / "tokenizer.json"))
  loaded = open_tokenizer("huggingface", str(tmp_path)).extended(2)
  assert [loaded.piece(i) for i in (loaded.mask_id, loaded.sentinel(1), loaded.cls_id)] == [
    "<mask>",
    "<extra_id_1>",
    "[CLS]",
  ]
  assert loaded.sentinels == 2
  assert loaded.sep_id == loaded.eos_id
  text = "<extra_id_0> and <mask>"
  assert not {loaded.sentinel(0), loaded.mask_id} & set(loaded.encode(text).tolist())
  assert loaded.decode(loaded.encode(text)) == text


def test_sentinels_of_a_sentencepiece_model_never_come_from_text():
  """T5's models list them as ordinary pieces, with a space mark before."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXT[:8]), model_writer=model, vocab_size=400, model_type="unigram", minloglevel=2,
    user_defined_symbols=["\u2581<extra_id_1>", "\u2581<extra_id_0>"],
  )  # fmt: skip
  tokenizer = SentencePieceTokenizer(model.getvalue())
  assert [tokenizer.piece(tokenizer.sentinel(i)) for i in range(2)] == [" <extra_id_0>", " <extra_id_1>"]
  assert tokenizer.sentinel(0) not in tokenizer.encode("a <extra_id_0> b")


@pytest.mark.parametrize("kind", ["bpe", "huggingface"])
def test_a_chat_template_next_to_a_tokenizer_is_saved_with_it(specimens, kind, tmp_path):
  specimens[kind].save(tmp_path)
  path = str(tmp_path)
  assert load_tokenizer(path).chat_template is None
  several = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "{{ a }}"}]
  for value, expected in (("{{ b }}", "{{ b }}"), (several, "{{ a }}")):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    assert open_tokenizer(specimens[kind].kind, path).chat_template == expected
  (tmp_path / "chat_template.jinja").write_text("{{ caf\u00e9 }}", encoding="utf-8")
  loaded = open_tokenizer(specimens[kind].kind, path)
  loaded.save(tmp_path / "saved")
  assert load_tokenizer(tmp_path / "saved").chat_template == loaded.chat_template == "{{ caf\u00e9 }}"
