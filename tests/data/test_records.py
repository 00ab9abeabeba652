# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Every reader returns complete records of the wanted columns, and names file and row of those that it can't read."""

import gzip
import json
from pathlib import Path

import pytest

from lmx.data.columns import MAX_VALUES, column_values
from lmx.data.corpus import DataSpec
from lmx.data.document import BadDocuments, ReadOptions, RequiredColumns
from lmx.data.sources.sources import join_sources, open_source
from lmx.errors import LmxError

PAIR = RequiredColumns(("text", "label"), ("text_b",))
DEFAULT = {"text": "text", "text_b": "text_b", "label": "label"}


def read(
  path: Path | str, wanted: RequiredColumns = PAIR, policy: str = "error", **columns: str
) -> list[tuple[dict, str]]:
  source = open_source(str(path), ReadOptions(columns={**DEFAULT, **columns}))
  return [(record.values, record.where) for record in source.records(wanted, BadDocuments(policy))]


def values(path: Path | str, wanted: RequiredColumns = PAIR, policy: str = "error", **columns: str) -> list[dict]:
  return [row for row, _ in read(path, wanted, policy, **columns)]


def write(path: Path, text: str) -> Path:
  data = text.encode()
  path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
  return path


def test_a_table_with_a_header_gives_the_named_columns_and_their_lines(tmp_path):
  path = write(tmp_path / "a.tsv", "id\tlabel\tsentence\n7\tyes\tone\n8\tno\ttwo\n")
  rows = read(path, text="sentence")
  assert rows == [({"text": "one", "label": "yes"}, f"{path}:2"), ({"text": "two", "label": "no"}, f"{path}:3")]
  table = write(tmp_path / "a.csv.gz", 'sentence,label,other\n"one, ""1""",yes,x\ntwo,no,y\n')
  assert values(table, text="sentence", text_b="other") == [
    {"text": 'one, "1"', "label": "yes", "text_b": "x"},
    {"text": "two", "label": "no", "text_b": "y"},
  ]


def test_numbers_count_columns_of_a_table_without_a_header(tmp_path):
  """The first line of this table has a cell "1", which is a label and not the name of a column."""
  path = write(tmp_path / "a.tsv", "good\t1\nbad\t0\n")
  assert values(path, text="1", label="2") == [{"text": "good", "label": "1"}, {"text": "bad", "label": "0"}]
  programs = write(tmp_path / "b.tsv", "1\t2\ngood\tyes\n")
  assert values(programs, text="1", label="2") == [{"text": "good", "label": "yes"}]


def test_counted_columns_may_be_followed_by_more_cells_and_named_ones_may_not(tmp_path):
  path = write(tmp_path / "a.tsv", "a\t1\nb\t2\tsource\tlicence\n")
  assert [row["text"] for row in values(path, text="1", label="2")] == ["a", "b"]
  short = write(tmp_path / "b.tsv", "a\t1\tx\nb\t2\n")
  with pytest.raises(LmxError, match=r"b.tsv:2: wrong number of columns \(2 cells instead of 3 as the first line\)"):
    read(short, text="1", label="2")
  named = write(tmp_path / "c.tsv", "text\tlabel\na\t1\tx\n")
  with pytest.raises(LmxError, match=r"c.tsv:2: wrong number of columns"):
    read(named)
  assert read(named, policy="skip") == []


def test_json_values_keep_their_types(tmp_path):
  rows = [{"text": "a", "label": 3}, {"text": ["x", "y"], "label": None, "text_b": {"deep": [1.5, True]}}]
  path = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
  assert values(path) == rows


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_file_may_be_one_array_of_objects(tmp_path, indent):
  rows = [{"text": "a\nb [{", "label": 1}, {"text": "c", "label": 2, "extra": {"x": []}}]
  path = write(tmp_path / "a.json", "\ufeff \n" + json.dumps(rows, indent=indent) + "\n")
  found = read(path)
  assert [row for row, _ in found] == [{"text": row["text"], "label": row["label"]} for row in rows]
  assert [where for _, where in found] == [f"{path}:{line}" for line in ((2, 2) if indent is None else (3, 7))]


@pytest.mark.parametrize("tail", [', {"text": "c"', ' {"text": "c", "label": 3}]', ', 5, {"text": "c", "label": 3}]'])
def test_a_broken_array_is_named_by_line_or_read_as_far_as_it_goes(tmp_path, tail):
  path = write(tmp_path / "a.json", '[\n{"text": "a", "label": 1},\n{"text": "b", "label": 2}\n' + tail)
  with pytest.raises(LmxError, match=r"a.json:[34]: broken JSON"):
    read(path)
  assert [row["text"] for row in values(path, policy="skip")][:2] == ["a", "b"]


def test_an_optional_column_may_be_missing_unless_it_was_named(tmp_path):
  table = write(tmp_path / "a.csv", "text,label\na,1\n")
  lines = write(tmp_path / "a.jsonl", '{"text": "a", "label": "1"}\n')
  for path in (table, lines):
    assert values(path) == values(path, text_b="none") == [{"text": "a", "label": "1"}]
    with pytest.raises(LmxError, match=r"no column 'txt_b'.*are text, label; try --config.data.columns.text_b=NAME"):
      read(path, text_b="txt_b")


def test_a_hint_never_names_a_column_that_another_key_reads(tmp_path):
  for name, text in (
    ("a.csv", "text,lable,label_2\na,1,2\n"),
    ("a.jsonl", '{"text": "a", "lable": 1, "label_2": 2}\n'),
  ):
    with pytest.raises(LmxError, match=r"no column 'label' .*try --config.data.columns.label=label_2"):
      read(write(tmp_path / name, text), text_b="lable")


@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl"])
def test_a_wrong_column_name_is_one_error_with_the_columns_there_are(tmp_path, name):
  text = "text\tlabl\na\t1\n" if name == "a.tsv" else '{"text": "a", "labl": 1}\n'
  with pytest.raises(LmxError, match=r"a.*:1: no column 'label' \(there are text, labl; try .*\.label=labl"):
    read(write(tmp_path / name, text))


def test_of_columns_that_are_all_optional_one_must_be_there(tmp_path):
  chat = RequiredColumns((), ("text", "label"))
  assert values(write(tmp_path / "a.tsv", "x\tlabel\n1\tyes\n"), chat) == [{"label": "yes"}]
  assert values(write(tmp_path / "b.tsv", "good\t1\n"), chat, text="1") == [{"text": "good"}]
  assert values(write(tmp_path / "c.jsonl", '{"text": "a"}\n'), chat) == [{"text": "a"}]
  for name, text in (("d.tsv", "txt\tx\na\tb\n"), ("d.jsonl", '{"txt": "a", "x": 1}\n')):
    with pytest.raises(LmxError, match=r"d.*:1: none of the columns text, label \(there are txt, x; try .*text=txt"):
      read(write(tmp_path / name, text), chat)


def test_a_column_that_is_declared_missing_cannot_be_needed(tmp_path):
  with pytest.raises(LmxError, match=r"config.data.columns.label: got 'none', but the objective needs this column"):
    read(write(tmp_path / "a.tsv", "text\na\n"), label="none")


def test_plain_text_has_no_columns_but_text(tmp_path):
  path = write(tmp_path / "a.txt", "one\n")
  assert values(path, RequiredColumns(("text",))) == [{"text": "one\n"}]
  for source in (str(path), "stdlib"):
    with pytest.raises(LmxError, match=r"is plain text, but the objective reads the columns text, label. Fix: a .tsv"):
      read(source)


def test_a_fingerprint_depends_on_the_columns_that_are_read(tmp_path):
  path = write(tmp_path / "a.tsv", "text\tlabel\tother\na\t1\t2\n")
  prints = [open_source(str(path), ReadOptions(columns={**DEFAULT, "label": name})) for name in ("label", "other")]
  assert prints[0].fingerprint(PAIR) != prints[1].fingerprint(PAIR)
  assert prints[0].fingerprint() == prints[1].fingerprint()
  both = join_sources([str(path), str(path)], ReadOptions(columns=DEFAULT))
  assert [record.values["text"] for record in both.records(PAIR, BadDocuments())] == ["a", "a"]


def labels(path: Path, column: str = "label", multi_label: bool = False) -> list[str]:
  names = {**DEFAULT, "tags": "tags"}
  return column_values(DataSpec(sources=(str(path),), columns=names), column, multi_label)


def test_labels_are_the_sorted_values_of_a_column(tmp_path):
  assert labels(write(tmp_path / "a.tsv", "label\nb\na\n\nb\n")) == ["a", "b"]
  assert labels(write(tmp_path / "b.jsonl", '{"label": 10}\n{"label": 9}\n{"label": 10}\n')) == ["9", "10"]
  assert labels(write(tmp_path / "c.tsv", "label\tx\nred, blue\t1\n\t2\nblue\t3\n"), multi_label=True) == [
    "blue",
    "red",
  ]
  assert labels(write(tmp_path / "d.jsonl", '{"tags": ["B", "O"]}\n{"tags": "O I"}\n'), "tags") == ["B", "I", "O"]


def test_a_column_of_anything_but_labels_is_refused(tmp_path):
  many = write(tmp_path / "a.tsv", "label\n" + "".join(f"text {i}\n" for i in range(MAX_VALUES + 1)))
  with pytest.raises(LmxError, match=r"'label' has more than 1,000 different values .*looks like a regression target"):
    labels(many)
  scores = write(tmp_path / "b.tsv", "label\n" + "".join(f"{i / 40}\n" for i in range(200)))
  with pytest.raises(LmxError, match=r"b.tsv:3: .* has '0.025', which is not a class.*objective.name=regression"):
    labels(scores)
  with pytest.raises(LmxError, match="'label' is empty in every row"):
    labels(write(tmp_path / "c.jsonl", '{"label": null}\n{"label": ""}\n'))
  with pytest.raises(LmxError, match=r"d.jsonl:2: .* has '1.5', which is not a class"):
    labels(write(tmp_path / "d.jsonl", '{"label": 1}\n{"label": 1.5}\n'))
  for name, value, expected in (
    ("e", "Infinity", "'inf' among numbers"),
    ("f", "1e300", "'1000"),
    ("g", "-1e999", "'-inf'"),
  ):
    path = write(tmp_path / f"{name}.jsonl", f'{{"label": 1}}\n{{"label": 0}}\n{{"label": {value}}}\n')
    with pytest.raises(LmxError, match=rf"{name}.jsonl:3: .* has {expected}.*, which is not a class"):
      labels(path)
  ids = 2**63 - 1  # Numbers of 64 bits are classes, and "inf" is one among words: a tag of infinitives.
  assert labels(write(tmp_path / "h.jsonl", f'{{"label": {ids}}}\n{{"label": 0}}\n')) == ["0", str(ids)]
  assert labels(write(tmp_path / "i.conll.jsonl", '{"tags": ["inf", "noun"]}\n'), "tags") == ["inf", "noun"]


def test_nan_is_a_missing_value_and_never_a_class(tmp_path):
  assert labels(write(tmp_path / "a.jsonl", '{"label": NaN}\n{"label": 1.0}\n{"label": 0}\n')) == ["0", "1"]
  assert labels(write(tmp_path / "b.jsonl", '{"label": ["x", NaN, null]}\n'), multi_label=True) == ["x"]
  assert labels(write(tmp_path / "c.jsonl", '{"tags": ["O", null, "INF"]}\n'), "tags") == ["INF", "O"]
  with pytest.raises(LmxError, match=r"d.csv:3: .* has 'nan', which is not a class"):
    labels(write(tmp_path / "d.csv", "label\n1\nnan\n"))
  with pytest.raises(LmxError, match="'label' is empty in every row"):
    labels(write(tmp_path / "e.jsonl", '{"label": NaN}\n'))
