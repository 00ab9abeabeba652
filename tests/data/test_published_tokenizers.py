# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A published folder's tokenizer follows all of its files, also saved in a run (test_live_texts.py compares it)."""

import json

import pytest
from exported_models import TEXTS
from tokenizer_folders import FOLDERS, SIZE

from lmx.data.tokenizers.tokenizer import Tokenizer, load_tokenizer
from lmx.errors import LmxError
from lmx.hf.importing import read_tokenizer


def read(name: str, tmp_path) -> Tokenizer:
  found = read_tokenizer(FOLDERS[name](tmp_path / "model"), 1000)
  assert found is not None
  return found


@pytest.mark.parametrize("name", FOLDERS)
def test_what_was_read_from_a_folder_is_the_same_in_a_run(name, tmp_path):
  first = read(name, tmp_path)
  first.save(tmp_path / "run")
  again = load_tokenizer(tmp_path / "run")
  assert (again.fingerprint, again.vocab_size, again.own_framing) == (
    first.fingerprint, first.vocab_size, first.own_framing,
  )  # fmt: skip
  assert [one.tolist() for one in again.encode_batch(TEXTS)] == [one.tolist() for one in first.encode_batch(TEXTS)]
  ids = ("bos_id", "eos_id", "pad_id", "cls_id", "sep_id", "mask_id")
  assert [getattr(again, name) for name in ids] == [getattr(first, name) for name in ids]


def test_added_tokens_have_their_ids_and_are_found_in_texts_unless_special(tmp_path):
  reader = read("gpt2 with added_tokens.json and special_tokens_map.json", tmp_path)
  assert (reader.vocab_size, reader.pad_id, reader.eos_id) == (SIZE + 2, SIZE + 1, 0)
  assert SIZE in reader.encode("a<new>b")
  assert SIZE + 1 not in reader.encode("a<pad>b")


def test_a_prefix_space_and_a_tokens_lstrip_are_read(tmp_path):
  reader = read("gpt2 with added_tokens_decoder and add_prefix_space", tmp_path)
  assert reader.encode("The dog").tolist() == reader.encode(" The dog").tolist()
  assert reader.encode("The <tool>").tolist() == [*reader.encode("The").tolist(), SIZE]
  assert reader.piece(reader.eos_id) == "<eos>"


def test_a_vocabulary_of_bert_is_lower_cased_and_framed_as_its_class_does(tmp_path):
  cased = read("bert, cased", tmp_path)
  assert cased.unknown_id in cased.encode("THE")
  assert cased.vocab_size == max(cased.special_tokens.values()) + 1
  lower = read("tokenizer.json of a cased bert that says it nowhere else", tmp_path / "other")
  assert lower.encode("THE").tolist() == lower.encode("the").tolist()
  assert lower.own_framing.pair.ids == (lower.cls_id, -1, lower.sep_id, -2, lower.sep_id)
  assert lower.own_framing.pair.types == (0, 0, 0, 1, 1)


def test_the_start_and_end_that_a_llama_asks_for_are_its_framing(tmp_path):
  reader = read("llama with added_tokens.json", tmp_path)
  assert (reader.vocab_size, reader.bos_id, reader.eos_id, reader.pad_id) == (402, 1, 400, 2)
  assert reader.own_framing.single.ids == (1, -1, 400)
  assert 401 in reader.encode("a <x y> b")


def test_t5s_sentinels_count_down_from_the_last_id(tmp_path):
  reader = read("t5", tmp_path)
  assert reader.vocab_size == 185
  assert [reader.sentinel(number) for number in (0, 99)] == [184, 85]
  assert reader.own_framing.single.ids == (-1, 1)


@pytest.mark.parametrize(
  ("name", "content", "expected"),
  [
    ("added_tokens.json", "[1]", "added_tokens.json is not an object"),
    ("added_tokens.json", "{", "added_tokens.json is not JSON"),
    ("special_tokens_map.json", json.dumps({"eos_token": {"lstrip": True}}), "eos_token"),
    ("tokenizer_config.json", json.dumps({"added_tokens_decoder": [1]}), "added_tokens_decoder is not an object"),
    ("tokenizer_config.json", json.dumps({"added_tokens_decoder": {"x": "<a>"}}), "id of an added token is 'x'"),
    ("added_tokens.json", json.dumps({"<a>": "x"}), "added_tokens.json"),
  ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(name, content, expected, tmp_path):
  folder = FOLDERS["gpt2 with added_tokens.json and special_tokens_map.json"](tmp_path / "model")
  (folder / name).write_text(content)
  with pytest.raises(LmxError, match=expected):
    read_tokenizer(folder, 1000)
