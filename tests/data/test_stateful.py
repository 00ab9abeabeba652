# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Stateful batches continue one another through all of the text, after interruptions and on any number of processes."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from laws import assert_law_catches

from lmx.data.cache.encoding import DataRequirements
from lmx.data.corpus import Corpus, DataSpec, epoch_stats, make_eval_batches, make_loader, prepare_corpus
from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.errors import LmxError
from lmx.shapes import RowShare

BYTES = ByteTokenizer()
LENGTH, BATCH = 8, 4
Batch = dict[str, np.ndarray]


def prepare(window: np.ndarray, rng: np.random.Generator) -> Batch:
  return {"tokens": window[:-1], "targets": window[1:], "loss_weights": rng.random(len(window) - 1, np.float32)}


NEEDS = DataRequirements(prepare, lookahead=1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
  """Two sources of documents of 1 to 40 letters, all different at their starts."""
  folder: Path = tmp_path_factory.mktemp("streams")
  for name in ("a", "b"):
    rows = [{"text": f"{name}{i}:" + "xyz"[i % 3] * (11 * i % 37)} for i in range(40)]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  names = tuple(str(folder / f"{name}.jsonl") for name in "ab")
  spec = DataSpec(sources=names, cache_dir=str(folder / "cache"), length=LENGTH, packing="streams")
  return prepare_corpus(dataclasses.replace(spec, heldout_fraction=0.2), BYTES)


def places(stores) -> np.ndarray:
  """(tokens, 3): token, target and position of every token of the text, in order."""
  parts = []
  for store in stores:
    for document, size in enumerate(store.lengths().tolist()):
      ids = store.extended(document, 0, size + 2)
      parts.append(np.stack([ids[:-1], ids[1:], np.arange(size + 1)], axis=1))
  return np.concatenate(parts)


def draw(corpus: Corpus, count: int, start: int = 0, **options) -> list[Batch]:
  loader = make_loader(corpus, NEEDS, **{"batch_size": BATCH, "seed": 0, **options})
  loader.seek(start)
  batches = [next(loader) for _ in range(count)]
  loader.close()
  return batches


def assert_same(first: list[Batch], second: list[Batch]) -> None:
  assert len(first) == len(second)
  for a, b in zip(first, second, strict=True):
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


def batches_of(corpus: Corpus) -> int:
  return epoch_stats(corpus, NEEDS, batch_size=BATCH).rows // BATCH


def check_continuity(batches: list[Batch], text: np.ndarray) -> None:
  """Row b of all batches, one after another, is the b-th of B equal parts of the text."""
  drawn = np.stack([np.stack([batch[name] for name in ("tokens", "targets", "positions")], -1) for batch in batches])
  size = len(batches) * LENGTH
  for row in range(BATCH):
    part = text[row * size : (row + 1) * size].copy()
    first = (
      int(np.argmax(np.append(part[1:LENGTH, 2] == 0, True))) + 1
    )  # Positions of the first segment, which count from 0.
    part[:first, 2] -= part[0, 2]
    np.testing.assert_array_equal(drawn[:, row].reshape(size, 3), part)


def test_each_row_continues_where_the_row_of_the_batch_before_ended(corpus):
  count, text = batches_of(corpus), places(corpus.train)
  batches = draw(corpus, count)
  check_continuity(batches, text)
  assert 0 <= len(text) - count * BATCH * LENGTH < BATCH * LENGTH
  assert_law_catches(check_continuity, [batches[1], batches[0], *batches[2:]], text)
  assert_law_catches(check_continuity, [{name: a[::-1] for name, a in batch.items()} for batch in batches], text)


def test_a_row_is_cut_into_segments_where_documents_end(corpus):
  for batch in draw(corpus, batches_of(corpus)):
    for segments, positions in zip(batch["segment_ids"], batch["positions"], strict=True):
      starts = np.flatnonzero(positions[1:] == 0) + 1
      assert segments.tolist() == (1 + np.searchsorted(starts, np.arange(LENGTH), side="right")).tolist()


def test_the_next_epoch_starts_the_streams_again(corpus):
  count = batches_of(corpus)
  batches = draw(corpus, count + 3)
  for name in ("tokens", "targets", "positions", "segment_ids"):
    np.testing.assert_array_equal(batches[count + 1][name], batches[1][name])
  assert (batches[count + 1]["loss_weights"] != batches[1]["loss_weights"]).any()


def test_no_stream_of_an_epoch_starts_with_the_state_of_another(corpus):
  count = batches_of(corpus)
  for batch in draw(corpus, count + 1)[::count]:
    np.testing.assert_array_equal(batch["positions"][:, 0], np.zeros(BATCH))
  assert (draw(corpus, 2)[1]["positions"][:, 0] > 0).any()


@pytest.mark.parametrize("start", [1, 7, 100_001])
def test_seeking_resumes_in_the_middle_of_the_streams(corpus, start):
  count = batches_of(corpus)
  there = draw(corpus, 2, start)
  if start < count:
    assert_same(there, draw(corpus, start + 2)[start:])
  else:
    np.testing.assert_array_equal(there[0]["tokens"], draw(corpus, 1, start % count)[0]["tokens"])


def check_processes(draw_part, corpus: Corpus) -> None:
  whole = draw(corpus, 4)
  parts = [draw_part(corpus, 4, share=RowShare(2, (i,))) for i in range(2)]
  assert_same(whole, [{k: np.concatenate([part[b][k] for part in parts]) for k in whole[0]} for b in range(4)])


def test_streams_do_not_depend_on_the_number_of_processes(corpus):
  check_processes(draw, corpus)

  def smaller(corpus: Corpus, count: int, **options) -> list[Batch]:
    return draw(corpus, count, batch_size=BATCH // 2)

  assert_law_catches(check_processes, smaller, corpus)


def test_an_evaluation_drops_nothing_and_continues_from_batch_to_batch(corpus):
  batches = make_eval_batches(corpus, NEEDS, batch_size=BATCH)
  drawn, text = list(batches), places(corpus.validation)
  tokens = np.concatenate([np.stack([batch["tokens"][row] for batch in drawn]).ravel() for row in range(BATCH)])
  real = np.concatenate([np.stack([batch["segment_ids"][row] for batch in drawn]).ravel() for row in range(BATCH)]) > 0
  np.testing.assert_array_equal(tokens[real], text[:, 0])
  assert batches.targets == len(text) == sum(int((batch["segment_ids"] > 0).sum()) for batch in drawn)
  assert all((batch["loss_weights"][batch["segment_ids"] == 0] == 0).all() for batch in drawn)
  some = make_eval_batches(corpus, NEEDS, batch_size=BATCH, max_rows=5)
  assert some.rows == 2 * BATCH
  assert_same(list(some), drawn[:2])


def test_streams_that_cannot_be_are_refused(corpus):
  with pytest.raises(LmxError, match=r"tokens of text do not fill one batch of 4096 x 8. Fix: a smaller"):
    draw(corpus, 1, batch_size=4096)
  weighted = dataclasses.replace(corpus, spec=dataclasses.replace(corpus.spec, weights=(1.0, 2.0)))
  with pytest.raises(LmxError, match=r"config.data.weights: got \(1.0, 2.0\)"):
    draw(weighted, 1)
