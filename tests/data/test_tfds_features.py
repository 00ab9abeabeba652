# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Every feature of a TFDS set is read as JSON would hold it, from sets that TFDS's own builders made on the spot."""

import json
import sys
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from laws import assert_law_catches

from lmx.data.columns import column_values
from lmx.data.corpus import DataSpec
from lmx.data.document import BadDocuments, ReadOptions, RequiredColumns
from lmx.data.sources.sources import open_source
from lmx.errors import LmxError

F = tfds.features
# column -> its feature, what a builder yields, what lmx reads.
COLUMNS = {
  "text": (F.Text(), "caf\u00e9", "caf\u00e9"),
  "label": (F.ClassLabel(names=["neg", "pos"]), "pos", "pos"),
  "unlabelled": (F.ClassLabel(names=["neg", "pos"]), -1, None),
  "numbered": (F.ClassLabel(num_classes=3), 2, "2"),
  "words": (F.Sequence(F.Text()), ["a", "b \u00e9"], ["a", "b \u00e9"]),
  "tags": (F.Sequence(F.ClassLabel(names=["O", "B"])), ["B", "O"], ["B", "O"]),
  "empty": (F.Sequence(F.Text()), [], []),
  "numbers": (F.Sequence(np.int64), [4, 5], [4, 5]),
  "flags": (F.Sequence(np.bool_), [True, False], [True, False]),
  "answers": (
    F.Sequence({"text": F.Text(), "answer_start": np.int32}),
    [{"text": "x", "answer_start": 3}, {"text": "y", "answer_start": 7}],
    [{"text": "x", "answer_start": 3}, {"text": "y", "answer_start": 7}],
  ),
  "no_answers": (F.Sequence({"text": F.Text(), "answer_start": np.int32}), [], []),
  "nested": (F.Sequence(F.Sequence(F.Text())), [["a", "b"], [], ["c"]], [["a", "b"], [], ["c"]]),
  "deep": (
    F.Sequence({"role": F.Text(), "parts": F.Sequence({"k": F.ClassLabel(names=["x", "y"]), "t": F.Text()})}),
    [{"role": "u", "parts": [{"k": "y", "t": "p"}, {"k": "x", "t": "q"}]}, {"role": "v", "parts": []}],
    [{"role": "u", "parts": [{"k": "y", "t": "p"}, {"k": "x", "t": "q"}]}, {"role": "v", "parts": []}],
  ),
  "lists": (F.FeaturesDict({"text": F.Sequence(F.Text())}), {"text": ["a", "b"]}, {"text": ["a", "b"]}),
  "messages": (
    F.Dataset({"role": F.Text(), "content": F.Text()}),
    [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}],
    [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}],
  ),
  "pair": (F.Translation(["en", "de"]), {"en": "hello", "de": "hallo"}, {"en": "hello", "de": "hallo"}),
  "vector": (F.Tensor(shape=(2, 2), dtype=np.float32), [[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]]),
}


class Probe(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A few rows of one column of each kind."""

  VERSION = tfds.core.Version("1.0.0")
  rows = 2
  url_infos: ClassVar = {}

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self, features=F.FeaturesDict({name: feature for name, (feature, _, _) in COLUMNS.items()})
    )

  def _split_generators(self, dl_manager):
    return {"train": ((i, {name: given for name, (_, given, _) in COLUMNS.items()}) for i in range(self.rows))}

  def _generate_examples(self):
    raise NotImplementedError


def build(folder, file_format: str, rows: int = 2) -> None:
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Probe, "rows", rows)
    # TFDS asks TensorFlow for the type of a ragged feature when it writes one, never when it reads one.
    patch.setattr(tfds.core.features.feature.TensorInfo, "dtype", property(lambda info: info.np_dtype))
    Probe(data_dir=folder, file_format=file_format).download_and_prepare()


@pytest.fixture(scope="module", params=["array_record", "parquet"])
def folder(request, tmp_path_factory):
  path = tmp_path_factory.mktemp(request.param)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("NO_GCE_CHECK", "true")
    build(path, request.param)
  return path


def read(folder, column: str) -> list:
  source = open_source("tfds:probe", ReadOptions(columns={"x": column}, tfds_dir=str(folder)))
  return [record.values["x"] for record in source.records(RequiredColumns(("x",)), BadDocuments())]


@pytest.mark.parametrize("column", COLUMNS)
def test_a_feature_is_read_as_json_would_hold_it(folder, column):
  def holds(expected) -> None:
    found = read(folder, column)
    assert found == [expected, expected]
    assert json.loads(json.dumps(found)) == found

  holds(COLUMNS[column][2])
  assert_law_catches(holds, "something else")
  assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
  ("column", "expected"),
  [
    ("answers.text", ["x", "y"]),
    ("answers.answer_start", [3, 7]),
    ("lists.text", ["a", "b"]),
    ("pair.de", "hallo"),
    ("deep.parts.k", [["y", "x"], []]),
  ],
)
def test_a_dot_leads_into_the_objects_of_a_set(folder, column, expected):
  assert read(folder, column) == [expected, expected]


def test_a_missing_column_of_a_set_is_named_with_the_nearest(folder):
  with pytest.raises(LmxError, match=r"tfds:probe: no column 'answer\.text'.*columns\.x=answers\.text"):
    read(folder, "answer.text")


def test_labels_are_the_names_of_the_classes(folder):
  columns = {"text": "text", "label": "label", "tags": "tags"}
  spec = DataSpec(sources=("tfds:probe",), tfds_dir=str(folder), columns=columns)
  assert column_values(spec, "label") == ["pos"]
  assert column_values(spec, "tags") == ["B", "O"]


def test_a_parquet_set_whose_files_lack_rows_is_refused(tmp_path):
  build(tmp_path, "parquet", rows=250)  # Its writer leaves rows 100 to 199 out.
  with pytest.raises(LmxError, match=r"'probe' has 150 rows in the files of its split 'train', and 250 by its own"):
    read(tmp_path, "text")


@pytest.mark.parametrize("file_format", ["array_record", "parquet"])
def test_a_damaged_set_is_named(tmp_path, file_format):
  build(tmp_path, file_format)
  (rows,) = tmp_path.rglob("probe-train*")
  whole = rows.read_bytes()
  for data in (whole[: len(whole) // 2], b"text", whole[:200] + bytes(len(whole) - 400) + whole[-200:]):
    rows.write_bytes(data)
    with pytest.raises(LmxError, match=r"tfds:probe train.*: the files are damaged"):
      read(tmp_path, "text")
  rows.write_bytes(whole)
  (info,) = tmp_path.rglob("dataset_info.json")
  info.write_text("{")
  with pytest.raises(LmxError, match=r"tfds:probe: the files are damaged \(ParseError"):
    read(tmp_path, "text")
