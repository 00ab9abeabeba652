# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Rows of columns to examples: the model's inputs, truncation, and the errors for rows that cannot be used."""

import json

import numpy as np
import pytest
import tokenizers
from laws import assert_law_catches
from objectives.making import make_objective

from lmx.data.cache.encoding import BadExampleError
from lmx.data.tokenizers.tokenizer import ByteTokenizer, HuggingFaceTokenizer
from lmx.errors import LmxError
from lmx.objectives import OBJECTIVES, span, tagging
from lmx.objectives.base import ObjectiveContext
from lmx.objectives.chat_rows import as_messages
from lmx.objectives.examples import longest_first

INF = float("inf")
ASKED = {"question": "who was born", "context": "albert was born in ulm", "answer": "ulm"}
BYTES = ByteTokenizer()
VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] who was born in ulm ? albert ein ##stein , the man a b c d e"


def _word_pieces() -> HuggingFaceTokenizer:
  """A small WordPiece tokenizer, as BERT's: lower case, ## continues a word."""
  words = VOCABULARY.split()
  tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
  tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
  tokenizer.add_special_tokens(words[:5])
  return HuggingFaceTokenizer(tokenizer.to_str().encode())


WORDS = _word_pieces()


def make(name, family="encoder", length=32, tokenizer=WORDS, labels=(), token_types=2, encoder_length=16, **options):
  setting = ObjectiveContext(tokenizer, length, encoder_length, family, labels, token_types)
  return make_objective(name, setting, **options)


def read(ids, tokenizer=WORDS) -> str:
  return " ".join(tokenizer.piece(int(token)) for token in ids)


# ---------------------------------------------------------------- framing


@pytest.mark.parametrize(
  ("sizes", "room", "kept"),
  [
    ((3, 4), 10, (3, 4)),
    ((9, 4), 10, (6, 4)),
    ((4, 9), 10, (4, 6)),
    ((9, 9), 10, (5, 5)),
    ((9, 9), 11, (5, 6)),
    ((10, 9), 11, (6, 5)),
    ((9,), 4, (4,)),
    ((2,), 4, (2,)),
  ],
)
def test_the_longer_text_gives_way_first(sizes, room, kept):
  assert longest_first(sizes, room) == kept
  assert sum(kept) <= room


def test_a_pair_of_texts_is_framed_as_bert_does():
  encoder = make("classification", labels=("x", "y"), multi_label=False).encoder
  encoded = encoder({"text": "Albert Einstein", "text_b": "Ulm?", "label": "y"})
  assert read(encoded.fields["tokens"]) == "[CLS] albert ein ##stein [SEP] ulm ? [SEP]"
  np.testing.assert_array_equal(encoded.fields["token_types"], [0, 0, 0, 0, 0, 1, 1, 1])
  assert encoded.fields["labels"] == 1
  assert encoded.fields["labels"].shape == ()
  single = encoder({"text": "Ulm", "text_b": "", "label": "x"})
  assert read(single.fields["tokens"]) == "[CLS] ulm [SEP]"


def test_a_model_with_one_kind_of_token_gets_no_token_types():
  encoder = make("classification", labels=("x", "y"), token_types=1, multi_label=False).encoder
  assert "token_types" not in encoder({"text": "a", "text_b": "b", "label": "y"}).fields


def test_a_decoder_reads_from_the_start_to_the_end_of_a_document():
  encoder = make("regression", "transformer", tokenizer=BYTES, token_types=0).encoder
  encoded = encoder({"text": "ab", "text_b": "c", "label": "2.5"})
  np.testing.assert_array_equal(encoded.fields["tokens"], [256, 97, 98, 257, 99, 257])
  assert encoded.fields["labels"] == np.float32(2.5)


def test_what_does_not_fit_is_cut_from_the_longer_text_and_counted():
  encoder = make("classification", labels=("x", "y"), length=8, multi_label=False).encoder
  encoded = encoder({"text": "a b c d e", "text_b": "e d", "label": "x"})
  assert read(encoded.fields["tokens"]) == "[CLS] a b c [SEP] e d [SEP]"
  assert encoded.truncated == 2


@pytest.mark.parametrize(
  ("value", "expected"),
  [
    ("x,z", [1, 0, 1]),
    ("", [0, 0, 0]),
    (" y , x ", [1, 1, 0]),
    (["z"], [0, 0, 1]),
    (None, [0, 0, 0]),
    (float("nan"), [0, 0, 0]),
    (["x", None, float("nan")], [1, 0, 0]),
  ],
)
def test_several_labels_are_a_list_or_have_commas_between(value, expected):
  encoder = make("classification", labels=("x", "y", "z"), multi_label=True).encoder
  np.testing.assert_array_equal(encoder({"text": "a", "label": value}).fields["labels"], expected)


@pytest.mark.parametrize(
  ("name", "row", "reason"),
  [
    ("classification", {"text": "a", "label": "positve"}, r"label not in the label set .*did you mean 'positive'"),
    ("classification", {"text": " ", "label": "positive"}, "empty column 'text'"),
    ("classification", {"text": "a", "label": ""}, "empty column 'label'"),
    ("classification", {"text": ["a"], "label": "positive"}, "column 'text' is not text"),
    ("classification", {"text": float("nan"), "label": "positive"}, "empty column 'text'"),
    ("classification", {"text": "a", "label": float("nan")}, "empty column 'label'"),
    ("classification", {"text": "a", "label": 1.5}, r"label not in the label set .*'1.5'"),
    ("classification", {"text": "\ud800", "label": "positive"}, "column 'text' is not valid Unicode"),
    ("regression", {"text": "a", "label": float("nan")}, "empty column 'label'"),
    ("tagging", {"tokens": ["a", None], "tags": ["positive", "positive"]}, "empty column 'tokens'"),
    ("tagging", {"tokens": ["a"], "tags": [float("nan")]}, "empty column 'tags'"),
    ("regression", {"text": "a", "label": "nan"}, r"column 'label' is not a number .*'nan'"),
    ("regression", {"text": "a", "label": "four"}, r"column 'label' is not a number .*'four'"),
    ("tagging", {"tokens": "a b", "tags": "positive"}, r"words and tags differ in number .*2 words, 1 tags"),
    ("tagging", {"tokens": "a", "tags": "other"}, "label not in the label set"),
    ("tagging", {"tokens": [], "tags": []}, "empty column 'tokens'"),
    *(("regression", {"text": "a", "label": one}, "'label' is not a number") for one in (INF, "-inf", "1e400", True)),
    *(("regression", {"text": "a", "label": one}, r"'label' is too large .*3.4e\+38") for one in (1e300, "-3.5e38")),
    *(("classification", {"text": "a", "label": one}, "not in the label set") for one in (INF, 1e300, True, -1)),
    *(("tagging", {"tokens": ["a"], "tags": [one]}, "not in the label set") for one in (INF, 1e300, 1.5)),
    *(("span", {**ASKED, "answer_start": one}, "'answer_start' is not a whole number") for one in (1.5, "4.25")),
    *(("span", {**ASKED, "answer_start": one}, "'answer_start' is not a number") for one in (INF, "nan")),
    ("span", {**ASKED, "answer_start": 1e300}, "'answer_start' is too large"),
    ("span", {**ASKED, "answer_start": 3e38}, "answer not in the context"),
    ("span", {**ASKED, "answers": {"text": ["Ulm"], "answer_start": [0.5]}}, "not a whole number"),
  ],
)
def test_a_row_that_cannot_be_used_reports_why(name, row, reason):
  options = {"multi_label": False} if name == "classification" else {}
  labels = ("negative", "positive") if OBJECTIVES[name].labelled else ()
  with pytest.raises(BadExampleError, match=reason):
    make(name, labels=labels, **options).encoder(row)


@pytest.mark.parametrize("weight", [0.5, -1, 2, INF, 1e300, "1"])
def test_a_weight_of_a_message_other_than_0_and_1_is_refused(weight):
  with pytest.raises(BadExampleError, match="weight of a message"):
    as_messages([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": weight}], "messages")


def test_a_label_is_what_float32_makes_of_it():
  encoder = make("regression").encoder
  for given in (0, -1.5, "2.5", 3.4e38, 1e-300):
    assert encoder({"text": "a", "label": given}).fields["labels"] == np.float32(float(given))


@pytest.mark.parametrize("labels", [(), ("x",), ("x", "x")])
def test_too_few_labels_are_refused(labels):
  with pytest.raises(LmxError, match=r"config.objective.labels: got .*at least 2 different"):
    make("classification", labels=labels, multi_label=False)


def test_caches_of_other_labels_and_lengths_are_others():
  prints = [
    make("classification", labels=labels, length=length, multi_label=multi_label).encoder.fingerprint
    for labels, length, multi_label in ((("x", "y"), 8, False), (("y", "x"), 8, False), (("x", "y"), 9, False),
                                        (("x", "y"), 8, True))
  ]  # fmt: skip
  assert len({json.dumps(one) for one in prints}) == 4


# ---------------------------------------------------------------- sequence to sequence


def seq2seq(family, **options):
  return make("seq2seq", family, tokenizer=BYTES, z_loss=0.0, label_smoothing=0.1, **options).encoder


def test_an_encoder_decoder_reads_the_source_and_writes_the_target():
  fields = seq2seq("encoder_decoder")({"source": "ab", "target": "xyz"}).fields
  np.testing.assert_array_equal(fields["encoder_tokens"], [*b"ab", BYTES.eos_id])
  np.testing.assert_array_equal(fields["tokens"], [BYTES.pad_id, *b"xyz"])
  np.testing.assert_array_equal(fields["targets"], [*b"xyz", BYTES.eos_id])
  assert fields["loss_weights"].all()


def test_a_decoder_alone_is_scored_on_the_target_only():
  fields = seq2seq("transformer")({"source": "ab", "target": "xyz"}).fields
  np.testing.assert_array_equal(fields["tokens"], [BYTES.bos_id, *b"ab", BYTES.sep_id, *b"xyz"])
  np.testing.assert_array_equal(fields["targets"][fields["loss_weights"] > 0], [*b"xyz", BYTES.eos_id])


@pytest.mark.parametrize(("family", "cut"), [("encoder_decoder", 85), ("transformer", 80)])
def test_a_long_source_loses_its_end_and_a_long_target_is_an_error(family, cut):
  encoded = seq2seq(family)({"source": "s" * 100, "target": "t" * 10})
  assert encoded.truncated == cut
  assert len(encoded.fields["tokens"]) <= 32
  assert (encoded.fields["targets"][encoded.fields["loss_weights"] > 0] == ord("t")).sum() == 10
  with pytest.raises(BadExampleError, match=r"target too long \(40 tokens, there is room for .*config.data.length"):
    seq2seq(family)({"source": "s", "target": "t" * 40})


def test_the_longest_target_fills_the_row():
  assert len(seq2seq("encoder_decoder")({"source": "s", "target": "t" * 31}).fields["tokens"]) == 32
  assert len(seq2seq("transformer")({"source": "s", "target": "t" * 29}).fields["tokens"]) == 32


# ---------------------------------------------------------------- spans

CONTEXT = "The man, Albert Einstein, was born in Ulm"


def test_an_answer_is_the_tokens_it_touches():
  encoded = make("span").encoder({"question": "Who?", "context": CONTEXT, "answer": "Albert Einstein"})
  fields = encoded.fields
  first, last = fields["labels"]
  assert read(fields["tokens"][first : last + 1]) == "albert ein ##stein"
  assert read(fields["tokens"][fields["context_mask"] > 0]) == "the man , albert ein ##stein , was born in ulm"
  assert read(fields["tokens"][:5]) == "[CLS] who ? [SEP] the"
  np.testing.assert_array_equal(fields["token_types"], np.arange(len(fields["tokens"])) >= 4)
  assert encoded.truncated == 0


@pytest.mark.parametrize("answer", ["", None, "  "])
def test_no_answer_is_the_first_token(answer):
  fields = make("span").encoder({"question": "Who?", "context": CONTEXT, "answer": answer}).fields
  np.testing.assert_array_equal(fields["labels"], [0, 0])


def test_the_position_of_an_answer_that_occurs_twice_is_kept():
  row = {"question": "Who?", "context": "a b a", "answer": "a"}
  first, second = (make("span").encoder({**row, "answer_start": start}).fields["labels"] for start in (None, "4"))
  np.testing.assert_array_equal(second - first, [2, 2])


def test_a_whole_number_is_the_same_class_however_a_table_writes_it():
  encoder = make("classification", labels=("0", "1"), multi_label=False).encoder
  assert [int(encoder({"text": "a", "label": value}).fields["labels"]) for value in (1, 1.0, "1", 0.0)] == [1, 1, 1, 0]
  stars = make("classification", labels=("1.0", "1.5"), multi_label=False).encoder  # The config may force it.
  assert [int(stars({"text": "a", "label": value}).fields["labels"]) for value in (1.0, "1.5")] == [0, 1]


SQUAD = {"text": ["Albert Einstein", "The man, Albert Einstein", "Ulm"], "answer_start": [9, 0, 38]}


@pytest.mark.parametrize(
  ("columns", "golds"),
  [
    ({"answers": SQUAD}, ["albert ein ##stein", "the man , albert ein ##stein", "ulm"]),
    ({"answers": json.dumps(SQUAD)}, ["albert ein ##stein", "the man , albert ein ##stein", "ulm"]),
    ({"answers": [{"text": "Ulm", "answer_start": 38}, {"text": "born", "answer_start": 30}]}, ["ulm", "born"]),
    ({"answer": SQUAD["text"][:2], "answer_start": SQUAD["answer_start"][:2]},
     ["albert ein ##stein", "the man , albert ein ##stein"]),
    ({"answer": "Ulm", "answer_start": 38, "answers": ["Ulm", "born"]}, ["ulm", "born"]),
    ({"answers": {"text": [], "answer_start": []}}, ["[CLS]"]),
    ({"answers": None, "answer": ""}, ["[CLS]"]),
    ({"answer": "Ulm", "answers": float("nan")}, ["ulm"]),
  ],
)  # fmt: skip
def test_the_answers_of_squad_are_read_and_the_first_is_learned(columns, golds):
  encoded = make("span").encoder({"question": "Who?", "context": CONTEXT, **columns})
  fields = encoded.fields
  spans = dict.fromkeys(tuple(one) for one in fields["golds"].tolist())
  assert [read(fields["tokens"][first : last + 1]) for first, last in spans] == golds
  assert fields["golds"].shape == (span.MOST_ANSWERS, 2)
  assert tuple(fields["labels"]) == next(iter(spans))
  assert not encoded.doubts


def test_answers_that_occur_nowhere_are_counted_or_refused_and_a_row_without_a_column_is_doubted():
  encoder, row = make("span").encoder, {"question": "Who?", "context": CONTEXT}
  assert encoder({**row, "answer": "Ulm", "answers": ["Ulm", "Munich"]}).notes == (span._NOT_THERE,)
  assert encoder(row).doubts
  many = encoder({**row, "answers": {"text": list(CONTEXT[:20]), "answer_start": [*range(20)]}})
  assert many.notes == ()  # Letters of a word are one token.
  for columns, reason in (
    ({"answers": {"text": ["Ulm"], "answer_start": [3]}}, "answer not in the context"),
    ({"answers": {"text": ["Ulm"], "answer_start": [3, 4]}}, "differ in number .*1 answers, 2 places"),
    ({"answers": 5}, "column 'answers' has no answers"),
    ({"answers": "Ulm"}, "column 'answers' is not JSON"),
    ({"answers": ["Munich"]}, "answer not in the context"),
  ):
    with pytest.raises(BadExampleError, match=reason):
      encoder({**row, **columns})


def check_window_has_the_answer(encoder) -> None:
  context = "a b c d e " * 6 + "Ulm" + " a b c d e" * 6
  encoded = encoder({"question": "who", "context": context, "answer": "Ulm", "answer_start": context.index("Ulm")})
  fields = encoded.fields
  assert len(fields["tokens"]) == 20
  assert encoded.truncated == 61 - 16
  first, last = fields["labels"]
  assert read(fields["tokens"][first : last + 1]) == "ulm"
  assert 4 <= first - 3 < 12  # Not at a border of the 16 tokens.


def test_of_a_long_context_the_window_around_the_answer_is_kept(monkeypatch):
  check_window_has_the_answer(make("span", length=20).encoder)
  monkeypatch.setattr(span.Questions, "_with_answer", lambda self, windows, characters: (windows[0], (3, 3)))
  assert_law_catches(check_window_has_the_answer, make("span", length=20).encoder)


def test_the_windows_of_a_context_cover_it_and_give_back_its_text():
  questions = make("span", length=12).encoder
  context = "Albert Einstein, the man, was born in Ulm, a b c d e"
  windows = questions.windows("who", context)
  seen = set()
  for window in windows:
    assert len(window.fields["tokens"]) <= 12
    seen |= {window.start + place for place in range(len(window.offsets))}
    whole = (window.first, window.first + len(window.offsets) - 1)
    assert window.text(context, whole) in context
    assert window.text(context, (0, 0)) == ""
  assert seen == set(range(17))
  assert windows[0].text(context, (3, 5)) == "Albert Einstein"


@pytest.mark.parametrize(
  ("row", "reason"),
  [
    ({"answer": "Newton"}, "answer not in the context"),
    ({"answer": "Albert", "answer_start": "3"}, r"answer not in the context .*there stands"),
    ({"answer": "Albert", "answer_start": "x"}, "column 'answer_start' is not a number"),
    ({"question": "a " * 40}, "question too long"),
    ({"answer": CONTEXT}, "answer fits no window"),
  ],
)
def test_a_question_that_cannot_be_used_reports_why(row, reason):
  with pytest.raises(BadExampleError, match=reason):
    make("span", length=12).encoder({"question": "who", "context": CONTEXT, **row})


def test_the_best_span_is_the_best_pair_in_order():
  rng = np.random.default_rng(0)
  scores = rng.normal(size=(40, 9, 2)).astype(np.float32)
  context = np.zeros((40, 9), np.int32)
  context[:, 3:8] = 1
  spans, margins = span.best_spans(scores, context)
  for row in range(40):
    pairs = {(a, b): scores[row, a, 0] + scores[row, b, 1] for a in range(3, 8) for b in range(a, 8)}
    best = max(pairs, key=pairs.get)
    none = scores[row, 0].sum()
    np.testing.assert_allclose(margins[row], pairs[best] - none, rtol=1e-4, atol=1e-5)
    assert tuple(spans[row].tolist()) == (best if pairs[best] > none else (0, 0))


# ---------------------------------------------------------------- tagging


def test_a_tag_is_on_the_first_token_of_its_word():
  encoder = make("tagging", labels=("O", "B-per", "I-per")).encoder
  row = {"tokens": ["Albert", "Einstein", "was", "born", ","], "tags": ["B-per", "I-per", "O", "O", "O"]}
  fields = encoder(row).fields
  assert read(fields["tokens"]) == "[CLS] albert ein ##stein was born , [SEP]"
  np.testing.assert_array_equal(fields["loss_weights"], [0, 1, 1, 0, 1, 1, 1, 0])
  np.testing.assert_array_equal(fields["targets"], [0, 1, 2, 0, 0, 0, 0, 0])
  text = encoder({"tokens": " ".join(row["tokens"]), "tags": " ".join(row["tags"])}).fields
  for name in fields:
    np.testing.assert_array_equal(fields[name], text[name])


def test_a_word_without_a_token_has_no_tag_to_predict():
  fields = make("tagging", labels=("O", "X")).encoder({"tokens": ["a", "\u200b", "b"], "tags": ["O", "X", "O"]}).fields
  assert fields["loss_weights"].sum() == 2
  assert not (fields["targets"] == 1).any()


def test_words_that_do_not_fit_are_counted():
  encoded = make("tagging", labels=("O", "X"), length=5).encoder({"tokens": "a b c d e", "tags": "O O X O O"})
  assert encoded.truncated == 2
  np.testing.assert_array_equal(encoded.fields["loss_weights"], [0, 1, 1, 1, 0])


def test_spaces_before_a_word_may_belong_to_its_token():
  offsets = np.array([[0, 1], [1, 3], [3, 4], [4, 6]])  # "a", " b", "c", " d" of "a bc d"
  first, words = tagging.first_tokens(offsets, np.array([1, 2, 1]))
  np.testing.assert_array_equal(first, [0, 1, 3])
  np.testing.assert_array_equal(words, [0, 1, 2])
