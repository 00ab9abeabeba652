# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A run's folder is complete or absent, whenever the process is killed."""

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_runs import overrides

from lmx.cli.given_config import working_directory
from lmx.config.loading import load, to_json
from lmx.config.run_config import read_labels, read_run_config, read_vocab_size
from lmx.data.tokenizers.tokenizer import load_tokenizer
from lmx.data.tokenizers.vocabulary import ByteTokenizer
from lmx.errors import LmxError
from lmx.run.samples import write_samples
from lmx.training.run_directory import finished_step, samples_file, write_run_files


@pytest.fixture
def config(tmp_path, repository):
  return load(str(repository / "configs" / "base.py"), overrides(tmp_path))


class Killed(BaseException):
  """Stands for SIGKILL: nothing handles it."""


def killed_at(monkeypatch, method: str) -> None:
  """Lets the next Path.write_text or Path.replace write half of it, or nothing, and die."""

  def die(path: Path, *args, **kwargs):
    if method == "write_text":
      path.write_bytes(args[0][: len(args[0]) // 2].encode())
    raise Killed

  monkeypatch.setattr(Path, method, die)


@pytest.mark.parametrize("method", ["write_text", "replace"])
def test_a_run_killed_while_it_wrote_its_first_file_starts_from_scratch(config, tmp_path, monkeypatch, method):
  run = tmp_path / "run"
  with monkeypatch.context() as patch:
    killed_at(patch, method)
    with pytest.raises(Killed):
      write_run_files(run, to_json(config), ByteTokenizer())
  assert not (run / "config.json").exists()
  _, note = working_directory(config, str(run), accept_changes=False)
  assert note == f"new run in {run}"
  write_run_files(run, to_json(config), ByteTokenizer())
  assert (run / "config.json").read_text() == to_json(config)
  assert load_tokenizer(run / "tokenizer").vocab_size == 258


def test_a_run_killed_while_it_wrote_its_tokenizer_writes_it_again(config, tmp_path, monkeypatch):
  def save_half(tokenizer, folder: Path) -> None:
    folder.mkdir()
    (folder / "half").write_text("{")
    raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(ByteTokenizer, "save", save_half)
    with pytest.raises(Killed):
      write_run_files(tmp_path / "run", to_json(config), ByteTokenizer())
  assert not (tmp_path / "run" / "tokenizer").exists()
  write_run_files(tmp_path / "run", to_json(config), ByteTokenizer())
  assert load_tokenizer(tmp_path / "run" / "tokenizer").vocab_size == 258
  assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "tokenizer"]


def test_the_config_of_a_run_is_replaced_only_when_that_is_asked_for(tmp_path):
  for text, new, expected in (("1", False, "1"), ("2", False, "1"), ("3", True, "3")):
    write_run_files(tmp_path / "run", text, ByteTokenizer(), new_config=new)
    assert (tmp_path / "run" / "config.json").read_text() == expected


def test_a_run_is_finished_when_its_last_checkpoint_and_its_samples_are_there(tmp_path):
  assert finished_step(tmp_path, 10, sampled=False) is None
  for step in (5, 10):
    assert finished_step(tmp_path, 10, sampled=False) is None
    (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    assert finished_step(tmp_path, step, sampled=False) is None  # Only a committed one counts.
    (tmp_path / "checkpoints" / str(step) / "_CHECKPOINT_METADATA").write_text('{"commit_timestamp_nsecs": 1}')
  (tmp_path / "checkpoints" / "15.orbax-checkpoint-tmp").mkdir()
  assert finished_step(tmp_path, 10, sampled=False) == 10
  assert finished_step(tmp_path, 11, sampled=False) is None
  assert finished_step(tmp_path, 10, sampled=True) is None
  samples_file(tmp_path, 10).parent.mkdir()
  samples_file(tmp_path, 10).touch()
  assert finished_step(tmp_path, 10, sampled=True) == 10


SMALL_FILES = {
  "config.json": read_run_config,
  "labels.json": read_labels,
  "tokenizer/lmx_tokenizer.json": lambda run: (read_vocab_size(run), load_tokenizer(run / "tokenizer")),
}


def damaged(data: bytes) -> Iterator[bytes]:
  """A file truncated at every position, and with the highest, or another, bit of every byte flipped."""
  for place in range(0, len(data), max(1, len(data) // 150)):
    yield data[:place]
    for bit in (0x80, 1 << place % 7):
      yield data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


@pytest.mark.parametrize("name", SMALL_FILES)
def test_a_damaged_file_of_a_run_is_read_or_named_in_one_message(config, tmp_path, name):
  run = tmp_path / "run"
  write_run_files(run, to_json(config), ByteTokenizer(), ("good", "bad"))
  SMALL_FILES[name](run)
  whole, named = (run / name).read_bytes(), 0
  for data in damaged(whole):
    (run / name).write_bytes(data)
    try:
      SMALL_FILES[name](run)
    except LmxError as error:
      named += str(run) in str(error)
  assert named > 100 if len(whole) > 100 else named > len(whole)


@pytest.mark.parametrize(
  ("name", "text", "expected"),
  [
    (
      "tokenizer/lmx_tokenizer.json",
      '{"kind": "bytes"}',
      "it has no name and no vocab_size",
    ),
    ("tokenizer/lmx_tokenizer.json", "[]", "it has no kind and no name"),
    (
      "tokenizer/lmx_tokenizer.json",
      '{"kind": "bytes", "name": "bytes", "vocab_size": 258, "bos_id": 256, "eos_id": 257, "fingerprint": "x", '
      '"extra_ids": "1"}',
      "extra_ids is '1'",
    ),
    ("tokenizer/lmx_tokenizer.json", '{"kind": "by', "Unterminated string"),
    ("labels.json", '{"a": 1}', "it is no list of texts"),
    ("config.json", "\udcff", "invalid start byte. Fix: restore it"),
  ],
)
def test_what_is_damaged_in_a_file_of_a_run_is_named(config, tmp_path, name, text, expected):
  write_run_files(tmp_path, to_json(config), ByteTokenizer(), ("good", "bad"))
  (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
  reader = (lambda run: load_tokenizer(run / "tokenizer")) if "tokenizer" in name else SMALL_FILES[name]
  with pytest.raises(LmxError, match=re.escape(expected)):
    reader(tmp_path)


def test_samples_on_a_full_disk_are_not_taken_for_the_end_of_a_run(tmp_path, monkeypatch):
  def half(path: Path, text: str, **options) -> None:
    path.write_bytes(text[: len(text) // 2].encode())
    raise OSError(errno.ENOSPC, "No space left on device", str(path))

  monkeypatch.setattr(Path, "write_text", half)
  with pytest.raises(OSError, match="No space left"):
    write_samples(tmp_path, 24, ["a"], ["text"])
  assert not samples_file(tmp_path, 24).exists()
