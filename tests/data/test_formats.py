# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Every format has the same rows, and errors name the file and the line."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from laws import assert_law_catches

from lmx.data.corpus import DataSpec, prepare_corpus
from lmx.data.document import BadDocuments, ReadOptions, RequiredColumns
from lmx.data.sources.sources import open_source
from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.errors import LmxError

ROWS = [
  {"text": f"caf\u00e9 {i}", "label": i % 2, "answers": {"text": ["x", "y"][: i % 3], "start": [1, 2][: i % 3]}}
  for i in range(2500)
]
ZSTD = pa.Codec("zstd")


def zstd(data: bytes) -> bytes:
  return ZSTD.compress(data, asbytes=True)


COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


def records(spec: object, *columns: str, policy: str = "error", **options) -> list:
  options.setdefault("columns", {name: name for name in columns})
  source = open_source(str(spec), ReadOptions(**options))
  return [record.values for record in source.records(RequiredColumns(columns), BadDocuments(policy))]


def texts(spec: object, policy: str = "error", **options) -> list[str]:
  return [d.text for d in open_source(str(spec), ReadOptions(**options)).documents(BadDocuments(policy))]


def write_parquet(path: Path) -> None:
  pa.parquet.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=700)


def write_stream(path: Path) -> None:
  table = pa.Table.from_pylist(ROWS)
  with pa.ipc.new_stream(str(path), table.schema) as writer:
    writer.write_table(table, max_chunksize=700)


WRITERS = {
  "a.parquet": write_parquet,
  "a.arrow": write_stream,
  "b.arrow": lambda path: pa.feather.write_feather(pa.Table.from_pylist(ROWS), str(path), compression="uncompressed"),
  "a.feather": lambda path: pa.feather.write_feather(pa.Table.from_pylist(ROWS), str(path), compression="zstd"),
  "a.jsonl": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in ROWS)),
  "array.json": lambda path: path.write_text(json.dumps(ROWS)),
  "indented.json": lambda path: path.write_text(json.dumps(ROWS, indent=2)),
  "under_data.json": lambda path: path.write_text(json.dumps({"version": "1", "data": ROWS})),
  "under_data_indented.json": lambda path: path.write_text(json.dumps({"data": ROWS}, indent=1)),
  "lines.json": lambda path: path.write_text("".join(json.dumps(row) + "\n" for row in ROWS)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_format_gives_the_rows_that_were_written(tmp_path, name):
  def same(rows: list) -> None:
    assert records(tmp_path / name, "text", "label", "answers") == rows

  WRITERS[name](tmp_path / name)
  same(ROWS)
  assert_law_catches(same, ROWS[1:])
  nested = records(tmp_path / name, "answers.text", "label")
  assert nested == [{"answers.text": row["answers"]["text"], "label": row["label"]} for row in ROWS]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt", "a.csv", "a.conll"])
def test_a_compressed_file_gives_what_the_plain_one_does(tmp_path, suffix, name):
  data = {
    "a.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in ROWS),
    "a.json": json.dumps(ROWS).encode(),
    "a.txt": "caf\u00e9\nand tea\n".encode() * 1000,
    "a.csv": b"id,text\n" + b"".join(b"%d,text %d\n" % (i, i) for i in range(500)),
    "a.conll": b"EU B-ORG\nrejects O\n\ncall O\n\n",
  }[name]
  column = "tokens" if name == "a.conll" else "text"
  (tmp_path / name).write_bytes(data)
  packed = tmp_path / f"{name}{suffix}"
  packed.write_bytes(COMPRESS[suffix](data))
  expected = records(tmp_path / name, column)
  assert len(expected) >= 1
  assert records(packed, column) == expected
  half = len(data) // 2  # Two members, as parallel compressors and `cat a.gz b.gz` make them.
  packed.write_bytes(COMPRESS[suffix](data[:half]) + COMPRESS[suffix](data[half:]))
  assert records(packed, column) == expected
  assert open_source(str(packed)).total_bytes is None


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_file_that_is_cut_or_something_else_is_named_or_skipped(tmp_path, suffix):
  path = tmp_path / f"a.jsonl{suffix}"
  whole = COMPRESS[suffix](b"".join(b'{"text": "%d"}\n' % hash(str(i)) for i in range(5000)))
  other = COMPRESS[".gz" if suffix != ".gz" else ".zst"](b'{"text": "a"}\n')
  for data, reason in (
    (whole[:-100], "broken"),
    (b"", "the file is empty"),
    (b'{"text": "a"}\n', "not compressed by"),
    (other, "compressed by .*; rename it"),
  ):
    path.write_bytes(data)
    with pytest.raises(LmxError, match=rf"a\.jsonl{suffix}: .*{reason}"):
      texts(path)
    assert len(texts(path, policy="skip")) < 5000
  plain = tmp_path / "a.jsonl"
  plain.write_bytes(whole)
  with pytest.raises(LmxError, match=rf"a\.jsonl: not text \(it is compressed by .*: name it .*a\.jsonl{suffix}"):
    texts(plain)


def test_a_skippable_frame_of_zstd_is_passed_over(tmp_path):
  path = tmp_path / "a.txt.zst"
  path.write_bytes(b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd" + zstd(b"text"))
  assert texts(path) == ["text"]


BINARY = {
  "ids.txt": np.arange(1, 3000, dtype="<u2").tobytes(),
  "nul.txt": b"text with a \0 in it",
  "nul.jsonl": b'{"text": "a\0b"}\n',
  "nul.csv": b"text\na\0b\n",
  "controls.txt": np.random.default_rng(0).integers(1, 127, 2000).astype("u1").tobytes(),  # Valid UTF-8 without a NUL.
  "utf16.txt": "text".encode("utf-16"),
  "zip.txt": b"PK\x03\x04\x14\x00\x08\x08" + b"x" * 50,
  "model.gguf": b"GGUF\x03\0\0\0",
  "model.safetensors": b"text as far as anyone sees",
  "table.txt": b"PAR1\x15\x04\x15\x00PAR1",
}


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_file_is_never_read_as_text(tmp_path, name):
  path = tmp_path / name
  path.write_bytes(BINARY[name])
  with pytest.raises(LmxError, match=rf"{name}(:\d+)?: (binary data|not text|not UTF-8|broken JSON)"):
    texts(path)
  assert texts(path, policy="skip") == []


def test_text_that_only_looks_binary_is_read(tmp_path):
  for index, text in enumerate(
    ("GGUF is a format", "PAR1 caf\u00e9", "BZh", "a\x1b[1mb\x1b[0m\f\x08", "x" * 100 + "\x01")
  ):
    path = tmp_path / f"{index}.txt"
    path.write_text(text)
    assert texts(path) == [text]
  path = tmp_path / "a.safetensors"
  path.write_text("text")
  assert texts(f"text:{path}") == ["text"]
  bom = tmp_path / "bom.txt"
  bom.write_bytes(b"\xef\xbb\xbfone\r\ntwo")
  assert texts(bom) == ["one\r\ntwo"]
  assert texts(bom, separator="\n") == ["one", "two"]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "b.arrow", "a.feather"])
def test_a_broken_table_is_named(tmp_path, name):
  path = tmp_path / name
  WRITERS[name](path)
  whole = path.read_bytes()
  for data in (whole[: len(whole) // 2], whole[:6], b"", b"text\n" * 100):
    path.write_bytes(data)
    with pytest.raises(LmxError, match=rf"{name}: broken"):
      records(path, "text")
    assert len(records(path, "text", policy="skip")) < len(ROWS)
  path.write_bytes(whole)
  with pytest.raises(LmxError, match=rf"{name}: no column 'txt' \(there are text, .*columns.txt=text\)"):
    records(path, "txt")
  with pytest.raises(LmxError, match=rf"{name}: no column 'answers.tex'.*columns.answers.tex=answers.text\)"):
    records(path, "answers.tex")
  packed = tmp_path / f"{name}.gz"
  packed.write_bytes(gzip.compress(whole))
  with pytest.raises(LmxError, match=rf"{name}.gz: compressed outside \(unpack it"):
    records(packed, "text")


def test_values_that_no_row_can_hold_are_named_with_their_row(tmp_path):
  path = tmp_path / "a.parquet"
  pa.parquet.write_table(pa.table({"text": [b"a", b"\xff", b"x" * 200, None], "n": [1, 2, 3, 4]}), path)
  with pytest.raises(LmxError, match=r"a\.parquet\[1\]: not UTF-8"):
    records(path, "text")
  assert records(path, "text", policy="skip", max_document_bytes=100) == [{"text": "a"}, {"text": None}]
  with pytest.raises(LmxError, match=r"a\.parquet\[0\]: column 'n' is not text \(it is int"):
    texts(path, columns={"text": "n"})


def test_a_column_with_a_dot_in_its_own_name_comes_first(tmp_path):
  table = pa.table({"a.b": ["whole"], "a": [{"b": "nested", "c": "inner"}]})
  pa.parquet.write_table(table, tmp_path / "a.parquet")
  (tmp_path / "a.jsonl").write_text('{"a": {"b": "nested", "c": "inner"}, "a.b": "whole"}\n')
  for name in ("a.parquet", "a.jsonl"):
    assert records(tmp_path / name, "a.b", "a.c") == [{"a.b": "whole", "a.c": "inner"}]


def test_a_table_fills_a_cache_and_is_read_from_it_again(tmp_path):
  write_parquet(tmp_path / "a.parquet")
  spec = DataSpec(sources=(str(tmp_path / "a.parquet"),), cache_dir=str(tmp_path / "cache"), heldout_fraction=0.0)
  first, second = prepare_corpus(spec, ByteTokenizer()), prepare_corpus(spec, ByteTokenizer())
  assert first.train_stats[0].documents == len(ROWS)
  assert [corpus.notes[0].reused for corpus in (first, second)] == [False, True]
  pa.parquet.write_table(pa.table({"text": ["another"]}), tmp_path / "a.parquet")
  assert prepare_corpus(spec, ByteTokenizer()).train_stats[0].documents == 1


SQUAD = {
  "version": "v2.0",
  "data": [
    {
      "title": "Oxygen",
      "paragraphs": [
        {
          "context": "Oxygen is a gas.",
          "qas": [
            {
              "id": "1",
              "question": "What?",
              "answers": [{"text": "a gas", "answer_start": 10}],
              "is_impossible": False,
            },
            {"id": "2", "question": "Who?", "answers": [], "is_impossible": True},
          ],
        }
      ],
    }
  ],
}


@pytest.mark.parametrize("indent", [None, 2])
def test_squads_articles_become_a_row_for_each_question(tmp_path, indent):
  path = tmp_path / "train-v2.0.json"
  path.write_text(json.dumps(SQUAD, indent=indent))
  assert records(path, "id", "question", "context", "answers", "answer", "answer_start", "title") == [
    {
      "id": "1",
      "question": "What?",
      "context": "Oxygen is a gas.",
      "answers": {"text": ["a gas"], "answer_start": [10]},
      "answer": "a gas",
      "answer_start": 10,
      "title": "Oxygen",
    },
    {
      "id": "2",
      "question": "Who?",
      "context": "Oxygen is a gas.",
      "answers": {"text": [], "answer_start": []},
      "answer": "",
      "answer_start": None,
      "title": "Oxygen",
    },
  ]
  broken = json.loads(json.dumps(SQUAD))
  del broken["data"][0]["paragraphs"][0]["context"]
  path.write_text(json.dumps(broken, indent=indent))
  with pytest.raises(LmxError, match=r"train-v2\.0\.json data\[0\]: broken SQuAD article \(KeyError: 'context'"):
    records(path, "question")
  path.write_text(json.dumps(SQUAD, indent=indent)[:-20])
  with pytest.raises(LmxError, match=r"train-v2\.0\.json:1: broken JSON"):
    records(path, "question")


CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
# # O O

Peter NNP B-NP B-PER
"""
CONLLU = """# sent_id = 1
# text = Let's go
1-2\tLet's\t_\t_\t_\t_\t_\t_\t_\t_
1\tLet\tlet\tVERB\tVB\t_\t0\troot\t_\t_
2\t's\tus\tPRON\tPRP\t_\t1\tobj\t_\t_
2.1\tempty\t_\t_\t_\t_\t_\t_\t_\t_
3\tNew York\tgo\tVERB\tVB\t_\t1\txcomp\t_\t_

"""


def test_conll_gives_sentences_with_their_words_and_tags(tmp_path):
  path = tmp_path / "a.conll"
  path.write_text(CONLL.replace("\n", "\r\n"))
  assert records(path, "tokens", "tags") == [
    {"tokens": ["EU", "rejects", "#"], "tags": ["B-ORG", "O", "O"]},
    {"tokens": ["Peter"], "tags": ["B-PER"]},
  ]
  assert records(path, "tokens", "tags", columns={"tokens": "1", "tags": "2"})[1] == {
    "tokens": ["Peter"],
    "tags": ["NNP"],
  }
  other = tmp_path / "a.conllu"
  other.write_text(CONLLU)
  assert records(other, "tokens", "tags") == [{"tokens": ["Let", "'s", "New York"], "tags": ["VERB", "PRON", "VERB"]}]
  xpos = records(other, "tokens", "tags", columns={"tokens": "lemma", "tags": "xpos"})
  assert xpos == [{"tokens": ["let", "us", "go"], "tags": ["VB", "PRP", "VB"]}]
  assert len(records(f"conll:{other}", "tokens", "tags")) == 1


def test_what_is_wrong_with_a_conll_file_is_reported_with_its_line(tmp_path):
  path = tmp_path / "a.conll"
  path.write_text("EU B-ORG\nrejects\n\ncall O\n")
  with pytest.raises(LmxError, match=r"a\.conll:2: wrong number of columns \(1 cells instead of 2 as the first word"):
    records(path, "tokens", "tags")
  assert records(path, "tokens", "tags", policy="skip") == [{"tokens": ["call"], "tags": ["O"]}]
  with pytest.raises(LmxError, match=r"a\.conll:1: config\.data\.columns\.tags: got '3'\. Allowed: 1, 2, tokens, tags"):
    records(path, "tokens", "tags", columns={"tokens": "1", "tags": "3"})
  path.write_text("EU\nrejects\n")
  with pytest.raises(LmxError, match=r"columns\.tags: got 'tags'\. Allowed: 1, tokens"):
    records(path, "tokens", "tags")
  path.write_bytes(b"EU O\n\xff O\n\nok O\n")
  with pytest.raises(LmxError, match=r"a\.conll:2: not UTF-8"):
    records(path, "tokens", "tags")
  assert records(path, "tokens", policy="skip") == [{"tokens": ["ok"]}]
