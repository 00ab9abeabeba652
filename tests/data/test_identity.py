# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The record of a run's data differs whenever a batch could, names the difference, and depends on nothing else."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from laws import assert_law_catches

from lmx.data import identity
from lmx.data.cache.encoding import Encoded
from lmx.data.corpus import DataRequirements, DataSpec, prepare_corpus
from lmx.data.document import ReadOptions
from lmx.data.identity import data_record, differences
from lmx.data.sources.sources import open_source
from lmx.data.sources.tfds import build_tfds
from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.errors import LmxError
from lmx.training.resume_check import NO_DIGEST, check_sources

BYTES = ByteTokenizer()
TEXTS = [f"row {i} of some text" for i in range(40)]
LATE = [*TEXTS[:-1], "row 39 of SOME text"]  # The last one has other letters and the same length.


class Lengths:
  """An encoder of rows: the text, and a number in another column."""

  columns: tuple[str, ...] = ("text",)
  optional: tuple[str, ...] = ()
  fingerprint: ClassVar[dict[str, Any]] = {"of": "texts"}

  def __call__(self, row):
    return Encoded({"tokens": BYTES.encode(row["text"])})


def prepare(window, rng):
  return {"tokens": window}


TEXT, ROWS = DataRequirements(prepare), DataRequirements(prepare, encoder=Lengths())


def write_folder(path: Path, texts: list[str]) -> str:
  path.mkdir(exist_ok=True)
  for number, text in enumerate(texts):
    (path / f"{number:02d}.txt").write_text(text)
  return str(path)


def write_jsonl(path: Path, texts: list[str]) -> str:
  path.with_suffix(".jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
  return str(path.with_suffix(".jsonl"))


def write_tsv(path: Path, texts: list[str]) -> str:
  path.with_suffix(".tsv").write_text("\n".join(["text", *texts]) + "\n")
  return str(path.with_suffix(".tsv"))


def write_parquet(path: Path, texts: list[str]) -> str:
  pq.write_table(pa.table({"text": texts}), path.with_suffix(".parquet"))
  return str(path.with_suffix(".parquet"))


def write_arrow(path: Path, texts: list[str]) -> str:
  table = pa.table({"text": texts})
  with pa.OSFile(str(path.with_suffix(".arrow")), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
    writer.write_table(table)
  return str(path.with_suffix(".arrow"))


def ids_of(texts: list[str]) -> np.ndarray:
  return np.concatenate([[BYTES.bos_id, *BYTES.encode(text), BYTES.eos_id] for text in texts])


def write_bin(path: Path, texts: list[str]) -> str:
  ids_of(texts).astype("<u2").tofile(path.with_suffix(".bin"))
  return f"tokens:{path.with_suffix('.bin')}"


def write_npy(path: Path, texts: list[str]) -> str:
  np.save(path.with_suffix(".npy"), ids_of(texts).astype(np.int32))
  return str(path.with_suffix(".npy"))


def write_tfds(path: Path, texts: list[str]) -> str:
  folder = path.parent / "tfds"
  shutil.rmtree(folder, ignore_errors=True)
  source = open_source(write_jsonl(path, texts), ReadOptions())
  build_tfds({"train": source}, name="mine", directory=folder, shards=1)
  return "tfds:mine"


WRITERS = [write_folder, write_jsonl, write_tsv, write_parquet, write_arrow, write_bin, write_npy, write_tfds]
Write = Callable[[Path, list[str]], str]


def spec_of(folder: Path, source: str, **changes: Any) -> DataSpec:
  given = {"sources": (source,), "cache_dir": str(folder / "cache"), "heldout_fraction": 0.25, "length": 32}
  return DataSpec(**{**given, "tfds_dir": str(folder / "tfds"), **changes})


def record(spec: DataSpec, needs: DataRequirements = TEXT, batch_size: int = 4, seed: int = 0) -> dict[str, Any]:
  return data_record(prepare_corpus(spec, BYTES, encoder=needs.encoder), needs, batch_size=batch_size, seed=seed)


def check_late_edit_is_named(folder: Path, write: Write, needs: DataRequirements) -> None:
  spec = spec_of(folder, write(folder / "data", TEXTS))
  before = record(spec, needs)
  assert differences(before, record(spec, needs)) == []
  write(folder / "data", LATE)
  found = "; ".join(differences(before, record(spec, needs)))
  assert "data" in found or "mine" in found
  assert "changed (" in found
  assert "bytes" in found
  assert "tokens in" in found
  assert "and had" in found


@pytest.mark.parametrize("write", WRITERS)
def test_a_late_edit_of_a_source_of_every_kind_is_named(tmp_path, write):
  check_late_edit_is_named(tmp_path, write, TEXT)


@pytest.mark.parametrize("write", [write_jsonl, write_parquet, write_tfds])
def test_a_late_edit_of_rows_is_named(tmp_path, write):
  check_late_edit_is_named(tmp_path, write, ROWS)


def test_the_law_of_records_catches_one_without_the_texts(tmp_path, monkeypatch):
  monkeypatch.setattr(identity, "digest_of", lambda *parts: "same")
  assert_law_catches(check_late_edit_is_named, tmp_path, write_folder, TEXT)


def test_a_file_added_to_a_folder_is_named_with_its_size_and_the_tokens_before_and_after(tmp_path):
  spec = spec_of(tmp_path, write_folder(tmp_path / "data", TEXTS), heldout_fraction=0.0)
  before = record(spec)
  (tmp_path / "data" / "99.txt").write_text("added at the end")
  tokens = sum(map(len, TEXTS))
  assert differences(before, record(spec)) == [
    f"{tmp_path}/data/99.txt (16 bytes) was added",
    f"the training text of {tmp_path}/data has {tokens + 16:,} tokens in 41 documents ({tokens + 16:,} bytes), and had "
    f"{tokens:,} in 40 ({tokens:,} bytes)",
  ]
  split = dataclasses.replace(spec, heldout_fraction=0.25, heldout_split="tail")
  (tmp_path / "data" / "99.txt").unlink()
  both = record(split)
  (tmp_path / "data" / "99.txt").write_text("added at the end")
  listed = differences(both, record(split))
  assert [text.partition(" of ")[0] for text in listed[1:]] == ["the training text", "the validation text"]
  (tmp_path / "data" / "99.txt").unlink()
  (tmp_path / "data" / "00.txt").unlink()
  assert f"{tmp_path}/data/00.txt ({len(TEXTS[0])} bytes) was removed" in differences(before, record(spec))


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"length": 16}, "data.length is 16, and was 32"),
    ({"packing": "padded"}, "data.packing is padded, and was packed"),
    ({"pad_multiple": 8}, "data.pad_multiple is 8, and was None"),
    ({"heldout_fraction": 0.5}, "the training text of"),
    ({"separator": "of"}, "the training text of"),
  ],
)
def test_settings_that_change_batches_are_named(tmp_path, changes, expected):
  spec = spec_of(tmp_path, write_folder(tmp_path / "data", TEXTS))
  found = differences(record(spec), record(dataclasses.replace(spec, **changes)))
  assert any(text.startswith(expected) for text in found)


def test_the_seed_the_batch_size_the_tokenizer_and_the_weights_are_named(tmp_path):
  one, other = write_folder(tmp_path / "a", TEXTS), write_jsonl(tmp_path / "b", LATE)
  spec = spec_of(tmp_path, one, sources=(one, other), weights=(0.7, 0.3))
  before = record(spec)
  assert differences(before, record(spec, seed=1)) == ["seed is 1, and was 0"]
  assert differences(before, record(spec, batch_size=8)) == ["train.batch_size is 8, and was 4"]
  weighed = dataclasses.replace(spec, weights=(0.5, 0.5))
  assert differences(before, record(weighed)) == ["data.weights is [0.5, 0.5], and was [0.7, 0.3]"]
  extended = data_record(prepare_corpus(spec, BYTES.extended(3)), TEXT, batch_size=4, seed=0)
  assert differences(before, extended)[0].startswith("tokenizer is bytes, fingerprint bytes-1+3, and was bytes,")
  assert any("sources are" in text for text in differences(before, record(spec_of(tmp_path, one))))


def test_an_edit_of_one_source_of_a_mixture_or_of_a_validation_set_is_named(tmp_path):
  one, other = write_folder(tmp_path / "a", TEXTS), write_jsonl(tmp_path / "b", TEXTS)
  mixed = spec_of(tmp_path, one, sources=(one, other), weights=(1, 2), heldout_fraction=0.0)
  validated = spec_of(tmp_path, one, heldout_sources=(other,))
  before = [record(mixed), record(validated)]
  write_jsonl(tmp_path / "b", LATE)
  for old, spec, role in zip(before, (mixed, validated), ("training", "validation"), strict=True):
    found = differences(old, record(spec))
    assert f"{tmp_path}/b.jsonl changed (" in found[0]
    assert found[1].startswith(f"the {role} text of {other}")
    assert len(found) == 2


def test_paths_and_times_of_files_are_no_difference(tmp_path):
  before = record(spec_of(tmp_path, write_folder(tmp_path / "data", TEXTS)))
  shutil.copytree(tmp_path / "data", tmp_path / "moved")
  after = record(spec_of(tmp_path, str(tmp_path / "moved"), cache_dir=str(tmp_path / "other")))
  assert differences(before, after) == []


def test_the_record_is_json_and_long_lists_of_files_are_left_out_of_it(tmp_path, monkeypatch):
  spec = spec_of(tmp_path, write_folder(tmp_path / "data", TEXTS))
  before = record(spec)
  assert json.loads(json.dumps(before)) == before
  assert len(before["sources"][0]["files"]) == len(TEXTS)
  monkeypatch.setattr(identity, "_MAX_FILES", 10)
  short = record(spec)
  assert short["sources"][0]["files"] == []
  assert short["digest"] == before["digest"]


def test_of_many_differences_the_first_are_named(tmp_path):
  spec = spec_of(tmp_path, write_folder(tmp_path / "data", TEXTS), heldout_fraction=0.0)
  before = record(spec)
  write_folder(tmp_path / "data", [text + "!" for text in TEXTS])
  found = differences(before, record(spec))
  assert len(found) == 11
  assert found[-1] == "31 more"


def test_a_difference_is_refused_unless_it_is_accepted_and_old_checkpoints_are_reported_as_old(tmp_path):
  spec = spec_of(tmp_path, write_folder(tmp_path / "data", TEXTS))
  before = record(spec)
  write_folder(tmp_path / "data", LATE)
  now = record(spec)
  with pytest.raises(LmxError, match=r"not what this run was trained on: .*39.txt changed .*--accept-changes"):
    check_sources(now, before, accept_other=False)
  assert "other data accepted: " in check_sources(now, before, accept_other=True)
  assert now["digest"][:16] in check_sources(now, now, accept_other=False)
  assert check_sources(now, None, accept_other=False) == NO_DIGEST
