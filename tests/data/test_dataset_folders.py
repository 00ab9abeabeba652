# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A data set's folder is read as one complete split: as saved by `datasets`, and in the layout of its hub."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from lmx.config import loading as configs
from lmx.config.checks import READINGS
from lmx.data.document import BadDocuments, ReadOptions, RequiredColumns
from lmx.data.sources.files import FORMATS
from lmx.data.sources.sources import TOKENS, open_source
from lmx.errors import LmxError

FEATURES = {
  "text": {"dtype": "string", "_type": "Value"},
  "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
  "tags": {"feature": {"names": ["O", "B"], "_type": "ClassLabel"}, "_type": "List"},
  "old": {"feature": {"k": {"names": ["x", "y"], "_type": "ClassLabel"}}, "_type": "Sequence"},
  "turns": [{"k": {"names": ["x", "y"], "_type": "ClassLabel"}}],
}
METADATA = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}


def table(first: int, count: int) -> pa.Table:
  numbers = range(first, first + count)
  columns = {
    "text": [f"text {i}" for i in numbers],
    "label": [(0, 1, -1, None)[i % 4] for i in numbers],
    "tags": [[0, 1][: i % 3] for i in numbers],
    "old": [{"k": [0, 1][: i % 3]} for i in numbers],
    "turns": [[{"k": 1}] for _ in numbers],
  }
  return pa.table(columns).replace_schema_metadata(METADATA)


def expected(first: int, count: int) -> list:
  return [
    {
      "text": f"text {i}",
      "label": ("neg", "pos", None, None)[i % 4],
      "tags": ["O", "B"][: i % 3],
      "old": {"k": ["x", "y"][: i % 3]},
      "turns": [{"k": "y"}],
    }
    for i in range(first, first + count)
  ]


def save(folder: Path, parts: list[pa.Table]) -> None:
  """As `Dataset.save_to_disk` of datasets 5.2 writes it."""
  folder.mkdir(parents=True)
  names = [f"data-{i:05d}-of-{len(parts):05d}.arrow" for i in range(len(parts))]
  for name, part in zip(names, parts, strict=True):
    with pa.ipc.new_stream(str(folder / name), part.schema) as writer:
      writer.write_table(part)
  (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
  (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))


def read(spec: object, *columns: str) -> list:
  columns = columns or tuple(FEATURES)
  source = open_source(str(spec), ReadOptions(columns={name: name for name in columns}))
  return [record.values for record in source.records(RequiredColumns(columns), BadDocuments())]


def test_a_saved_data_set_is_read_with_the_names_of_its_labels(tmp_path):
  save(tmp_path / "saved", [table(0, 5), table(5, 4), table(9, 3)])
  assert read(tmp_path / "saved") == expected(0, 12)
  (tmp_path / "saved" / "data-00001-of-00003.arrow").unlink()
  with pytest.raises(LmxError, match=r"state\.json lists data-00001-of-00003\.arrow, which doesn't exist"):
    read(tmp_path / "saved")
  (tmp_path / "saved" / "state.json").write_text("{")
  with pytest.raises(LmxError, match=r"state\.json cannot be read"):
    read(tmp_path / "saved")


def test_one_split_of_a_saved_dictionary_is_read_and_several_are_refused(tmp_path):
  for split in ("train", "test"):
    save(tmp_path / "both" / split, [table(0, 5)])
  (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
  with pytest.raises(LmxError, match=r"both has several splits: train, test\. Fix: name one, as .*both/train'"):
    read(tmp_path / "both")
  assert read(tmp_path / "both" / "test") == expected(0, 5)
  (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train"]}')
  assert read(tmp_path / "both") == expected(0, 5)


def test_the_shards_of_the_hubs_layout_are_one_split_and_all_there(tmp_path):
  data = tmp_path / "hub" / "data"
  data.mkdir(parents=True)
  (tmp_path / "hub" / "README.md").write_text("about the data")
  for index in range(2):
    pa.parquet.write_table(table(index * 3, 3), data / f"train-{index:05d}-of-00002.parquet")
  assert read(tmp_path / "hub") == expected(0, 6)
  pa.parquet.write_table(table(0, 1), data / "test-00000-of-00001-0123456789abcdef.parquet")
  with pytest.raises(
    LmxError, match=r"several splits: data/test, data/train\. Fix: name one, as .*/hub/data/train-\*'"
  ):
    read(tmp_path / "hub")
  assert read(data / "train-*") == expected(0, 6)
  (data / "test-00000-of-00001-0123456789abcdef.parquet").unlink()
  (data / "train-00000-of-00002.parquet").unlink()
  with pytest.raises(LmxError, match=r"shard 00000 of 00002 of 'train' doesn't exist \(1 missing\)"):
    read(tmp_path / "hub")


@pytest.mark.parametrize("names", [("train.jsonl", "test.jsonl"), ("squad-train.jsonl", "squad-validation.jsonl.gz")])
def test_a_folder_of_training_and_test_sets_is_refused(tmp_path, names):
  for name in names:
    (tmp_path / name).write_text('{"text": "a"}\n')
  with pytest.raises(LmxError, match=r"has several splits: .*Fix: name one, as .*train\.jsonl'"):
    read(tmp_path, "text")
  assert read(tmp_path / names[0], "text") == [{"text": "a"}]


def test_what_describes_a_data_set_is_no_data(tmp_path):
  (tmp_path / "squad-train.jsonl").write_text('{"text": "a"}\n')
  (tmp_path / "dataset_info.json").write_text('{"features": {}}')
  assert read(tmp_path, "text") == [{"text": "a"}]


def test_the_words_before_a_colon_are_the_formats():
  assert set(READINGS) == {*FORMATS, TOKENS}
  assert configs.check_files(configs.load("configs/base.py", [f"data.sources=tokens:{__file__}"])) == []


@pytest.mark.live
@pytest.mark.filterwarnings("ignore")
def test_what_datasets_writes_is_read(tmp_path):
  datasets = pytest.importorskip("datasets")
  label = datasets.ClassLabel(names=["neg", "pos"])
  features = {
    "text": datasets.Value("string"),
    "label": label,
    "tags": datasets.Sequence(label),
    "old": datasets.Sequence({"k": label}),
    "turns": [{"k": label}],
  }
  rows = [{"text": f"t{i}", "label": i % 2, "tags": [1], "old": {"k": [0]}, "turns": [{"k": 1}]} for i in range(10)]
  given = datasets.Dataset.from_list(rows, features=datasets.Features(features))
  given.save_to_disk(tmp_path / "saved", num_shards=3)
  given.to_parquet(tmp_path / "one.parquet")
  names = [
    {"text": f"t{i}", "label": ["neg", "pos"][i % 2], "tags": ["pos"], "old": {"k": ["neg"]}, "turns": [{"k": "pos"}]}
    for i in range(10)
  ]
  assert read(tmp_path / "saved") == read(tmp_path / "one.parquet") == names
