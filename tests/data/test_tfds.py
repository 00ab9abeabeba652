# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A TFDS data set is built from a user's files in parallel, and read back, without TensorFlow."""

import datetime
import json
import sys
from decimal import Decimal

import numpy as np
import pytest

from lmx.data.corpus import DataSpec, prepare_corpus
from lmx.data.document import BadDocuments, ReadOptions, RequiredColumns
from lmx.data.sources.sources import join_sources, open_source
from lmx.data.sources.tfds import build_tfds
from lmx.data.sources.values import BadValueError, class_name, plain
from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.errors import LmxError

DOCUMENTS = [f"document \u00e9 {i}\n" * (i % 3 + 1) for i in range(25)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """A folder with files, and a data set of two splits: one from a single file, one from a file for each process."""
  folder = tmp_path_factory.mktemp("tfds")
  for number in range(2):
    rows = "".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS[number::2])
    (folder / f"{number}.jsonl").write_text(rows)
  options = ReadOptions()
  splits = {
    "train": join_sources([str(folder / "0.jsonl"), str(folder / "1.jsonl")], options),
    "test": open_source(str(folder / "0.jsonl"), options),
  }
  report = build_tfds(splits, name="mine", directory=folder / "sets", shards=2)
  assert report.documents == {"train": 25, "test": 13}
  assert report.bytes["train"] == sum(len(text.encode()) for text in DOCUMENTS)
  return folder


def read(data, spec: str = "tfds:mine", **options) -> list[str]:
  source = open_source(spec, ReadOptions(tfds_dir=str(data / "sets"), **options))
  return [document.text for document in source.documents(BadDocuments())]


def test_every_document_of_the_files_is_in_the_set_once(data):
  assert sorted(read(data)) == sorted(DOCUMENTS)
  assert sorted(read(data, "tfds:mine:1.0.0", tfds_split="test")) == sorted(DOCUMENTS[0::2])
  assert "tensorflow" not in sys.modules


def test_a_data_set_feeds_a_corpus(data, tmp_path):
  spec = DataSpec(sources=("tfds:mine",), tfds_dir=str(data / "sets"), cache_dir=str(tmp_path), heldout_fraction=0.0)
  assert prepare_corpus(spec, ByteTokenizer()).train_stats[0].documents == 25
  assert prepare_corpus(spec, ByteTokenizer()).notes[0].reused


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_wrong_with_a_data_set_is_reported_with_the_fix(data):
  with pytest.raises(LmxError, match=r"found no TFDS data set 'mien' .*lmx data build --name=mien"):
    read(data, "tfds:mien")
  with pytest.raises(LmxError, match=r"tfds_split: got 'tran'. Allowed: test, train. Did you mean 'train'"):
    read(data, tfds_split="tran")
  with pytest.raises(LmxError, match=r"--config.data.columns.text=text"):
    read(data, columns={"text": "txt"})
  with pytest.raises(LmxError, match="does not understand 'a b'"):
    read(data, "tfds:a b")


def test_a_build_never_overwrites_and_leaves_nothing_half_done(data):
  source = open_source(str(data / "0.jsonl"))
  with pytest.raises(LmxError, match=r"exists. Fix: --version with a higher number"):
    build_tfds({"train": source}, name="mine", directory=data / "sets")
  for name, version in (("My-Set", "1.0.0"), ("mine", "2")):
    with pytest.raises(LmxError, match=r"--(name|version): got"):
      build_tfds({"train": source}, name=name, directory=data / "sets", version=version)
  broken = data / "broken.jsonl"
  broken.write_text('{"text": "a"}\n{"text":\n')
  with pytest.raises(LmxError, match=r"broken.jsonl:2: broken JSON"):
    build_tfds({"train": open_source(str(broken))}, name="broken", directory=data / "sets", shards=1)
  assert not list((data / "sets" / "broken").iterdir())
  report = build_tfds(
    {"train": open_source(str(broken))}, name="broken", directory=data / "sets", shards=1, bad_documents="skip"
  )
  assert (report.documents, report.skipped) == ({"train": 1}, {"broken JSON": 1})


def test_a_set_gives_records_and_names_the_columns_it_has(data):
  columns = {"text": "text", "label": "label", "text_b": "text_b"}
  source = open_source("tfds:mine", ReadOptions(columns=columns, tfds_dir=str(data / "sets")))
  (first, *_) = source.records(RequiredColumns(("text",), ("text_b",)), BadDocuments())
  assert set(first.values) == {"text"}
  assert first.where == "tfds:mine train[0]"
  with pytest.raises(LmxError, match=r"tfds:mine: no column 'label' .there are text; try"):
    next(source.records(RequiredColumns(("text", "label")), BadDocuments()))


def test_values_of_other_libraries_become_what_json_would_hold():
  values = {"x": np.int64(3), "y": np.float32(0.5), "z": np.array([[1, 2]]), "t": b"caf\xc3\xa9", "d": Decimal("1.50")}
  values |= {"a": [np.True_, b"a", np.array([b"b"], object)], "when": datetime.date(2026, 11, 28), "n": None}
  expected = {"x": 3, "y": 0.5, "z": [[1, 2]], "t": "caf\u00e9", "d": 1.5}
  expected |= {"a": [True, "a", ["b"]], "when": "2026-11-28", "n": None}
  assert plain(values, 100) == expected
  assert json.loads(json.dumps(plain(values, 100))) == expected
  for value, reason in (
    (b"\xff", "not UTF-8"),
    (b"x" * 101, "document too long"),
    ("x" * 101, "document too long"),
    (object(), "not text"),
  ):
    with pytest.raises(BadValueError, match=reason):
      plain([value], 100)
  for value in (2, 0.5, 1.5, float("inf"), 1e300, -2, "pos", np.float32(0.5), np.int64(7)):
    with pytest.raises(BadValueError, match=r"label without a name") as found:
      class_name(value, ["neg", "pos"])
    assert found.value.args[1] == f"got {value}, the names are neg, pos"
  assert [class_name(value, ["neg", "pos"]) for value in (0, 1.0, np.int64(1), None, -1, float("nan"))] == [
    *("neg", "pos", "pos"),
    *(None, None, None),
  ]
