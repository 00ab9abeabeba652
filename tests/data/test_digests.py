# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A cache is believed because of its digests: whatever changes in it, or in what it was made from, is noticed."""

import dataclasses
import errno
import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from laws import assert_law_catches

from lmx.data import digests
from lmx.data.batches.rows import make_rows
from lmx.data.cache import folders
from lmx.data.corpus import DataSpec, make_tokenizer, prepare_corpus
from lmx.data.digests import CacheWriteError, DamageError, DigestFile, check_folder, sample_digest, stamp_of
from lmx.data.tokenizers.tokenizer import ByteTokenizer, TokenizerSpec
from lmx.errors import LmxError

BYTES = ByteTokenizer()
PARTS = ["train/tokens.bin", "train/tokens.offsets.npy", "train/sizes.npy", "heldout/text.txt", "manifest.json"]


@pytest.fixture
def spec(tmp_path) -> DataSpec:
  path = tmp_path / "text.jsonl"
  rows = [{"text": f"document {i}: " + "words \u00e9\n" * (i % 5)} for i in range(60)]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return DataSpec(sources=(str(path),), cache_dir=str(tmp_path / "cache"), heldout_fraction=0.3, length=32)


def only_cache(spec: DataSpec) -> Path:
  (folder,) = Path(spec.cache_dir).iterdir()
  return folder


def ids_of(spec: DataSpec) -> list[int]:
  (store,) = prepare_corpus(spec, BYTES).train
  return [int(i) for document in range(store.documents) for i in store.extended(document, 0, 5)]


def flip(path: Path, place: int = -1) -> None:
  data = bytearray(path.read_bytes())
  data[place] ^= 1
  with path.open("r+b") as file:
    file.write(data)


def keep_times(path: Path, change: Callable[[Path], object]) -> None:
  """Changes a file and restores its times, as `cp -p` and `tar` do."""
  stat = path.stat()
  change(path)
  os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
  assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


# ---------------------------------------------------------------- caches


def check_noticed(spec: DataSpec, name: str, change: Callable[[Path], object]) -> None:
  """A damaged file of a cache is named, and the cache made again as it was."""
  prepare_corpus(spec, BYTES)
  file = only_cache(spec) / name
  before = file.read_bytes()
  change(file)
  corpus = prepare_corpus(spec, BYTES)
  assert not corpus.notes[0].reused
  assert file.read_bytes() == before
  assert prepare_corpus(spec, BYTES).notes[0].reused


@pytest.mark.parametrize("name", [*PARTS, "digests.json"])
@pytest.mark.parametrize("change", [flip, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-2])])
def test_a_damaged_cache_is_named_and_made_again(spec, capsys, name, change):
  check_noticed(spec, name, change)
  out = capsys.readouterr().out
  assert f"{spec.cache_dir}/" in out
  assert Path(name).name in out
  assert "again" in out


@pytest.mark.parametrize("name", PARTS)
def test_one_byte_altered_without_another_size_or_time_is_noticed(spec, name):
  check_noticed(spec, name, lambda path: keep_times(path, flip))


def test_the_law_of_caches_catches_a_check_that_only_looks_at_sizes(spec, monkeypatch):
  monkeypatch.setattr(digests, "stamp_of", lambda path: [path.stat().st_size])
  assert_law_catches(check_noticed, spec, "train/tokens.bin", flip)


def test_stamps_that_are_lost_cost_a_second_reading_and_nothing_else(spec):
  before = ids_of(spec)
  stamps = only_cache(spec) / digests.STAMPS
  stamps.write_text("[")
  assert ids_of(spec) == before
  assert prepare_corpus(spec, BYTES).notes[0].reused
  assert json.loads(stamps.read_text())["train/tokens.bin"] == stamp_of(only_cache(spec) / "train/tokens.bin")


def test_a_byte_that_changed_on_the_disk_is_found_by_the_full_check(spec, monkeypatch):
  prepare_corpus(spec, BYTES)
  folder = only_cache(spec)
  flip(folder / "train/tokens.bin")
  stamps = json.loads((folder / digests.STAMPS).read_text())
  stamps["train/tokens.bin"] = stamp_of(folder / "train/tokens.bin")  # As if nothing had written to it.
  (folder / digests.STAMPS).write_text(json.dumps(stamps))
  assert check_folder(folder) > 0
  with pytest.raises(DamageError, match=r"tokens.bin is damaged: its size is the same and its contents are not"):
    check_folder(folder, full=True)


def test_a_plan_of_rows_that_was_altered_is_made_again(spec, capsys):
  (store,) = prepare_corpus(spec, BYTES).train
  before = _pieces(store)
  (plan,) = store.folder.glob("rows-*")
  flip(plan / "start.npy")
  assert _pieces(store) == before
  assert "start.npy is damaged" in capsys.readouterr().out


def test_a_trained_tokenizer_that_was_altered_is_trained_again(spec):
  wanted = TokenizerSpec(vocab_size=300)
  before = make_tokenizer(wanted, spec)
  (folder,) = Path(spec.cache_dir).glob("tokenizer-*")
  for file in folder.iterdir():
    if file.name not in (digests.DIGESTS, digests.STAMPS):
      flip(file)
  assert make_tokenizer(wanted, spec).fingerprint == before.fingerprint


def test_the_same_cache_damaged_again_and_again_ends_in_one_message(spec, monkeypatch):
  real = folders.seal

  def seal_and_damage(folder, *args):
    real(folder, *args)
    flip(folder / "manifest.json")

  monkeypatch.setattr(folders, "seal", seal_and_damage)
  with pytest.raises(LmxError, match=r"was made 3 times and is still damaged: .*manifest.json .* Fix: another disk"):
    prepare_corpus(spec, BYTES)


def test_a_disk_that_keeps_other_bytes_is_noticed_after_writing(spec, monkeypatch):
  close = DigestFile.close

  def close_and_flip(file):
    digest = close(file)
    if file.path.name == "tokens.bin":
      flip(file.path)
    return digest

  monkeypatch.setattr(DigestFile, "close", close_and_flip)
  with pytest.raises(LmxError, match=r"tokens.bin: what was read back is not what was written"):
    prepare_corpus(spec, BYTES)
  assert not list(Path(spec.cache_dir).iterdir())


def test_ids_beyond_the_vocabulary_are_refused_before_they_are_cached(spec):
  class Wrong(ByteTokenizer):
    vocab_size = 258

    def encode_batch(self, texts):
      return [np.array([65794 if number == 1 else 0], np.int32) for number, _ in enumerate(texts)]  # 258 in 16 bits.

  with pytest.raises(LmxError, match=r"text.jsonl:2 has the id 65794, and the tokenizer has 0 to 257"):
    prepare_corpus(spec, Wrong())


# ---------------------------------------------------------------- sources


def check_source_noticed(spec: DataSpec, change: Callable[[Path], object]) -> None:
  before = ids_of(spec)
  keep_times(Path(spec.sources[0]), change)
  after = ids_of(spec)
  shutil.rmtree(spec.cache_dir)
  assert after == ids_of(spec) != before


def test_a_source_with_the_same_size_and_time_and_other_text_is_noticed(spec, capsys):
  check_source_noticed(spec, lambda path: path.write_text(path.read_text().replace("document", "Document")))
  assert "text.jsonl changed: its size is the same and its contents are not" in capsys.readouterr().out


def test_a_source_replaced_by_a_copy_with_its_times_is_noticed(spec, tmp_path):
  def copy(path):
    other = tmp_path / "other"
    other.write_text(path.read_text().replace("document", "Document"))
    shutil.copystat(path, other)
    other.replace(path)

  check_source_noticed(spec, copy)


def test_the_law_of_sources_catches_a_stamp_of_size_and_time(spec, monkeypatch):
  monkeypatch.setattr(digests, "stamp_of", lambda path: [path.stat().st_size, path.stat().st_mtime_ns])
  replace = lambda path: path.write_text(path.read_text().replace("document", "Document"))  # noqa: E731
  assert_law_catches(check_source_noticed, spec, replace)


def test_a_source_that_was_only_copied_keeps_its_cache(spec, tmp_path):
  prepare_corpus(spec, BYTES)
  keep_times(Path(spec.sources[0]), lambda path: path.write_bytes(path.read_bytes()))
  assert prepare_corpus(spec, BYTES).notes[0].reused


def test_a_source_that_changes_while_it_is_read_is_refused(spec, monkeypatch):
  path = Path(spec.sources[0])

  def append(*call):
    path.write_text(path.read_text() + '{"text": "late"}\n')

  with pytest.raises(LmxError, match=r"text.jsonl changed while it was read. Fix: start again"):
    prepare_corpus(spec, BYTES, append)
  assert not list(Path(spec.cache_dir).iterdir())


def test_samples_are_of_head_tail_and_between_and_small_files_are_read_completely(tmp_path):
  path = tmp_path / "x"
  size = digests.SAMPLES * digests.SAMPLE_BYTES
  for total, places in ((0, []), (1, [0]), (size, range(0, size, 1000)), (10 * size, [0, 10 * size - 1, 5])):
    path.write_bytes(bytes(total))
    before = sample_digest(path)
    for place in places:
      flip(path, place)
      assert sample_digest(path) != before
      flip(path, place)
    assert sample_digest(path) == before


# ---------------------------------------------------------------- disks


def test_a_disk_that_is_full_while_a_cache_is_written_ends_in_one_message(spec, monkeypatch):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
  try:
    with pytest.raises(CacheWriteError, match=r"cache_dir: .* can't be written: .* free in .* Fix: free some space"):
      prepare_corpus(spec, BYTES)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert not list(Path(spec.cache_dir).iterdir())
  assert not prepare_corpus(spec, BYTES).notes[0].reused


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("where", ["fsync", "mkdtemp"])
def test_every_error_of_a_disk_reports_where_and_how_much_is_free(spec, monkeypatch, code, where):
  def fail(*args, **kwargs):
    raise OSError(code, os.strerror(code))

  monkeypatch.setattr(os if where == "fsync" else folders.tempfile, where, fail)
  with pytest.raises(CacheWriteError, match=rf"can't be written: {os.strerror(code)} \(.*B free in .*\)"):
    prepare_corpus(spec, BYTES)
  assert not list(Path(spec.cache_dir).iterdir())


def test_a_disk_that_fails_while_a_cache_is_looked_at_removes_nothing(spec, monkeypatch):
  prepare_corpus(spec, BYTES)

  def fail(*args):
    raise OSError(errno.EIO, os.strerror(errno.EIO))

  with monkeypatch.context() as patch:
    patch.setattr(digests.os, "pread", fail)
    with pytest.raises(LmxError, match=r"cannot be read: Input/output error"):
      prepare_corpus(spec, BYTES)
  assert prepare_corpus(spec, BYTES).notes[0].reused


def test_a_cache_folder_that_is_a_file_is_named(spec, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(CacheWriteError, match=r"config.data.cache_dir: .*file.* can't be written"):
    prepare_corpus(dataclasses.replace(spec, cache_dir=str(tmp_path / "file" / "cache")), BYTES)


def test_a_damaged_cache_that_may_not_be_removed_is_named(spec, monkeypatch):
  prepare_corpus(spec, BYTES)
  flip(only_cache(spec) / "train/tokens.bin")

  def fail(*args, **kwargs):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))

  monkeypatch.setattr(folders.tempfile, "mkdtemp", fail)
  with pytest.raises(CacheWriteError, match=r"tokens.bin is damaged: .* it can't be removed: Read-only file system"):
    prepare_corpus(spec, BYTES)


def _pieces(store) -> list[list[int]]:
  rows = make_rows(store, packing="packed", length=32, lookahead=1)
  return [piece.content.tolist() for index in range(len(rows)) for piece in rows[index]]
