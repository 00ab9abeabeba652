# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The token cache matches its manifest or is refused; a killed preparation leaves nothing that is read."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from laws import assert_law_catches

from lmx.data.cache import prepare
from lmx.data.cache.folders import cached, replacing
from lmx.data.cache.store import TokenStore, token_dtype
from lmx.data.corpus import DataSpec, make_tokenizer, prepare_corpus, validation_text
from lmx.data.digests import DamageError
from lmx.data.tokenizers.tokenizer import ByteTokenizer, TokenizerSpec, train_sentencepiece
from lmx.errors import LmxError

DOCUMENTS = [f"document {i}: " + "words \u00e9\n" * (i % 5) for i in range(60)]
BYTES = ByteTokenizer()


@pytest.fixture
def spec(tmp_path) -> DataSpec:
  path = tmp_path / "text.jsonl"
  path.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
  return DataSpec(sources=(str(path),), cache_dir=str(tmp_path / "cache"), heldout_fraction=0.3, length=32)


def decoded(store: TokenStore) -> list[str]:
  return [BYTES.decode(store.extended(i, 0, int(n) + 2)) for i, n in enumerate(store.lengths())]


def only_cache(spec: DataSpec) -> Path:
  (folder,) = Path(spec.cache_dir).iterdir()
  return folder


def check_partition(spec: DataSpec, documents: list[str]) -> None:
  """Every document is completely on one side of the split, in order."""
  corpus = prepare_corpus(spec, BYTES)
  train, heldout = decoded(corpus.train[0]), decoded(corpus.validation[0])
  assert sorted(train + heldout) == sorted(documents)
  assert train == [text for text in documents if text in set(train)]
  assert validation_text(corpus).decode() == "".join(heldout)
  assert corpus.train_stats[0].bytes == sum(len(text.encode()) for text in train)


def test_a_split_by_document_puts_each_document_on_one_side(spec):
  check_partition(spec, DOCUMENTS)
  assert 5 < len(decoded(prepare_corpus(spec, BYTES).validation[0])) < 35


def test_the_partition_law_catches_a_split_that_loses_a_document(spec, monkeypatch):
  real = prepare.split_items

  def losing(*args):
    documents = real(*args)
    next(documents)
    return documents

  monkeypatch.setattr(prepare, "split_items", losing)
  assert_law_catches(check_partition, spec, DOCUMENTS)


def test_equal_documents_fall_on_one_side(tmp_path, spec):
  path = tmp_path / "twice.txt"
  path.write_text("\n".join(DOCUMENTS[i % 20].replace("\n", " ") for i in range(60)))
  corpus = prepare_corpus(dataclasses.replace(spec, sources=(str(path),), separator="\n"), BYTES)
  assert not set(decoded(corpus.train[0])) & set(decoded(corpus.validation[0]))


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_a_tail_split_cuts_one_text_at_a_character(tmp_path, spec, fraction):
  text = "\u00e9\u65e5\U0001f389" * 101  # Each of the three cuts falls inside a character.
  path = tmp_path / "one.txt"
  path.write_text(text, encoding="utf-8")
  spec = dataclasses.replace(spec, sources=(str(path),), heldout_split="tail", heldout_fraction=fraction)
  corpus = prepare_corpus(spec, BYTES)
  train, heldout = decoded(corpus.train[0]), validation_text(corpus).decode()
  assert train[0] + heldout == text
  assert abs(len(heldout.encode()) / len(text.encode()) - fraction) < 0.01


def test_a_tail_split_of_ascii_text_is_nanogpts(tmp_path, spec):
  text = "To be, or not to be: that is the question.\n" * 97
  path = tmp_path / "one.txt"
  path.write_text(text)
  spec = dataclasses.replace(spec, sources=(str(path),), heldout_split="tail", heldout_fraction=0.1)
  assert validation_text(prepare_corpus(spec, BYTES)).decode() == text[int(len(text) * 0.9) :]


def test_validation_sources_are_used_completely(tmp_path, spec):
  path = tmp_path / "heldout.txt"
  path.write_text("only for evaluation")
  corpus = prepare_corpus(dataclasses.replace(spec, heldout_sources=(str(path),)), BYTES)
  assert validation_text(corpus) == b"only for evaluation"
  assert decoded(corpus.train[0]) == DOCUMENTS


def test_the_second_preparation_reads_the_cache(spec):
  first, second = prepare_corpus(spec, BYTES), prepare_corpus(spec, BYTES)
  assert [corpus.notes[0].reused for corpus in (first, second)] == [False, True]
  assert decoded(first.train[0]) == decoded(second.train[0])


def test_another_tokenizer_option_or_text_gets_another_cache(spec):
  prepare_corpus(spec, BYTES)
  variants = [
    (dataclasses.replace(spec, heldout_fraction=0.2), BYTES),
    (dataclasses.replace(spec, bad_documents="skip"), BYTES),
    (spec, train_sentencepiece(DOCUMENTS, vocab_size=300)),
  ]
  for count, (variant, tokenizer) in enumerate(variants, start=2):
    assert not prepare_corpus(variant, tokenizer).notes[0].reused
    assert len(list(Path(spec.cache_dir).iterdir())) == count
  source = Path(spec.sources[0])
  source.write_text(source.read_text() + '{"text": "one more"}\n')
  assert not prepare_corpus(spec, BYTES).notes[0].reused


def test_a_complete_cache_under_the_name_of_another_is_refused(spec):
  prepare_corpus(spec, BYTES)
  name = only_cache(spec)
  other = dataclasses.replace(spec, bad_documents="skip")
  shutil.rmtree(name)
  prepare_corpus(other, BYTES)
  only_cache(spec).rename(name)
  with pytest.raises(LmxError, match=r"was made from another options. Fix: rm -r "):
    prepare_corpus(spec, BYTES)


def test_an_error_or_an_interruption_leaves_no_cache(spec, tmp_path):
  with Path(spec.sources[0]).open("a") as file:
    file.write("broken\n")
  with pytest.raises(LmxError, match=r"text.jsonl:61: broken JSON"):
    prepare_corpus(spec, BYTES)
  assert not list(Path(spec.cache_dir).iterdir())
  with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "cache" / "x"):
    raise KeyboardInterrupt
  assert not list(Path(spec.cache_dir).iterdir())
  corpus = prepare_corpus(dataclasses.replace(spec, bad_documents="skip"), BYTES)
  assert corpus.notes[0].skipped == {"broken JSON": 1}
  assert "skipped: 1 (broken JSON)" in corpus.describe()


def test_a_killed_preparation_is_never_taken_for_complete_and_is_cleaned_up(spec, tmp_path):
  code = (
    "import os, pathlib, signal, sys, time\n"
    "from lmx.data.cache.folders import replacing\n"
    "with replacing(pathlib.Path(sys.argv[1])) as partial:\n"
    "  (partial / 'half').write_text('x')\n"
    "  print('ready', flush=True)\n"
    "  time.sleep(60)\n"
  )
  folder = tmp_path / "cache" / "whole"
  environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
  with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, env=environment) as process:
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
  assert not folder.exists()
  assert len(list(folder.parent.iterdir())) == 1
  with replacing(folder) as partial:
    (partial / "all").write_text("x")
  assert [path.name for path in folder.parent.iterdir()] == ["whole"]
  assert (folder / "all").exists()


def _prepare_in_process(spec: DataSpec, results: multiprocessing.Queue) -> None:
  results.put(prepare_corpus(spec, BYTES).train_stats[0])


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_prepare_at_once_all_get_the_complete_cache(spec, damaged):
  if damaged:
    prepare_corpus(spec, BYTES)
    (only_cache(spec) / "train" / "tokens.bin").write_bytes(b"")
  context = multiprocessing.get_context("spawn")
  results = context.Queue()
  processes = [context.Process(target=_prepare_in_process, args=(spec, results)) for _ in range(3 if damaged else 2)]
  for process in processes:
    process.start()
  stats = [results.get(timeout=60) for _ in processes]
  for process in processes:
    process.join()
  assert {*stats} == {prepare_corpus(spec, BYTES).train_stats[0]}
  assert "text.jsonl" in only_cache(spec).name


def test_the_folder_of_a_slower_process_gives_way_to_the_first(tmp_path):
  with replacing(tmp_path / "x") as slow:
    (slow / "who").write_text("slow")
    with replacing(tmp_path / "x") as fast:
      (fast / "who").write_text("fast")
  assert (tmp_path / "x" / "who").read_text() == "fast"
  assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_another_process_made_again_meanwhile_is_not_removed(tmp_path, monkeypatch):
  folder, judged = tmp_path / "x", []

  def make(partial):
    (partial / "who").write_text("this one")
    return {}

  def judge(checked):
    judged.append((checked / "who").read_text())
    if judged == ["damaged"]:  # And before it is removed, another process makes it again.
      shutil.rmtree(checked)
      with replacing(checked) as partial:
        (partial / "who").write_text("the other")
      raise DamageError("damaged")

  folder.mkdir()
  (folder / "who").write_text("damaged")
  monkeypatch.setattr("lmx.data.cache.folders.check_folder", judge)
  assert cached(folder, [], make)
  assert judged == ["damaged", "the other"]
  assert (folder / "who").read_text() == "the other"
  assert os.listdir(tmp_path) == ["x"]


def test_a_source_without_documents_or_a_side_is_an_error(tmp_path, spec):
  empty = tmp_path / "empty.jsonl"
  empty.write_text("\n")
  with pytest.raises(LmxError, match=r"'.*empty.jsonl' has no documents: it contains no text"):
    prepare_corpus(dataclasses.replace(spec, sources=(*spec.sources, str(empty))), BYTES)
  empty.write_text('{"text": ""}\n')
  with pytest.raises(LmxError, match=r"has no documents: .*empty.jsonl:1: empty document"):
    prepare_corpus(dataclasses.replace(spec, sources=(str(empty),), bad_documents="skip"), BYTES)
  one = tmp_path / "one.txt"
  one.write_text("a single document")
  with pytest.raises(LmxError, match=r"leaves no .* text of .* 1 document. Fix: --config.data.heldout_split=tail"):
    prepare_corpus(dataclasses.replace(spec, sources=(str(one),)), BYTES)


def test_specs_that_cannot_be_are_refused():
  with pytest.raises(LmxError, match="one weight for each of the 1 sources"):
    DataSpec(weights=(1.0, 2.0))
  for weight in (0.0, -1.0, float("inf"), float("nan")):
    with pytest.raises(LmxError, match="numbers above 0"):
      DataSpec(sources=("a", "b"), weights=(1.0, weight))
  with pytest.raises(LmxError, match="heldout_fraction"):
    DataSpec(heldout_fraction=1.5)
  with pytest.raises(LmxError, match="at least one item"):
    DataSpec(sources=())


def test_a_trained_tokenizer_is_kept_and_sees_only_training_text(spec):
  tokenizer_spec = TokenizerSpec(vocab_size=300)
  tokenizer = make_tokenizer(tokenizer_spec, spec)
  (folder,) = Path(spec.cache_dir).iterdir()
  stamp = folder.stat().st_mtime_ns
  time.sleep(0.01)
  assert make_tokenizer(tokenizer_spec, spec).fingerprint == tokenizer.fingerprint
  assert folder.stat().st_mtime_ns == stamp
  train = decoded(prepare_corpus(spec, BYTES).train[0])
  assert tokenizer.fingerprint == train_sentencepiece(train, vocab_size=300).fingerprint
  assert tokenizer.fingerprint != train_sentencepiece(DOCUMENTS, vocab_size=300).fingerprint


def test_large_vocabularies_are_kept_in_32_bits(tmp_path):
  assert [token_dtype(n).itemsize for n in (256, 1 << 16, (1 << 16) + 1)] == [2, 2, 4]


def test_progress_and_unknown_tokens_are_reported(tmp_path, spec):
  path = tmp_path / "unknown.txt"
  path.write_text("abc \u65e5 abc \u672c")
  tokenizer = train_sentencepiece(["abc abc"], vocab_size=0, model_type="char")
  seen: list = []
  unknown = dataclasses.replace(spec, sources=(str(path),), heldout_fraction=0.0)
  corpus = prepare_corpus(unknown, tokenizer, lambda *call: seen.append(call))
  size = path.stat().st_size
  assert seen == [(str(path), size, size)]
  assert corpus.notes[0].unknown == 2
  assert "no validation set; 2 unknown tokens" in corpus.describe()
  np.testing.assert_array_equal(corpus.train[0].sizes, [size])
