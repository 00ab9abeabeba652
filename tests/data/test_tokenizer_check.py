# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A tokenizer.json whose ids or fields can't be right is refused by name, before the library reads it."""

import json

import pytest

from lmx.data.tokenizers import huggingface_tokenizer
from lmx.data.tokenizers.tokenizer import ByteTokenizer, load_tokenizer, open_tokenizer
from lmx.data.tokenizers.tokenizer_check import MAX_IDS, check_tokenizer_json
from lmx.errors import LmxError

WORDS = {"<unk>": 0, "</s>": 1, "a": 2, "b": 3}
MODEL = {"type": "WordLevel", "vocab": WORDS, "unk_token": "<unk>"}
ADDED = {"id": 1, "content": "</s>", "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}  # fmt: skip
WHOLE = {"version": "1.0", "added_tokens": [ADDED], "normalizer": None, "pre_tokenizer": {"type": "Whitespace"},
         "post_processor": None, "decoder": None, "model": MODEL}  # fmt: skip
_TEXT = {"Sequence": {"id": "A", "type_id": 0}}
FRAME = {"type": "TemplateProcessing", "single": [_TEXT, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
         "pair": [_TEXT, {"Sequence": {"id": "B", "type_id": 1}}],
         "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}}  # fmt: skip
WRONG = {
  "an id beyond all vocabularies": ({"model": MODEL | {"vocab": WORDS | {"b": MAX_IDS}}}, r"model\.vocab\['b'\]"),
  "a negative id": ({"model": MODEL | {"vocab": WORDS | {"b": -1}}}, r"model\.vocab\['b'\]"),
  "an id that is a text": ({"model": MODEL | {"vocab": WORDS | {"b": "3"}}}, r"model\.vocab\['b'\]"),
  "an id that is true": ({"model": MODEL | {"vocab": WORDS | {"b": True}}}, r"model\.vocab\['b'\]"),
  "two pieces of one id": ({"model": MODEL | {"vocab": WORDS | {"b": 2}}}, r"model\.vocab\['b'\]"),
  "a template's token without an id": ({"post_processor": FRAME | {"special_tokens": {}}}, r"post_processor\.single"),
  "the same within a sequence": (
    {"post_processor": {"type": "Sequence", "processors": [FRAME | {"special_tokens": {}}]}},
    r"post_processor\.single",
  ),
  "a template's id that is negative": (
    {"post_processor": FRAME | {"special_tokens": {"</s>": {"id": "</s>", "ids": [-1], "tokens": ["</s>"]}}}},
    r"post_processor\.special_tokens\['</s>'\]\.ids",
  ),
  "a template's ids that are a number": (
    {"post_processor": FRAME | {"special_tokens": {"</s>": {"id": "</s>", "ids": 1.5, "tokens": ["</s>"]}}}},
    r"post_processor\.special_tokens\['</s>'\]\.ids",
  ),
  "an added id beyond them": ({"added_tokens": [ADDED | {"id": MAX_IDS}]}, r"added_tokens\[0\]\.id"),
  "added tokens that are texts": ({"added_tokens": ["</s>"]}, r"added_tokens"),
  "no model": ({"model": None}, r": model"),
  "no vocabulary": ({"model": {"type": "WordLevel"}}, r"model\.vocab"),
  "a normalizer by name": ({"normalizer": "NFC"}, r"normalizer"),
  "padding by name": ({"padding": [8]}, r"padding"),
}


def write(folder, values):
  (folder / "tokenizer.json").write_text(json.dumps(values))
  (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
  return folder


@pytest.mark.parametrize("what", WRONG)
def test_what_can_not_be_right_is_refused_by_name_and_never_handed_over(tmp_path, monkeypatch, what):
  class Library:
    """Stands for the library, which must not see the file."""

    class Tokenizer:
      @staticmethod
      def from_str(text):
        raise AssertionError("handed over")

  monkeypatch.setattr(huggingface_tokenizer, "tokenizers", Library)
  changes, named = WRONG[what]
  with pytest.raises(LmxError, match=rf"tokenizer\.json.*{named}"):
    open_tokenizer("huggingface", str(write(tmp_path, WHOLE | changes)))


def test_a_template_with_an_id_that_the_vocabulary_lacks_is_refused(tmp_path):
  special = {"</s>": {"id": "</s>", "ids": [len(WORDS)], "tokens": ["</s>"]}}
  with pytest.raises(LmxError, match=r"post_processor: got 4.*below 4"):
    open_tokenizer("huggingface", str(write(tmp_path, WHOLE | {"post_processor": FRAME | {"special_tokens": special}})))


def test_a_usual_tokenizer_and_one_with_gaps_pass(tmp_path):
  tokenizer = open_tokenizer("huggingface", str(write(tmp_path, WHOLE)))
  assert tokenizer.encode("a b").tolist() == [2, 3]
  framed = open_tokenizer("huggingface", str(write(tmp_path, WHOLE | {"post_processor": FRAME})))
  assert framed.own_framing.single.fill(framed.encode("a"))[0].tolist() == [2, 1]
  check_tokenizer_json(WHOLE | {"model": MODEL | {"vocab": WORDS | {"b": 100_000}}}, "tokenizer.json")
  check_tokenizer_json(WHOLE | {"model": {"type": "Unigram", "vocab": [["a", -1.0]]}}, "tokenizer.json")


@pytest.mark.parametrize(
  ("change", "expected"),
  [
    ({"vocab_size": 259}, r"lmx_tokenizer.json is damaged: vocab_size is 259, and of the tokenizer 258"),
    ({"bos_id": 0}, r"bos_id is 0"),
    ({"eos_id": "257"}, r"eos_id is '257'"),
    ({"name": None}, r"it has no name"),
    ({"fingerprint": "0"}, r"is not the one that was saved there"),
  ],
)
def test_a_description_that_is_not_the_tokenizers_is_refused(tmp_path, change, expected):
  load_tokenizer_of(tmp_path)
  file = tmp_path / "lmx_tokenizer.json"
  values = {**json.loads(file.read_text()), **change}
  file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
  with pytest.raises(LmxError, match=expected):
    load_tokenizer(tmp_path)


def load_tokenizer_of(folder):
  """Saves the tokenizer of bytes, and sees that it can be read."""
  ByteTokenizer().save(folder)
  assert load_tokenizer(folder).vocab_size == 258
