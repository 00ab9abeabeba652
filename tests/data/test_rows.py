# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Packing loses nothing, repeats nothing, and never lets two documents share a segment."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from laws import assert_law_catches

from lmx.data.batches import rows as rows_module
from lmx.data.batches.rows import best_fit, make_rows, plan_packed, split_documents
from lmx.data.cache import folders
from lmx.data.cache.store import StoreWriter, TokenStore
from lmx.errors import LmxError

PACKINGS = ("packed", "concatenated", "padded")
BOS, EOS = 256, 257


def make_store(folder: Path, lengths: list[int], eos: int = EOS) -> TokenStore:
  """Documents whose ids all differ, so that a lost or repeated one shows."""
  writer = StoreWriter(folder / "store", np.dtype("<u4"))
  begin = np.cumsum([0, *lengths]) + 1000
  documents = [np.arange(first, first + n, dtype=np.int32) for first, n in zip(begin, lengths, strict=False)]
  writer.add(documents, [b"x" * 3 * n for n in lengths])
  writer.close()
  return TokenStore(folder / "store", np.dtype("<u4"), BOS, eos)


@pytest.fixture
def store(tmp_path) -> TokenStore:
  return make_store(tmp_path, [int(n) for n in np.random.default_rng(0).integers(1, 60, 80)])


def documents(store: TokenStore) -> list[np.ndarray]:
  return [store.extended(i, 0, int(n) + 2) for i, n in enumerate(store.lengths())]


def pairs(windows: list[np.ndarray]) -> list[tuple[int, int]]:
  return sorted((int(a), int(b)) for window in windows for a, b in itertools.pairwise(window))


def all_windows(rows) -> list[np.ndarray]:
  return [piece.content for i in range(len(rows)) for piece in rows[i]]


def check_pairs(rows, store: TokenStore) -> None:
  """The (token, next token) pairs of all rows are those of the documents, each once."""
  assert pairs(all_windows(rows)) == pairs(documents(store))
  assert rows.targets == len(pairs(documents(store)))


@pytest.mark.parametrize("packing", ["packed", "padded"])
@pytest.mark.parametrize("length", [7, 32, 100])
def test_rows_hold_every_pair_of_every_document_once(store, packing, length):
  rows = make_rows(store, packing=packing, length=length, lookahead=1)
  check_pairs(rows, store)
  assert all(sum(len(piece.content) - 1 for piece in rows[i]) <= length for i in range(len(rows)))
  if packing == "padded":
    assert all(len(rows[i]) == 1 for i in range(len(rows)))


def test_the_law_of_pairs_catches_rows_that_lose_the_end_of_a_document(store, monkeypatch):
  cut = TokenStore.extended
  monkeypatch.setattr(TokenStore, "extended", lambda self, d, a, b: cut(self, d, a, min(b, int(self.lengths()[d]) + 1)))
  whole = dataclasses.replace(store)
  rows = make_rows(whole, packing="packed", length=32, lookahead=1)
  windows = all_windows(rows)
  monkeypatch.undo()

  def check(windows: list[np.ndarray]) -> None:
    assert pairs(windows) == pairs(documents(store))

  assert_law_catches(check, windows)


def test_documents_that_fit_are_never_cut(store):
  rows = make_rows(store, packing="packed", length=64, lookahead=1)
  windows = all_windows(rows)
  assert len(windows) == store.documents
  assert all(window[0] == BOS and window[-1] == EOS for window in windows)


def test_packing_wastes_little_room():
  lengths = np.random.default_rng(1).integers(1, 400, 5000)
  plan = plan_packed(lengths, 1024)
  assert plan.length.sum() / ((len(plan.first) - 1) * 1024) > 0.99


def check_best_fit(pack) -> None:
  sizes = np.random.default_rng(2).integers(1, 33, 300).astype(np.int32)
  row_of = pack(sizes, 32)
  used = np.bincount(row_of, weights=sizes)
  assert used.max() <= 32
  assert len(used) <= 1.25 * sizes.sum() / 32


def test_rows_are_never_overfull_and_are_mostly_full():
  check_best_fit(best_fit)
  assert_law_catches(check_best_fit, lambda sizes, capacity: np.arange(len(sizes)))
  assert_law_catches(check_best_fit, lambda sizes, capacity: np.zeros(len(sizes), np.int64))


def test_a_long_document_is_split_into_adjacent_segments():
  document, start, length = split_documents(np.array([10, 0, 4, 5]), 4)
  assert document.tolist() == [0, 0, 0, 2, 3, 3]
  assert start.tolist() == [0, 4, 8, 0, 0, 4]
  assert length.tolist() == [4, 4, 2, 4, 4, 1]


@pytest.mark.parametrize("lookahead", [0, 1, 3])
@pytest.mark.parametrize("eos", [EOS, BOS])
def test_concatenated_rows_are_the_stream_of_all_documents(tmp_path, lookahead, eos):
  store = make_store(tmp_path, [5, 1, 30, 2, 2, 90], eos=eos)
  whole = documents(store)
  parts = [whole[0], *(document[1:] if eos == BOS else document for document in whole[1:])]
  stream = np.concatenate(parts)
  rows = make_rows(store, packing="concatenated", length=8, lookahead=lookahead)
  assert rows.targets == len(stream) - lookahead
  assert len(rows) == -(-rows.targets // 8)
  for i in range(len(rows)):
    ((window, _),) = rows[i]
    np.testing.assert_array_equal(window, stream[i * 8 : i * 8 + 8 + lookahead])


@pytest.mark.parametrize("packing", PACKINGS)
def test_without_lookahead_every_id_is_in_one_row(store, packing):
  rows = make_rows(store, packing=packing, length=16, lookahead=0)
  seen = np.sort(np.concatenate(all_windows(rows)))
  np.testing.assert_array_equal(seen, np.sort(np.concatenate(documents(store))))


def test_a_kept_plan_is_the_plan_that_was_made(store, monkeypatch):
  first = make_rows(store, packing="packed", length=32, lookahead=1)
  monkeypatch.setattr(rows_module, "plan_packed", None)
  monkeypatch.setitem(rows_module.PACKINGS, "packed", rows_module._packed)
  second = make_rows(store, packing="packed", length=32, lookahead=1)
  assert len(first) == len(second)
  for i in range(len(first)):
    for a, b in zip(first[i], second[i], strict=True):
      np.testing.assert_array_equal(a.content, b.content)


def test_a_cache_that_may_only_be_read_is_packed_all_the_same(store, monkeypatch):
  def refuse(*args, **kwargs):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(folders.tempfile, "mkdtemp", refuse)
  check_pairs(make_rows(store, packing="packed", length=32, lookahead=1), store)


def test_many_blocks_of_documents_are_packed_like_one(monkeypatch):
  lengths = np.random.default_rng(3).integers(1, 40, 1000)
  monkeypatch.setattr(rows_module, "BLOCK", 64)
  plan = plan_packed(lengths, 64)
  assert sorted(plan.document.tolist()) == list(range(1000))
  used = np.add.reduceat(plan.length, plan.first[:-1])
  assert used.max() <= 64
  assert plan.length.sum() / (64 * (len(plan.first) - 1)) > 0.9


def test_wrong_packings_are_named(store):
  with pytest.raises(LmxError, match="Did you mean 'packed'"):
    make_rows(store, packing="pack", length=8, lookahead=1)
