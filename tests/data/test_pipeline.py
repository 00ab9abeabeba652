# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Batches are a pure function of the seed and their number, however many processes and threads make them."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
from laws import assert_law_catches

from lmx.data.batches.assemble import Assemble
from lmx.data.batches.pipeline import batch_fingerprint, combine_fingerprints
from lmx.data.batches.rows import Segment
from lmx.data.corpus import (
  Corpus,
  DataRequirements,
  DataSpec,
  epoch_stats,
  make_eval_batches,
  make_loader,
  prepare_corpus,
)
from lmx.data.tokenizers.tokenizer import ByteTokenizer, train_sentencepiece
from lmx.errors import LmxError
from lmx.shapes import RowShare

NAMES = {"tokens", "targets", "loss_weights", "segment_ids", "positions"}
LENGTH, BATCH = 32, 8


def prepare(window: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
  return {"tokens": window[:-1], "targets": window[1:], "loss_weights": np.ones(len(window) - 1, np.float32)}


def prepare_random(window: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
  row = prepare(window, rng)
  return {**row, "loss_weights": rng.random(len(row["tokens"]), np.float32)}


NEEDS = DataRequirements(prepare, lookahead=1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
  folder = tmp_path_factory.mktemp("corpus")
  for name, first in (("a", "a"), ("b", "b")):
    texts = [first * (3 + 7 * i % 29) + str(i) for i in range(150)]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
  spec = DataSpec(
    sources=(str(folder / "a.jsonl"), str(folder / "b.jsonl")),
    cache_dir=str(folder / "cache"),
    heldout_fraction=0.2,
    length=LENGTH,
  )
  return prepare_corpus(spec, ByteTokenizer())


def with_spec(corpus: Corpus, **changes) -> Corpus:
  return dataclasses.replace(corpus, spec=dataclasses.replace(corpus.spec, **changes))


def loader(corpus: Corpus, how=prepare, packing="packed", **options):
  corpus = with_spec(corpus, packing=packing)
  return make_loader(corpus, DataRequirements(how, lookahead=1), **{"batch_size": BATCH, "seed": 3, **options})


def draw(corpus: Corpus, count: int, start: int = 0, **options) -> list[dict[str, np.ndarray]]:
  batches = loader(corpus, **options)
  batches.seek(start)
  drawn = [next(batches) for _ in range(count)]
  assert batches.position == start + count
  batches.close()
  return drawn


def assert_same(first: list[dict], second: list[dict]) -> None:
  assert len(first) == len(second)
  for a, b in zip(first, second, strict=True):
    assert set(a) == set(b)
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


def test_a_batch_has_the_fixed_names_shapes_and_types(corpus):
  (batch,) = draw(corpus, 1)
  assert set(batch) == NAMES
  for name, array in batch.items():
    assert array.shape == (BATCH, LENGTH)
    assert array.dtype == (np.float32 if name == "loss_weights" else np.int32)


def check_segments(batch: dict[str, np.ndarray]) -> None:
  """Segments count from 1, padding is 0 at the end and weighs nothing, positions restart at 0 in each segment."""
  for i in range(len(batch["tokens"])):
    segments, positions = batch["segment_ids"][i], batch["positions"][i]
    used = int((segments > 0).sum())
    assert (segments[used:] == 0).all()
    assert (batch["loss_weights"][i][used:] == 0).all()
    starts = np.flatnonzero(np.diff(segments[:used], prepend=0))
    assert segments[starts].tolist() == list(range(1, len(starts) + 1))
    for begin, end in zip(starts, [*starts[1:], used], strict=True):
      assert positions[begin:end].tolist() == list(range(end - begin))
      assert (batch["targets"][i][begin : end - 1] == batch["tokens"][i][begin + 1 : end]).all()


def test_packed_rows_keep_documents_apart(corpus):
  batches = draw(corpus, 20)
  assert any(batch["segment_ids"].max() > 1 for batch in batches)
  for batch in batches:
    check_segments(batch)

  def broken(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**batch, "positions": np.broadcast_to(np.arange(LENGTH), (BATCH, LENGTH))}

  assert_law_catches(check_segments, broken(next(b for b in batches if b["segment_ids"].max() > 1)))


@pytest.mark.parametrize("packing", ["packed", "padded", "concatenated"])
def test_an_epoch_has_every_row_once_and_the_next_is_in_another_order(corpus, packing):
  stats = epoch_stats(with_spec(corpus, packing=packing), NEEDS, batch_size=BATCH)
  rows = stats.rows
  batches = draw(corpus, 2 * rows // 2, batch_size=2, packing=packing)
  keys = [row.tobytes() for batch in batches for row in batch["tokens"]]
  first, second = keys[:rows], keys[rows : 2 * rows]
  assert Counter(first) == Counter(second)
  assert first != second
  weight = sum(float(batch["loss_weights"].sum()) for batch in batches)
  assert weight == 2 * stats.targets


def test_the_seed_decides_the_order(corpus):
  assert_same(draw(corpus, 3), draw(corpus, 3))
  other = draw(corpus, 3, seed=4)
  assert any((a["tokens"] != b["tokens"]).any() for a, b in zip(draw(corpus, 3), other, strict=True))


def check_processes(draw_part, corpus: Corpus) -> None:
  """The parts that processes get, one after another, are the batch that one process gets."""
  whole = draw(corpus, 4, how=prepare_random)
  for count in (2, 4):
    parts = [draw_part(corpus, 4, how=prepare_random, share=RowShare(count, (i,))) for i in range(count)]
    joined = [{k: np.concatenate([p[b][k] for p in parts]) for k in whole[0]} for b in range(4)]
    assert_same(whole, joined)


@pytest.mark.parametrize("weights", [(), (3.0, 1.0)])
def test_the_order_does_not_depend_on_the_number_of_processes(corpus, weights):
  corpus = with_spec(corpus, weights=weights)
  check_processes(draw, corpus)

  def shifted(corpus: Corpus, count: int, *, share: RowShare, **options):
    return draw(corpus, count, share=RowShare(share.parts, ((share.held[0] + 1) % share.parts,)), **options)

  assert_law_catches(check_processes, shifted, corpus)


def test_rows_that_are_not_neighbors_are_those_of_the_batch(corpus):
  """A host of a TPU slice holds rows from all over the batch."""
  whole = draw(corpus, 4, how=prepare_random, batch_size=8)
  for held in ((0, 3), (1, 2), (0, 1, 3)):
    got = draw(corpus, 4, how=prepare_random, batch_size=8, share=RowShare(4, held))
    rows = [row for part in held for row in (2 * part, 2 * part + 1)]
    assert_same([{name: a[rows] for name, a in batch.items()} for batch in whole], got)


@pytest.mark.parametrize(("threads", "prefetch"), [(0, 0), (1, 1), (3, 8)])
def test_the_order_does_not_depend_on_threads(corpus, threads, prefetch):
  changed = with_spec(corpus, threads=threads, prefetch_batches=prefetch)
  assert_same(draw(corpus, 6, how=prepare_random), draw(changed, 6, how=prepare_random))


@pytest.mark.parametrize("start", [1, 5, 100, 10_000_000])
def test_seeking_gives_the_batches_that_drawing_would_have_reached(corpus, start):
  corpus = with_spec(corpus, weights=(2.0, 1.0))
  expected = (
    draw(corpus, start + 2, how=prepare_random)[-2:] if start <= 100 else draw(corpus, 2, start, how=prepare_random)
  )
  batches = loader(corpus, prepare_random)
  next(batches)
  batches.seek(start)
  assert_same(expected, [next(batches), next(batches)])
  assert batches.position == start + 2
  batches.close()


def test_batches_made_ahead_do_not_move_the_position(corpus):
  batches = loader(with_spec(corpus, prefetch_batches=16))
  first = [next(batches) for _ in range(3)]
  assert batches.position == 3
  resumed = draw(corpus, 2, start=batches.position)
  assert_same(resumed, [next(batches), next(batches)])
  assert len(first) == 3
  assert batches.wait_seconds > 0
  batches.close()


def share_of_a(batches: list[dict[str, np.ndarray]]) -> float:
  """Of the rows with letters: some have only the digits at the end of a long document."""
  tokens = np.concatenate([batch["tokens"] for batch in batches])
  a, b = ((tokens == ord(letter)).any(axis=1).sum() for letter in "ab")
  return a / (a + b)


@pytest.mark.parametrize("weights", [(3.0, 1.0), (1.0, 9.0)])
def test_a_mixture_draws_rows_in_proportion_to_the_weights(corpus, weights):
  share = share_of_a(draw(with_spec(corpus, weights=weights), 50, packing="padded"))
  assert abs(share - weights[0] / sum(weights)) < 0.02


def test_bytes_per_target_follows_the_mixture(tmp_path):
  for name, text in (("wide", "\u65e5" * 40), ("thin", "x" * 40)):
    (tmp_path / f"{name}.txt").write_text("\n".join(text + str(i) for i in range(50)), encoding="utf-8")
  base = DataSpec(
    sources=(str(tmp_path / "wide.txt"), str(tmp_path / "thin.txt")),
    separator="\n",
    cache_dir=str(tmp_path / "cache"),
    length=64,
    packing="padded",
  )

  tokenizer = train_sentencepiece(["\u65e5x0123456789"], vocab_size=0, model_type="char")

  def bytes_per_target(*weights):
    corpus = prepare_corpus(dataclasses.replace(base, weights=weights), tokenizer)
    return epoch_stats(corpus, NEEDS, batch_size=BATCH).bytes_per_target

  assert bytes_per_target() == pytest.approx(bytes_per_target(1.0, 1.0), rel=0.1)
  assert 2.5 < bytes_per_target(100.0, 1.0) < 3.0
  assert 0.9 < bytes_per_target(1.0, 100.0) < 1.1


def test_sources_of_a_mixture_are_shuffled_apart(corpus):
  twice = (corpus.train[0], corpus.train[0])
  same = dataclasses.replace(with_spec(corpus, weights=(1.0, 1.0)), train=twice)
  tokens = np.concatenate([batch["tokens"] for batch in draw(same, 4, packing="padded")])
  assert (tokens[0::2] != tokens[1::2]).any(axis=1).sum() > len(tokens) // 4


def test_the_fingerprint_does_not_depend_on_the_processes_but_on_every_value(corpus):
  whole, half = loader(corpus), [loader(corpus, share=RowShare(4, held)) for held in ((0, 3), (1, 2))]
  for batches in (whole, *half):
    batches.seek(7)
  batch = next(whole)
  for part in half:
    next(part)
  (found,) = whole.fingerprints().values()
  assert found == combine_fingerprints([text for part in half for text in part.fingerprints().values()])
  assert found == batch_fingerprint({k: v[::-1] for k, v in batch.items()})
  for name in NAMES:
    changed = {k: v.copy() for k, v in batch.items()}
    changed[name][0, 0] += 1
    assert batch_fingerprint(changed) != found
  for batches in (whole, *half):
    batches.close()


def validation_batches(corpus: Corpus, how=prepare, packing="packed", **options):
  corpus = with_spec(corpus, packing=packing)
  return make_eval_batches(corpus, DataRequirements(how, lookahead=1), **{"batch_size": BATCH, **options})


@pytest.mark.parametrize("packing", ["packed", "padded", "concatenated"])
def test_evaluation_reads_the_validation_text_once(corpus, packing):
  batches = validation_batches(corpus, packing=packing)
  drawn = list(batches)
  assert len(drawn) == len(batches)
  assert sum(float(batch["loss_weights"].sum()) for batch in drawn) == batches.targets
  assert batches.bytes == sum(store.text_bytes for store in corpus.validation)
  assert {batch["tokens"].shape for batch in drawn} == {(BATCH, LENGTH)}
  assert_same(drawn, list(batches))


def test_rows_that_fill_the_last_batch_weigh_nothing(corpus):
  batches = validation_batches(corpus, batch_size=7)
  last = list(batches)[-1]
  extra = len(batches) * 7 - batches.rows
  assert extra > 0
  assert (last["loss_weights"][-extra:] == 0).all()
  assert (last["segment_ids"][-extra:] == 0).all()
  assert (last["segment_ids"][:-extra].max(axis=1) > 0).all()


def test_evaluation_is_the_same_for_any_number_of_processes(corpus):
  whole = list(validation_batches(corpus, prepare_random))
  parts = [list(validation_batches(corpus, prepare_random, share=RowShare(2, (i,)))) for i in range(2)]
  joined = [{k: np.concatenate([p[b][k] for p in parts]) for k in whole[0]} for b in range(len(whole))]
  assert_same(whole, joined)


def test_a_few_rows_are_spread_over_the_validation_text(corpus):
  batches = validation_batches(corpus, max_rows=4, batch_size=4, packing="padded")
  (batch,) = list(batches)
  assert batches.rows == 4
  letters = [{ord("a"), ord("b")} & set(row.tolist()) for row in batch["tokens"]]
  assert (letters[0], letters[-1]) == ({ord("a")}, {ord("b")})
  everything = validation_batches(corpus, packing="padded")
  assert batches.bytes_per_target == pytest.approx(everything.bytes_per_target)


def test_an_empty_validation_set_is_an_error(corpus):
  with pytest.raises(LmxError, match=r"There is no validation set.*heldout_sources"):
    validation_batches(dataclasses.replace(corpus, validation=()))


def test_a_batch_that_does_not_divide_over_the_processes_is_refused(corpus):
  with pytest.raises(LmxError, match=r"got 9. Allowed: a multiple of the parts .* \(2\)"):
    loader(corpus, batch_size=9, share=RowShare(2))


def test_an_objective_that_makes_too_many_tokens_is_named():
  with pytest.raises(LmxError, match=r"config.data.length: got 8, but the objective made 9 tokens for a row"):
    Assemble(NEEDS, {"": 8}, 0)([Segment(np.arange(10, dtype=np.int32))], np.random.default_rng(0))


@pytest.mark.parametrize(("ids", "wrong"), [([1, 9, 3], 9), ([1, -1, 3], -1), ([1, 65535, 3], 65535)])
def test_an_id_beyond_the_vocabulary_never_gets_into_a_batch(ids, wrong):
  rng = np.random.default_rng(0)
  piece = [Segment(np.array([*ids, 0], np.int32))]
  assert Assemble(NEEDS, {"": 8}, 0, 70_000 if wrong > 0 else None)(piece, rng)["tokens"][1] == wrong
  with pytest.raises(LmxError, match=rf"a batch has the id {wrong}, and the tokenizer has 0 to 8: .*doctor --verify"):
    Assemble(NEEDS, {"": 8}, 0, 9)(piece, rng)


def test_a_cache_that_rots_while_it_is_read_does_not_reach_the_model(corpus):
  (store,) = corpus.train[:1]
  values = store._field.values.copy()
  values[len(values) // 2] = 60_000
  vars(store._field)["values"] = values  # As a page that the disk gives back wrongly.
  try:
    with pytest.raises(LmxError, match=r"a batch has the id 60000, and the tokenizer has 0 to"):
      draw(corpus, 1 + epoch_stats(corpus, NEEDS, batch_size=BATCH).rows // BATCH)
  finally:
    del vars(store._field)["values"]


def test_an_error_while_a_batch_is_made_reaches_the_caller(corpus):
  def failing(window, rng):
    raise RuntimeError("broken objective")

  batches = loader(corpus, failing)
  with pytest.raises(RuntimeError, match="broken objective"):
    next(batches)
  batches.close()


# ---------------------------------------------------------------- batches that end with their longest row


def check_only_padding_is_cut(cut: list[dict[str, np.ndarray]], whole: list[dict[str, np.ndarray]]) -> None:
  for short, long in zip(cut, whole, strict=True):
    end = short["tokens"].shape[1]
    longest = int((long["segment_ids"] > 0).sum(axis=1).max())
    assert end == min(LENGTH, -(-longest // 4) * 4)
    assert_same([short], [{name: array[:, :end] for name, array in long.items()}])


@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_can_end_with_its_longest_row_on_every_process_alike(corpus, count):
  short = with_spec(corpus, pad_multiple=4)
  options = {"how": prepare_random, "packing": "padded", "batch_size": 4}
  whole = draw(corpus, 12, **options)
  parts = [draw(short, 12, share=RowShare(count, (i,)), **options) for i in range(count)]
  cut = [{name: np.concatenate([p[name] for p in part]) for name in part[0]} for part in zip(*parts, strict=True)]
  assert len({batch["tokens"].shape[1] for batch in cut}) > 1
  check_only_padding_is_cut(cut, whole)
  assert_law_catches(lambda batches: check_only_padding_is_cut(batches, whole), whole)
