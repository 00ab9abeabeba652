# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Examples are encoded once, cached completely or not at all, packed by all groups, and read as they were encoded."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from laws import assert_law_catches

from lmx.data.batches.assemble import Assemble, Row
from lmx.data.batches.example_rows import best_fit_groups
from lmx.data.batches.rows import Segment
from lmx.data.batches.trim import trimmed
from lmx.data.cache.encoding import BadExampleError, DataRequirements, Encoded
from lmx.data.cache.store import ExampleStore
from lmx.data.corpus import (
  Corpus,
  DataSpec,
  epoch_stats,
  make_eval_batches,
  make_loader,
  prepare_corpus,
  validation_text,
)
from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.errors import LmxError
from lmx.shapes import RowShare

BYTES = ByteTokenizer()
LENGTH, MEMORY = 24, 40
COLUMNS = {"source": "source", "target": "target", "label": "label"}


class Translate:
  """The target in "tokens", the source in "encoder_tokens", and two numbers for the example."""

  columns = ("source", "target")
  optional = ("label",)
  fingerprint: ClassVar[dict[str, Any]] = {"longest": LENGTH}

  def __call__(self, row) -> Encoded:
    target, source = BYTES.encode(row["target"]), BYTES.encode(row["source"])
    if "?" in row["target"]:
      raise BadExampleError("a question", f"it is {row['target']!r}; answer it")
    number = np.float32(row.get("label", 0))
    cut = max(0, len(target) - LENGTH)
    fields = {"tokens": target[:LENGTH], "encoder_tokens": source[:MEMORY], "number": number}
    return Encoded({**fields, "matrix": np.ones((len(target) % 3, 2), np.int32)}, cut)


def prepare_pairs(fields, rng: np.random.Generator) -> dict[str, np.ndarray]:
  tokens = fields["tokens"]
  weights = rng.random(len(tokens), np.float32)
  return {"tokens": tokens, "targets": tokens + 1, "loss_weights": weights, "encoder_tokens": fields["encoder_tokens"]}


def prepare_number(fields, rng: np.random.Generator) -> dict[str, np.ndarray]:
  return {"tokens": fields["tokens"], "labels": fields["number"], "loss_weights": np.float32(1)}


PAIRS = DataRequirements(prepare_pairs, encoder=Translate())
NUMBER = DataRequirements(prepare_number, encoder=Translate(), per_row=("labels", "loss_weights"))
ROWS = [
  {"source": chr(97 + i % 26) * (1 + 7 * i % 37), "target": chr(65 + i % 26) * (1 + 5 * i % 23), "label": i}
  for i in range(120)
]


def write_rows(path: Path, rows: list[dict]) -> Path:
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
  folder = tmp_path_factory.mktemp("examples")
  return prepare_corpus(spec_of(folder, ROWS), BYTES, encoder=Translate())


def spec_of(folder: Path, rows: list[dict], **changes) -> DataSpec:
  path = write_rows(folder / "rows.jsonl", rows)
  spec = DataSpec(sources=(str(path),), columns=COLUMNS, cache_dir=str(folder / "cache"), heldout_fraction=0.25)
  return dataclasses.replace(spec, length=LENGTH, encoder_length=MEMORY, **changes)


def only_store(corpus: Corpus) -> ExampleStore:
  (store,) = corpus.train
  assert isinstance(store, ExampleStore)
  return store


def test_a_store_gives_back_what_the_encoder_made(corpus):
  encode = Translate()
  held = {chr(part[0]) + str(len(part)) for part in heldout_tokens(corpus)}
  kept = [row for row in ROWS if row["target"][0] + str(len(row["target"])) not in held]
  store = only_store(corpus)
  numbers = {float(store[i]["number"]) for i in range(store.documents)}
  assert {float(row["label"]) for row in kept} <= numbers
  for index in range(store.documents):
    fields = store[index]
    expected = encode(ROWS[int(fields["number"])]).fields
    assert fields.keys() == expected.keys()
    for name, array in expected.items():
      assert fields[name].dtype == array.dtype
      assert fields[name].shape == array.shape
      np.testing.assert_array_equal(fields[name], array)
  assert store.groups == ("", "encoder_")


def heldout_tokens(corpus: Corpus) -> list[np.ndarray]:
  (store,) = corpus.validation
  return [store[i]["tokens"] for i in range(store.documents)]  # type: ignore[index]


@pytest.mark.parametrize("split", ["document", "tail"])
def test_every_row_is_on_exactly_one_side(tmp_path, split):
  corpus = prepare_corpus(spec_of(tmp_path, ROWS, heldout_split=split), BYTES, encoder=Translate())
  parts = [[int(store[i]["number"]) for i in range(store.documents)] for store in (*corpus.train, *corpus.validation)]
  assert sorted(parts[0] + parts[1]) == list(range(120))
  assert 15 < len(parts[1]) < 50
  if split == "tail":
    assert parts[0] + parts[1] == list(range(120))
  assert validation_text(corpus) == b""
  stats = (*corpus.train_stats, *corpus.validation_stats)
  assert sum(one.documents for one in stats) == 120
  assert sum(one.tokens for one in stats) == sum(len(row["source"]) + len(row["target"]) for row in ROWS)
  assert "examples" in corpus.describe()


def test_truncated_examples_are_counted_and_reported(tmp_path):
  rows = [*ROWS[:5], {"source": "a", "target": "b" * (LENGTH + 9)}, {"source": "a", "target": "b" * (LENGTH + 1)}]
  spec = spec_of(tmp_path, [{**row, "label": 1} for row in rows], heldout_split="tail")
  for _ in range(2):  # Made, and from the cache.
    corpus = prepare_corpus(spec, BYTES, encoder=Translate())
    assert (corpus.notes[0].cut, corpus.notes[0].cut_tokens) == (2, 10)
    assert "truncated: 2 examples, by 10 tokens" in corpus.describe()


BAD_ROWS = {
  "empty column 'target'": {"source": "a", "target": " "},
  "no column 'source'": {"target": "a"},
  "a question": {"source": "a", "target": "why?"},
  "not valid Unicode": {"source": "a", "target": "\ud800"},
}


@pytest.mark.parametrize("reason", BAD_ROWS)
def test_a_bad_row_is_named_with_its_file_and_line_or_skipped_and_counted(tmp_path, reason):
  spec = spec_of(tmp_path, [*ROWS[:7], BAD_ROWS[reason], *ROWS[7:30]])
  with pytest.raises(LmxError) as caught:
    prepare_corpus(spec, BYTES, encoder=Translate())
  assert f"rows.jsonl:8: {reason}" in str(caught.value)
  assert "--config.data.bad_documents=skip" in str(caught.value)
  assert not list(Path(spec.cache_dir).iterdir())
  corpus = prepare_corpus(dataclasses.replace(spec, bad_documents="skip"), BYTES, encoder=Translate())
  assert corpus.notes[0].skipped == {reason: 1}
  assert f"rows.jsonl:8: {reason}" in corpus.notes[0].examples[reason]
  assert sum(one.documents for one in (*corpus.train_stats, *corpus.validation_stats)) == 30


def test_an_encoder_that_fails_names_the_row(tmp_path):
  class Failing(Translate):
    def __call__(self, row) -> Encoded:
      raise KeyError("mistake")

  with pytest.raises(KeyError, match="mistake") as caught:
    prepare_corpus(spec_of(tmp_path, ROWS[:3]), BYTES, encoder=Failing())
  assert any("rows.jsonl:1" in note for note in caught.value.__notes__)


def test_another_encoder_or_column_gets_another_cache(tmp_path):
  spec = spec_of(tmp_path, [{**row, "other": "x"} for row in ROWS])
  other = Translate()
  other.fingerprint = {"longest": 3}  # type: ignore[misc]
  renamed = dataclasses.replace(spec, columns={**COLUMNS, "target": "other"})
  cases = ((spec, Translate(), False), (spec, Translate(), True), (spec, other, False), (renamed, Translate(), False))
  for one, encoder, reused in cases:
    assert prepare_corpus(one, BYTES, encoder=encoder).notes[0].reused == reused
  assert len(list(Path(spec.cache_dir).iterdir())) == 3


@pytest.mark.parametrize("name", ["tokens.bin", "number.offsets.npy", "fields.json", "sizes.npy"])
def test_a_cache_of_examples_that_lacks_a_part_is_named_and_made_again(tmp_path, capsys, name):
  spec = spec_of(tmp_path, ROWS)
  folder = only_store(prepare_corpus(spec, BYTES, encoder=Translate())).folder
  before = (folder / name).read_bytes()
  (folder / name).unlink()
  corpus = prepare_corpus(spec, BYTES, encoder=Translate())
  assert not corpus.notes[0].reused
  assert f"cache: {folder / name} is damaged: it is missing" in capsys.readouterr().out
  assert (folder / name).read_bytes() == before


KILLED = """
import sys, time
sys.path[:0] = {paths!r}
import test_examples as t
from pathlib import Path
class Slow(t.Translate):
  def __call__(self, row):
    if row["label"] == 60:
      print("ready", flush=True)
      time.sleep(60)
    return super().__call__(row)
t.prepare_corpus(t.spec_of(Path({folder!r}), t.ROWS), t.BYTES, encoder=Slow())
"""


def test_a_killed_preparation_is_never_taken_for_complete(tmp_path):
  tests = Path(__file__).parent
  code = KILLED.format(paths=[str(tests), str(tests.parent)], folder=str(tmp_path))
  environment = {**os.environ, "PYTHONPATH": str(tests.parents[1])}
  with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as process:
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
  cache = tmp_path / "cache"
  assert len(list(cache.iterdir())) == 1
  corpus = prepare_corpus(spec_of(tmp_path, ROWS), BYTES, encoder=Translate())
  assert not corpus.notes[0].reused
  assert sum(one.documents for one in (*corpus.train_stats, *corpus.validation_stats)) == 120
  assert not [path for path in cache.iterdir() if ".partial-" in path.name]


def with_packing(corpus: Corpus, packing: str) -> Corpus:
  return dataclasses.replace(corpus, spec=dataclasses.replace(corpus.spec, packing=packing))


def draw(corpus: Corpus, needs: DataRequirements, count: int, packing: str = "packed", **options) -> list[Row]:
  loader = make_loader(with_packing(corpus, packing), needs, **{"batch_size": 4, "seed": 1, **options})
  batches = [next(loader) for _ in range(count)]
  loader.close()
  return batches


def check_groups(row: dict[str, np.ndarray]) -> None:
  """Segment s of both groups is the same example, positions restart at 0 in it, and padding weighs nothing."""
  last = int(row["segment_ids"].max())
  assert last == int(row["encoder_segment_ids"].max()) > 0
  for segment in range(1, last + 1):
    places, memory = (np.flatnonzero(row[group + "segment_ids"] == segment) for group in ("", "encoder_"))
    target, source = bytes(row["tokens"][places].tolist()), bytes(row["encoder_tokens"][memory].tolist())
    assert (source.decode(), target.decode()) in {(one["source"], one["target"]) for one in ROWS}
    assert row["positions"][places].tolist() == list(range(len(places)))
    assert row["encoder_positions"][memory].tolist() == list(range(len(memory)))
  padding = row["segment_ids"] == 0
  assert (row["loss_weights"][padding] == 0).all()
  assert (row["tokens"][padding] == BYTES.pad_id).all()
  assert (row["targets"][padding] == BYTES.pad_id).all()
  assert (row["encoder_tokens"][row["encoder_segment_ids"] == 0] == BYTES.pad_id).all()


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_an_epoch_has_every_example_once_in_segments_that_count_alike(corpus, packing):
  stats = epoch_stats(with_packing(corpus, packing), PAIRS, batch_size=1)
  batches = draw(corpus, PAIRS, stats.rows, batch_size=1, packing=packing)
  rows = [{name: array[0] for name, array in batch.items()} for batch in batches]
  for row in rows:
    check_groups(row)
    assert row["tokens"].shape == row["targets"].shape == row["loss_weights"].shape == (LENGTH,)
    assert row["encoder_tokens"].shape == row["encoder_positions"].shape == (MEMORY,)
  assert sum(int(row["segment_ids"].max()) for row in rows) == only_store(corpus).documents
  assert sum(int((row["segment_ids"] > 0).sum()) for row in rows) == stats.targets
  assert (max(int(row["segment_ids"].max()) for row in rows) > 1) == (packing == "packed")
  assert stats.bytes_per_target is None


def test_the_law_of_groups_catches_a_source_that_went_to_another_target(corpus):
  row = next(
    {name: array[0] for name, array in batch.items()}
    for batch in draw(corpus, PAIRS, 60, batch_size=1)
    if batch["segment_ids"].max() > 1
  )
  check_groups(row)
  swapped = np.where(
    row["encoder_segment_ids"] > 0, row["encoder_segment_ids"].max() + 1 - row["encoder_segment_ids"], 0
  )
  assert_law_catches(check_groups, {**row, "encoder_segment_ids": swapped})


def check_fit(pack) -> None:
  """No row is overfull in either group, and the scarcer one is mostly full."""
  random, room = np.random.default_rng(0), np.array([64, 96])
  sizes = np.stack([random.integers(1, 40, 3000), random.integers(1, 60, 3000)], axis=1)
  row_of = pack(sizes, room)
  used = np.stack([np.bincount(row_of, weights=sizes[:, group]) for group in range(2)], axis=1)
  assert (used <= room).all()
  assert len(used) <= 1.1 * (sizes.sum(axis=0) / room).max()


def test_rows_with_two_kinds_of_room_are_never_overfull_and_are_mostly_full():
  check_fit(best_fit_groups)
  assert_law_catches(check_fit, lambda sizes, room: np.arange(len(sizes)))
  assert_law_catches(check_fit, lambda sizes, room: best_fit_groups(sizes[:, :1], room[:1]))


def test_an_example_that_is_longer_than_a_row_names_the_key_to_raise(corpus):
  for length, memory, key in ((10, MEMORY, "length"), (LENGTH, 12, "encoder_length")):
    small = dataclasses.replace(corpus, spec=dataclasses.replace(corpus.spec, length=length, encoder_length=memory))
    with pytest.raises(LmxError, match=rf"config.data.{key}: got .* are longer; .* Fix: --config.data.{key}=\d+"):
      draw(small, PAIRS, 1)


def test_values_of_a_row_are_never_padded_and_need_one_example_per_row(corpus):
  (batch,) = draw(corpus, NUMBER, 1, packing="padded")
  assert batch["labels"].shape == batch["loss_weights"].shape == (4,)
  assert batch["tokens"].shape == (4, LENGTH)
  for tokens, segments, number in zip(batch["tokens"], batch["segment_ids"], batch["labels"], strict=True):
    assert bytes(tokens[segments > 0].tolist()).decode() == ROWS[int(number)]["target"]
  with pytest.raises(LmxError, match=r"config.data.packing: got 'packed'. Allowed: padded.*labels, loss_weights"):
    draw(corpus, NUMBER, 1)
  with pytest.raises(LmxError, match=r"config.data.packing: got 'streams'.*never split"):
    draw(corpus, PAIRS, 1, packing="streams")


def test_rows_that_pad_the_last_validation_batch_have_no_weight(corpus):
  batches = make_eval_batches(with_packing(corpus, "padded"), NUMBER, batch_size=7)
  drawn = list(batches)
  assert {batch["labels"].shape for batch in drawn} == {(7,)}
  weights = np.concatenate([batch["loss_weights"] for batch in drawn])
  assert weights.sum() == batches.rows == corpus.validation_stats[0].documents
  assert (weights[batches.rows :] == 0).all()
  assert batches.bytes_per_target is None


def test_batches_of_examples_do_not_depend_on_the_number_of_processes(corpus):
  whole = draw(corpus, PAIRS, 5)
  parts = [draw(corpus, PAIRS, 5, share=RowShare(2, (i,))) for i in range(2)]
  for number, batch in enumerate(whole):
    for name, array in batch.items():
      np.testing.assert_array_equal(array, np.concatenate([part[number][name] for part in parts]))


def test_groups_get_their_own_lengths_and_positions_of_the_objective_win():
  def prepare(fields, rng):
    tokens = fields["tokens"]
    rejected = {"rejected_tokens": tokens[:2], "rejected_loss_weights": np.ones(2, np.float32)}
    return {"tokens": tokens, "positions": tokens * 10, "token_types": np.ones_like(tokens), **rejected}

  assemble = Assemble(DataRequirements(prepare), {"": 6, "encoder_": 3}, pad_id=9)
  segments = [Segment({"tokens": np.array(ids, np.int32)}) for ids in ([1, 2], [3, 4, 5])]
  row = assemble(segments, np.random.default_rng(0))
  expected = {
    "tokens": [1, 2, 3, 4, 5, 9],
    "positions": [10, 20, 30, 40, 50, 0],
    "segment_ids": [1, 1, 2, 2, 2, 0],
    "token_types": [1, 1, 1, 1, 1, 0],
    "rejected_tokens": [1, 2, 3, 4, 9, 9],
    "rejected_positions": [0, 1, 0, 1, 0, 0],
    "rejected_segment_ids": [1, 1, 2, 2, 0, 0],
    "rejected_loss_weights": [1, 1, 1, 1, 0, 0],
  }
  assert {name: array.tolist() for name, array in row.items()} == expected


def test_a_window_may_be_planned_longer_than_the_row_it_becomes(tmp_path):
  def halve(window, rng):
    half = len(window) // 2
    return {"encoder_tokens": window[half:], "tokens": window[:half], "loss_weights": np.ones(half, np.float32)}

  (tmp_path / "a.txt").write_text("abcdefghij" * 40)
  spec = DataSpec(
    sources=(str(tmp_path / "a.txt"),), cache_dir=str(tmp_path), heldout_fraction=0, length=8, encoder_length=9
  )
  corpus = prepare_corpus(spec, BYTES)
  needs = DataRequirements(halve, window_length=16)
  (batch,) = draw(corpus, needs, 1, batch_size=2)
  assert (batch["tokens"].shape, batch["encoder_tokens"].shape) == ((2, 8), (2, 9))
  assert epoch_stats(corpus, needs, batch_size=2).rows == -(-402 // 16)
  longer = dataclasses.replace(corpus, spec=dataclasses.replace(spec, length=20))
  with pytest.raises(LmxError, match=r"config.data.encoder_length: got 9, but the objective made 10 encoder_tokens"):
    draw(longer, dataclasses.replace(needs, window_length=20), 1, batch_size=2)


def test_each_group_ends_with_its_own_longest_row_and_values_of_a_row_stay():
  segments = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]], np.int32)
  batch = {
    "tokens": np.arange(12).reshape(2, 6),
    "segment_ids": segments,
    "encoder_tokens": np.arange(16).reshape(2, 8),
    "encoder_segment_ids": np.eye(2, 8, dtype=np.int32),
    "labels": np.zeros((2, 6), np.float32),
  }
  shapes = {name: array.shape for name, array in trimmed(batch, 4, ("labels",)).items()}
  assert shapes == {
    "tokens": (2, 4),
    "segment_ids": (2, 4),
    "encoder_tokens": (2, 4),
    "encoder_segment_ids": (2, 4),
    "labels": (2, 6),
  }
  assert trimmed(batch, 64, ("labels",))["tokens"].shape == (2, 6)
