# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 14 for texts: an export's tokenizer.json gives lmx's ids and lmx's special tokens around texts."""

import functools
import json

import pytest
import tokenizers
from exported_models import TEXTS, exported_run, tokenizer
from laws import assert_law_catches
from sentencepiece import sentencepiece_model_pb2 as model_format

import lmx
from lmx.api.tasks import text_prompts
from lmx.data.tokenizers.tokenizer import ByteTokenizer, SentencePieceTokenizer, train_sentencepiece
from lmx.errors import LmxError
from lmx.hf.tokenizer_files import TextInputs

KINDS = ("bytes", "sentencepiece", "sentencepiece+3", "char", "unigram", "t5", "byte pairs", "word pieces")


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


RUNS = [before + run * count + after for count in range(1, 90) for run in (" ", "-", "=", " a", "\n\t")
        for before, after in (("", ""), ("x", "y"), ("the ", " dog"))]  # fmt: skip


def check_runs(reader: SentencePieceTokenizer) -> None:
  """Runs of one character can be written in several ways that are equally likely."""
  other = tokenizers.Tokenizer.from_str(json.dumps(reader.own_json()))
  for text in [*RUNS, "".join(RUNS)]:
    assert other.encode(text, add_special_tokens=False).ids == reader.encode(text).tolist(), repr(text)


@functools.cache
def unigram() -> SentencePieceTokenizer:
  lines = [f"{' ' * n}the dog{'-' * n} a = {'=' * (n % 7)} is{' a' * (n % 5)} there" for n in range(40)] * 5
  return train_sentencepiece(lines, vocab_size=305, model_type="unigram")


def test_a_unigram_model_of_lmx_splits_equally_likely_runs_as_its_tokenizer_json_does():
  assert unigram().json_is_exact
  check_runs(unigram())


def test_the_check_of_runs_catches_scores_that_do_not_add_up_exactly():
  proto = model_format.ModelProto.FromString(unigram().model)
  for piece in proto.pieces:
    piece.score -= 0.0001 if piece.type == proto.SentencePiece.NORMAL else 0.0
  other = SentencePieceTokenizer(proto.SerializeToString())
  assert not other.json_is_exact
  assert_law_catches(check_runs, other)


def test_a_unigram_model_with_pieces_like_the_begin_of_a_special_name_has_a_tokenizer_json():
  lines = [f"<p>word {n}</p></div></b></li>" for n in range(60)] * 5
  reader = train_sentencepiece(lines, vocab_size=285, model_type="unigram")
  assert "</" in {piece[:2] for piece in map(reader.piece, range(reader.vocab_size)) if piece != "</s>"}
  other = tokenizers.Tokenizer.from_str(json.dumps(reader.as_json()))
  other.encode_special_tokens = True
  for text in ("<s>a</s></p><unk><0x0A></s", lines[0]):
    assert other.encode(text, add_special_tokens=False).ids == reader.encode(text).tolist()


# ---------------------------------------------------------------- complete exports


def export(name: str, kind: str, folder, **settings) -> lmx.api.loaded_run.LoadedRun:
  run = exported_run(name, tokenizer(kind), **settings)
  lmx.to_hf(run, folder, family=name.partition("-")[0])
  return run


@pytest.mark.parametrize(
  ("name", "kind"),
  [
    ("gpt2-language-6", "sentencepiece+3"),
    ("llama-classification-7", "bytes"),
    ("bert-classification-8", "sentencepiece"),
    ("bert-tagging-8", "word pieces"),
    ("t5-language-0", "byte pairs"),
    ("qwen2-language-4", "qwen"),
    ("roberta-masked-8", "roberta"),
    ("modernbert-masked-27", "modernbert"),
    ("modernbert-classification-26", "modernbert"),
  ],
)
def test_an_export_read_again_has_the_same_ids_and_the_same_tokens_around_texts(name, kind, tmp_path):
  run = export(name, kind, tmp_path / "out")
  again = lmx.from_hf(tmp_path / "out")
  assert again.tokenizer.vocab_size == run.tokenizer.vocab_size
  for text in TEXTS:
    assert again.tokenizer.encode(text).tolist() == run.tokenizer.encode(text).tolist()
  reading = TextInputs.of(run.tokenizer, run.model.spec, run.setting.architecture, run.setting.framing)
  assert again.tokenizer.own_framing == reading.framing
  prompts = [text_prompts(TEXTS, one.setting, one.config.objective.name).ids for one in (run, again)]
  if name.startswith(("gpt2", "qwen2", "t5")):
    assert [ids.tolist() for ids in prompts[0]] == [ids.tolist() for ids in prompts[1]]


@pytest.mark.parametrize(
  ("name", "kind", "pad"),
  [
    ("llama-classification-7", "sentencepiece", "<unk>"),  # Never made of a text.
    ("llama-classification-7", "bytes", "<s>"),  # </s> is the last token of a text, which is scored.
    ("llama-classification-7", "byte pairs", "<|endoftext|>"),  # Nothing is put around a text.
    ("llama-classification-7", "llama", "<|begin|>"),
    ("gpt2-language-6", "byte pairs", None),
    ("bert-classification-8", "word pieces", "[PAD]"),
  ],
)
def test_padding_is_a_token_that_no_text_ends_with(name, kind, pad, tmp_path):
  run = export(name, kind, tmp_path / "out")
  stated = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
  model = json.loads((tmp_path / "out" / "config.json").read_text())
  assert stated["pad_token"] == pad
  assert model.get("pad_token_id") == (
    None if pad is None else run.tokenizer.special_tokens[pad] if pad != "<unk>" else 0
  )
  assert stated["padding_side"] == ("left" if name.startswith("gpt2") else "right")


def test_a_family_that_would_change_the_tokenizer_is_refused(tmp_path):
  with pytest.raises(LmxError, match=r"every qwen2 model as Qwen2Tokenizer.*--family"):
    export("qwen2-language-4", "sentencepiece", tmp_path / "qwen")
  with pytest.raises(LmxError, match=r"id 1 for padding.*'<s>'.*--family=bert"):
    export("roberta-masked-8", "sentencepiece", tmp_path / "roberta")


def test_a_tokenizer_whose_ids_no_file_gives_is_refused_with_the_text():
  class Odd(ByteTokenizer):
    def encode_batch(self, texts):
      return super().encode_batch([text.lower() for text in texts])

  with pytest.raises(LmxError, match=r"no tokenizer.json gives the ids of this tokenizer; the text 'Plain words"):
    Odd().as_json()
