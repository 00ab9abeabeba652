# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Sources read what is there, in a fixed order, and name the file and line of what they cannot read."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lmx.data.document import BadDocuments, ReadOptions
from lmx.data.sources.sources import join_sources, open_source
from lmx.errors import LmxError


def texts(spec: object, policy: str = "error", **options) -> list[str]:
  return [d.text for d in open_source(str(spec), ReadOptions(**options)).documents(BadDocuments(policy))]


def skipped(spec: object, **options) -> tuple[list[str], dict[str, int]]:
  bad = BadDocuments("skip")
  return [d.text for d in open_source(str(spec), ReadOptions(**options)).documents(bad)], dict(bad.counts)


def write(path: Path, data: str | bytes) -> Path:
  raw = data.encode() if isinstance(data, str) else data
  path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
  return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_text_file_is_one_document_or_one_for_each_separated_part(tmp_path, suffix):
  path = write(tmp_path / f"a.txt{suffix}", "one\n\ntwo \u00e9\n")
  assert texts(path) == ["one\n\ntwo \u00e9\n"]
  assert texts(path, separator="\n") == ["one", "two \u00e9"]
  assert texts(path, separator="\n\n") == ["one", "two \u00e9\n"]


def test_files_with_crlf_split_cleanly_at_newlines(tmp_path):
  path = write(tmp_path / "a.txt", "one\r\ntwo \u00e9\r\n\r\nthree\r\n")
  assert texts(path, separator="\n") == ["one", "two \u00e9", "three"]
  assert texts(path, separator="\r\n") == ["one", "two \u00e9", "three"]
  assert texts(path, separator="\n\n") == ["one\r\ntwo \u00e9", "three\r\n"]
  assert texts(path, separator="\ntwo") == ["one", " \u00e9\r\n\r\nthree\r\n"]
  mixed = write(tmp_path / "b.txt", "one\ntwo\r\nthr.ee")
  assert texts(mixed, separator="\n") == ["one", "two", "thr.ee"]
  assert texts(mixed, separator=".") == ["one\ntwo\r\nthr", "ee"]
  end = (1 << 20) - 1  # The CRLF is cut in two by a block.
  split = write(tmp_path / "c.txt", "x" * end + "\r\n" + "y" * 7 + "\r\n" + "\xff")
  assert texts(split, separator="\n") == ["x" * end, "y" * 7, "\xff"]
  long = write(tmp_path / "d.txt", b"a\r\n" + b"x" * (3 << 20) + b"\r\nb\r\n\xff\r\n")
  assert skipped(long, max_document_bytes=1000, separator="\n") == (
    ["a", "b"],
    {"document too long": 1, "not UTF-8": 1},
  )
  with pytest.raises(LmxError, match=r"d.txt:4: not UTF-8"):
    texts(long, separator="\n")


def test_a_separator_is_found_where_two_blocks_meet(tmp_path):
  parts = ["x" * ((1 << 20) - 2), "y" * 7, "z" * (1 << 20)]
  path = write(tmp_path / "a.txt", "<|end|>".join(parts))
  assert texts(path, separator="<|end|>") == parts


def test_jsonl_csv_and_tsv_give_the_chosen_column(tmp_path):
  rows = [{"id": 1, "body": 'a "quoted"\nline'}, {"id": 2, "body": "\tb"}]
  columns = {"text": "body"}
  jsonl = write(tmp_path / "a.jsonl.gz", "".join(json.dumps(row) + "\n" for row in rows))
  assert texts(jsonl, columns=columns) == [row["body"] for row in rows]
  table = write(tmp_path / "a.csv", 'id,body\r\n1,"a ""quoted""\nline"\r\n2,"\tb"\r\n')
  assert texts(table, columns=columns) == [row["body"] for row in rows]
  tabs = write(tmp_path / "a.tsv", '\ufeffid\tbody\n1\ta "b\n2\tc\n')
  assert texts(tabs, columns=columns) == ['a "b', "c"]
  plain = write(tmp_path / "b.tsv", "first\t0\nsecond\t1\n")
  assert texts(plain, columns={"text": "1"}) == ["first", "second"]


def test_a_prefix_forces_how_a_file_is_read(tmp_path):
  path = write(tmp_path / "rows.txt", '{"text": "a"}\n')
  assert texts(path) == ['{"text": "a"}\n']
  assert texts(f"jsonl:{path}") == ["a"]


def test_folders_and_globs_are_read_sorted_without_hidden_files(tmp_path):
  (tmp_path / "deep").mkdir()
  (tmp_path / ".git").mkdir()
  for name in ("b.txt", "a.txt", "deep/c.txt", ".git/d.txt", ".hidden"):
    write(tmp_path / name, name)
  assert texts(tmp_path) == ["a.txt", "b.txt", "deep/c.txt"]
  assert texts(tmp_path / "*.txt") == ["a.txt", "b.txt"]
  assert texts(tmp_path / "**" / "*.txt") == ["a.txt", "b.txt", "deep/c.txt"]
  joined = join_sources([str(tmp_path / "b.txt"), str(tmp_path / "a.txt")], ReadOptions())
  assert [d.text for d in joined.documents(BadDocuments())] == ["b.txt", "a.txt"]


def test_what_is_not_there_is_reported_before_anything_is_read(tmp_path):
  for spec in (tmp_path / "none.txt", tmp_path / "*.txt", tmp_path):
    with pytest.raises(LmxError, match=r"config.data.sources: got '"):
      open_source(str(spec))
  with pytest.raises(LmxError, match=r"config\.data\.separator"):
    open_source("stdlib", ReadOptions(separator=""))


GOOD = b'{"text": "good"}\n'
BAD_LINES = {
  "not UTF-8": b'{"text": "\xff"}\n',
  "broken JSON": b'{"text": \n',
  "no column 'text'": b'{"txt": "x"}\n',
  "column 'text' is not text": b'{"text": 5}\n',
  "empty document": b'{"text": ""}\n',
  "not valid Unicode": b'{"text": "\\ud800"}\n',
  "line too long": b'{"text": "' + b"x" * 2000 + b'"}\n',
}


@pytest.mark.parametrize("reason", BAD_LINES)
def test_a_bad_line_is_named_or_skipped_and_counted(tmp_path, reason):
  path = write(tmp_path / "a.jsonl", GOOD + GOOD + BAD_LINES[reason] + GOOD)
  with pytest.raises(LmxError) as caught:
    texts(path, max_document_bytes=1000)
  assert f"{path}:3: {reason}" in str(caught.value)
  assert "--config.data.bad_documents=skip" in str(caught.value)
  assert skipped(path, max_document_bytes=1000) == (["good"] * 3, {reason: 1})


def test_a_missing_column_suggests_the_nearest(tmp_path):
  with pytest.raises(LmxError, match=r"--config.data.columns.text=txt"):
    texts(write(tmp_path / "a.jsonl", b'{"txt": "x"}\n'))
  with pytest.raises(
    LmxError, match=r"a.csv:1: no column 'text' \(there are id, txt; try --config.data.columns.text=txt"
  ):
    texts(write(tmp_path / "a.csv", "id,txt\n1,x\n"), policy="skip")


def test_a_hint_names_no_column_that_is_nothing_like_the_one_asked_for(tmp_path):
  with pytest.raises(LmxError, match=r"there are id, body; try --config\.data\.columns\.text=NAME\)"):
    texts(write(tmp_path / "a.jsonl", b'{"id": 1, "body": "x"}\n'))
  long = "a_text_with_a_name_that_is_much_too_long_to_show"
  with pytest.raises(LmxError, match=rf"\.\.\., id; try --config\.data\.columns\.text={long}\)"):
    texts(write(tmp_path / "a.csv", f"{long},id\nx,1\n"), columns={"text": long.replace("text", "txt")})


def test_a_table_row_with_too_few_cells_is_named_or_skipped(tmp_path):
  path = write(tmp_path / "a.tsv", "id\ttext\n1\tx\nbroken\n2\ty\n")
  with pytest.raises(LmxError, match=r"a.tsv:3: wrong number of columns"):
    texts(path)
  assert skipped(path) == (["x", "y"], {"wrong number of columns": 1})


def test_text_that_is_not_utf8_is_named_by_line(tmp_path):
  path = write(tmp_path / "a.txt", b"one\ntwo\nthr\xffee\n")
  with pytest.raises(LmxError, match=r"a.txt:3: not UTF-8 \(byte 0xff at offset 11\)"):
    texts(path)
  assert skipped(path, separator="\n") == (["one", "two"], {"not UTF-8": 1})
  with pytest.raises(LmxError, match=r"a.txt:3: not UTF-8"):
    texts(path, separator="\n")


def test_a_document_over_the_limit_is_skipped_without_the_ones_after_it(tmp_path):
  path = write(tmp_path / "a.txt", b"a\n" + b"x" * (3 << 20) + b"\nb\n\xff\n")
  assert skipped(path, max_document_bytes=1000) == ([], {"document too long": 1})
  assert skipped(path, max_document_bytes=1000, separator="\n") == (
    ["a", "b"],
    {"document too long": 1, "not UTF-8": 1},
  )
  with pytest.raises(LmxError, match=r"a.txt:2: document too long"):
    texts(path, max_document_bytes=1000, separator="\n")


@pytest.mark.parametrize("name", ["a.txt.gz", "a.jsonl.gz"])
def test_a_truncated_gzip_is_named_or_skipped_after_what_could_be_read(tmp_path, name):
  lines = b"".join(b'{"text": "%d %s"}\n' % (i, bytes(str(hash(str(i))), "ascii")) for i in range(5000))
  path = tmp_path / name
  path.write_bytes(gzip.compress(lines)[:-2000])
  with pytest.raises(LmxError, match=rf"{name}: broken gzip"):
    texts(path)
  read, counts = skipped(path)
  assert counts == {"broken gzip": 1}
  assert (len(read) > 100) == (name == "a.jsonl.gz")


def test_an_empty_file_is_an_empty_document(tmp_path):
  with pytest.raises(LmxError, match=r"a.txt: empty document"):
    texts(write(tmp_path / "a.txt", ""))


def test_a_fingerprint_changes_with_the_files_and_with_how_they_are_read(tmp_path):
  path = write(tmp_path / "a.txt", "one")
  first = open_source(str(path)).fingerprint()
  assert open_source(str(path)).fingerprint() == first
  assert open_source(str(path), ReadOptions(separator="\n")).fingerprint() != first
  write(path, "another")
  assert open_source(str(path)).fingerprint() != first


def test_the_standard_library_is_megabytes_of_text_without_this_machines_paths():
  documents = list(open_source("stdlib").documents(BadDocuments()))
  kinds = {document.where.partition("/")[0] for document in documents}
  assert kinds == {"topics", "docstrings", "sources"}
  assert len({document.where for document in documents}) == len(documents)
  for kind in kinds:
    names = [document.where for document in documents if document.where.startswith(kind)]
    assert names == sorted(names)
  assert sum(len(document.text) for document in documents) > 5_000_000
  own = [sys.prefix, sys.base_prefix, str(Path.home())]
  for document in documents:
    assert "site-packages/" not in document.where
    assert not any(path in document.text for path in own if len(path) > 5)


def test_the_standard_library_is_the_same_text_in_every_process():
  code = "from lmx.data.sources.stdlib import StdlibSource as S; print(S().fingerprint()['texts'])"
  environment = {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2]), "LC_ALL": "C"}
  other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
  assert other.stdout.strip() == open_source("stdlib").fingerprint()["texts"]
