# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Special tokens around texts are those of the tokenizer's post-processor, and truncation is its library's."""

import json

import numpy as np
import pytest
import tokenizers
from laws import assert_law_catches
from objectives.making import make_objective
from tokenizers import processors

from lmx.api.tasks import framed
from lmx.data.cache.encoding import Encoded
from lmx.data.tokenizers.framing import FIRST, read_framing
from lmx.data.tokenizers.tokenizer import ByteTokenizer, HuggingFaceTokenizer
from lmx.errors import LmxError
from lmx.objectives.base import ObjectiveContext
from lmx.objectives.examples import Frame, find_framing

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "[SEP]", "a", "b", "c", "d", "e", "f", "g"]
S, END = 0, 2
PROCESSORS = {
  "none": None,
  "byte level": processors.ByteLevel(trim_offsets=True),
  "roberta": processors.RobertaProcessing(("</s>", END), ("<s>", S), add_prefix_space=False),
  "bert": processors.BertProcessing(("</s>", END), ("<s>", S)),
  "template": processors.TemplateProcessing(
    single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", S)]
  ),
  "sequence": processors.Sequence([
    processors.ByteLevel(trim_offsets=True),
    processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", END)]),
  ]),
}  # fmt: skip


def reader(processor) -> HuggingFaceTokenizer:
  model = tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>")
  made = tokenizers.Tokenizer(model)
  made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  made.add_special_tokens(WORDS[:4])
  if processor is not None:
    made.post_processor = processor
  return HuggingFaceTokenizer(made.to_str().encode())


def frame(tokenizer, length: int, architecture: str = "transformer", name: str = "own", token_types: int = 2) -> Frame:
  return Frame.of(ObjectiveContext(tokenizer, length, length, architecture, (), token_types, name))


def check_equals_the_library(cut, processor, texts: list[str], length: int) -> None:
  tokenizer = reader(processor)
  library = tokenizers.Tokenizer.from_str(tokenizer.own_json() and json.dumps(tokenizer.own_json()))
  library.enable_truncation(length)
  expected = library.encode(*texts)
  found = cut(frame(tokenizer, length))(*tokenizer.encode_batch(texts))
  assert found.fields["tokens"].tolist() == expected.ids
  assert found.fields["token_types"].tolist() == expected.type_ids
  for (begin, end), text in zip(found.places, texts, strict=True):
    assert found.fields["tokens"][begin:end].tolist() == tokenizer.encode(text).tolist()[: end - begin]


TEXTS = [["a"], ["a b c d e f g"], ["a b", "c d e"], ["a b c d e f g", "c d"], ["a", "a b c d e f g"],
         ["a b c d e f", "f e d c b a"], ["a b c d e f g", "f e d c b a"]]  # fmt: skip


@pytest.mark.parametrize("length", [7, 8, 9, 30])
@pytest.mark.parametrize("name", PROCESSORS)
def test_texts_are_framed_and_cut_as_the_library_does_it(name, length):
  for texts in TEXTS:
    check_equals_the_library(lambda made: made, PROCESSORS[name], texts, length)


def test_the_law_catches_a_pair_without_roberta_s_second_separator():
  def short(made: Frame) -> Frame:
    return frame(reader(PROCESSORS["bert"]), made.length)

  assert_law_catches(check_equals_the_library, short, PROCESSORS["roberta"], TEXTS[2], 30)


def test_a_post_processor_that_repeats_a_text_is_refused():
  twice = processors.TemplateProcessing(single="$A $A", pair="$B $A", special_tokens=[])
  with pytest.raises(LmxError, match="repeats the texts or changes their order"):
    reader(twice)


def test_a_tokenizer_that_adds_nothing_leaves_texts_of_a_decoder_alone_and_frames_those_of_an_encoder():
  tokenizer = reader(None)
  assert find_framing(tokenizer, "transformer", "own").pair.ids == (FIRST, FIRST - 1)
  assert find_framing(tokenizer, "encoder", "own").single.ids == (S, FIRST, 4)
  assert find_framing(tokenizer, "transformer", "document").single.ids == (S, FIRST, END)
  bytes_of = find_framing(ByteTokenizer(), "transformer", "own")
  assert bytes_of == find_framing(ByteTokenizer(), "transformer", "document")


# Tokenizer -> ids of the pair "a b", "c d", which token belongs to which text, and its token types.
PAIRS = {
  "bert": ([S, 5, 6, END, 7, 8, END], [4, 5], [0, 0, 0, 0, 1, 1, 1]),
  "roberta": ([S, 5, 6, END, END, 7, 8, END], [5, 6], [0] * 8),
  "xlm-r": ([S, 5, 6, END, END, 7, 8, END], [5, 6], [0] * 8),
}
PROCESSORS["xlm-r"] = processors.TemplateProcessing(
  single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", S), ("</s>", END)]
)


@pytest.mark.parametrize("name", PAIRS)
def test_every_head_reads_a_pair_as_its_tokenizer_frames_it(name):
  tokenizer, (pair, second, types) = reader(PROCESSORS[name]), PAIRS[name]
  setting = ObjectiveContext(tokenizer, 16, 16, "encoder", ("x", "y"), 2, "own")
  row = {"text": "a b", "text_b": "c d", "label": "x"}
  found = [
    make_objective("classification", setting, multi_label=False).encoder(row).fields,
    make_objective("classification", setting, multi_label=True).encoder(row).fields,
    make_objective("regression", setting).encoder({**row, "label": "1"}).fields,
    make_objective("span", setting).encoder({"question": "a b", "context": "c d", "answer": "d"}).fields,
  ]
  for fields in found:
    assert (fields["tokens"].tolist(), fields["token_types"].tolist()) == (pair, types)
  assert np.flatnonzero(found[-1]["context_mask"]).tolist() == second
  assert found[-1]["labels"].tolist() == [second[1], second[1]]
  ids, fields = framed([row], setting)  # What `classify` and `regress` read.
  assert (ids[0].tolist(), fields["token_types"][0].tolist()) == (pair, types)


def check_two_rows(encode, tokenizer) -> None:
  """The two texts of an embedding's example are two rows, each as a text alone: with nothing between them."""
  fields = encode({"text": "a b", "text_b": "c d e"}).fields
  assert fields["tokens"].tolist() == [S, *tokenizer.encode("a b"), END]
  assert fields["pair_tokens"].tolist() == [S, *tokenizer.encode("c d e"), END]
  assert fields["token_types"].tolist() == [0] * 4
  assert fields["pair_token_types"].tolist() == [0] * 5


@pytest.mark.parametrize("name", PAIRS)
def test_an_embedding_head_frames_each_text_of_a_pair_by_itself(name):
  tokenizer = reader(PROCESSORS[name])
  setting = ObjectiveContext(tokenizer, 16, 16, "encoder", (), 2, "own")
  encoder = make_objective("contrastive", setting, temperature=0.05).encoder
  check_two_rows(encoder, tokenizer)
  ids, _ = framed([{"text": "a b"}, {"text": "c d e"}], setting)  # What `embed` reads: the rows that were trained on.
  fields = encoder({"text": "a b", "text_b": "c d e"}).fields
  assert [one.tolist() for one in ids] == [fields["tokens"].tolist(), fields["pair_tokens"].tolist()]


def test_the_law_catches_an_embedding_that_reads_its_pair_as_one_row():
  tokenizer = reader(PROCESSORS["roberta"])

  def joined(row):
    made = frame(tokenizer, 16, "encoder")
    one = made(*tokenizer.encode_batch([row["text"], row["text_b"]])).fields
    return Encoded({**one, **{f"pair_{name}": values for name, values in one.items()}}, 0)

  assert_law_catches(check_two_rows, joined, tokenizer)


def test_tags_are_on_their_words_whatever_is_around_them():
  for name, before in (("none", 0), ("template", 1), ("roberta", 1), ("sequence", 0)):
    setting = ObjectiveContext(reader(PROCESSORS[name]), 16, 16, "transformer", ("x", "y"), 0, "own")
    fields = make_objective("tagging", setting).encoder({"tokens": "a b", "tags": "y x"}).fields
    assert np.flatnonzero(fields["loss_weights"]).tolist() == [before, before + 1]
    assert fields["targets"][before : before + 2].tolist() == [1, 0]
    assert len(fields["targets"]) == len(fields["tokens"])


def test_a_framing_written_as_a_post_processor_is_read_back():
  tokenizer = reader(PROCESSORS["roberta"])
  made = tokenizers.Tokenizer.from_str(json.dumps(
    tokenizer.own_json() | {"post_processor": tokenizer.own_framing.template_processing(tokenizer.piece)}
  ))  # fmt: skip
  assert read_framing(made, "here") == tokenizer.own_framing
