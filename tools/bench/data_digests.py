# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Cost of the digests of token caches: when a cache is made, on every start, and when everything is verified.

Command:  python -m tools.bench.data_digests [--megabytes N] [--files N] [--rounds N]
Time:     about two minutes

The text is that of Python's standard library, repeated as JSON lines and tokenized by a SentencePiece model of 4,096
pieces. Stamps of many files are measured on small text files, tokenized as bytes. Times are CPU seconds, which depend
less on what else runs on the machine; waiting for the disk isn't included.
"""

import argparse
import contextlib
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmx.data import digests
from lmx.data.cache import folders
from lmx.data.cache.encoding import check_ids
from lmx.data.cache.prepare import Split, prepare_source
from lmx.data.document import BadDocuments, ReadOptions
from lmx.data.sources.sources import open_source
from lmx.data.tokenizers.tokenizer import ByteTokenizer, Tokenizer, train_sentencepiece
from lmx.units import human_bytes
from tools.bench.contest import load_average
from tools.bench.reporting import Load, about, make_result, table, versions

PIECES, TRAIN_CHARACTERS = 4096, 2000
IDS, VOCABULARY = 50_000_000, 50_257


@contextlib.contextmanager
def timed(spent: dict[str, float], what: str, clock: Callable[[], float]) -> Iterator[None]:
  start = clock()
  try:
    yield
  finally:
    spent[what] = spent.get(what, 0.0) + clock() - start


def counting(function: Callable[..., Any], spent: dict[str, float]) -> Callable[..., Any]:
  """The function, whose CPU time in its thread is added to `spent`."""

  def call(*args: Any, **options: Any) -> Any:
    with timed(spent, "digests", time.thread_time):
      return function(*args, **options)

  return call


class TimedHash:
  """A SHA-256 that adds the time of its updates to `spent`."""

  def __init__(self, spent: dict[str, float], *data: bytes):
    self._state, self._spent = hashlib.sha256(*data), spent

  def update(self, data: Any) -> None:
    with timed(self._spent, "digests", time.thread_time):
      self._state.update(data)

  def hexdigest(self) -> str:
    return self._state.hexdigest()


def write_text(file: Path, size: int) -> list[str]:
  """JSON lines of about `size` bytes; returns the documents that are repeated."""
  texts = [document.text for document in open_source("stdlib", ReadOptions()).documents(BadDocuments("skip"))]
  with file.open("w", encoding="utf-8") as out:
    number = 0
    while out.tell() < size:
      out.write(json.dumps({"text": f"{number} {texts[number % len(texts)]}"}) + "\n")
      number += 1
  return texts


def prepare(path: Path, tokenizer: Tokenizer, cache: Path) -> Path:
  """Prepares a source, or opens it if it is cached; returns the cache folder."""
  prepare_source(open_source(str(path), ReadOptions()), tokenizer, split=Split(), cache_dir=cache)
  (folder,) = (file.parent for file in cache.glob(f"*/{digests.DIGESTS}"))
  return folder


def make_cache(path: Path, tokenizer: Tokenizer, cache: Path, spent: dict[str, float]) -> Path:
  """Prepares a source; adds the time in all, and that of the digests, to `spent`."""
  plain = folders.seal, folders.SourceSnapshot, digests.hashlib
  folders.seal = counting(folders.seal, spent)
  folders.SourceSnapshot = types.SimpleNamespace(of=counting(folders.SourceSnapshot.of, spent))
  digests.hashlib = types.SimpleNamespace(
    sha256=lambda *data: TimedHash(spent, *data) if not data else hashlib.sha256(*data), file_digest=hashlib.file_digest
  )
  try:
    with timed(spent, "making a cache", time.process_time):
      return prepare(path, tokenizer, cache)
  finally:
    folders.seal, folders.SourceSnapshot, digests.hashlib = plain


def seconds(function: Callable[[], Any], rounds: int, before: Callable[[], Any] = lambda: None) -> float:
  """The median CPU time of a call; `before` is called before each one."""
  spent: list[float] = []
  for _ in range(rounds):
    before()
    clock: dict[str, float] = {}
    with timed(clock, "call", time.process_time):
      function()
    spent.append(clock["call"])
  return statistics.median(spent)


def large_source(folder: Path, megabytes: int, rounds: int) -> list[tuple[str, ...]]:
  """Rows of the table for one large file."""
  file, spent = folder / "text.jsonl", dict[str, float]()
  texts = write_text(file, megabytes * 10**6)
  tokenizer = train_sentencepiece([text[:TRAIN_CHARACTERS] for text in texts], vocab_size=PIECES)
  cache = make_cache(file, tokenizer, folder / "cache", spent)
  size = digests.check_folder(cache)
  source = file.stat().st_size
  share = spent["digests"] / spent["making a cache"]
  changed = seconds(lambda: digests.check_folder(cache), rounds, before=lambda: os.utime(file))
  verified = seconds(lambda: digests.check_folder(cache, full=True, with_sources=False), rounds)
  stamps = seconds(lambda: digests.check_folder(cache), 10 * rounds)
  return [
    (f"digests while a cache is made: {human_bytes(source)} of text, {human_bytes(size)} of cache",
     f"{spent['digests']:.1f} s of {spent['making a cache']:.1f} s ({share:.1%})"),
    ("stamps on every start, one source", f"{1000 * stamps:.1f} ms"),
    ("a source whose stamp differs", f"{changed / source * 1e9:.1f} s/GB"),
    ("lmx doctor --verify", f"{verified / size * 1e9:.1f} s/GB"),
  ]  # fmt: skip


def small_files(folder: Path, count: int, rounds: int) -> tuple[str, ...]:
  """A row of the table for many small files."""
  text = folder / "files"
  text.mkdir()
  for number in range(count):
    (text / f"{number}.txt").write_text(f"text {number}\n" * 20)
  cache = prepare(text, ByteTokenizer(), folder / "cache_of_files")
  stamps = seconds(lambda: digests.check_folder(cache), rounds)
  start = seconds(lambda: prepare(text, ByteTokenizer(), folder / "cache_of_files"), rounds)
  return f"stamps on every start, {count:,} small files", f"{stamps:.1f} s of {start:.1f} s to open them"


def main(argv: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(prog="python -m tools.bench.data_digests", description=__doc__.partition("\n")[0])
  parser.add_argument("--megabytes", type=int, default=64, help="of text")
  parser.add_argument("--files", type=int, default=20_000, help="small files")
  parser.add_argument("--rounds", type=int, default=3)
  args = parser.parse_args(argv)
  before, load = load_average(), Load([])
  ids = np.random.default_rng(0).integers(0, VOCABULARY, IDS, dtype=np.int32)
  with tempfile.TemporaryDirectory() as made:
    rows = [*large_source(Path(made), args.megabytes, args.rounds), small_files(Path(made), args.files, args.rounds)]
  checked = seconds(lambda: check_ids(ids, VOCABULARY, "a batch"), args.rounds)
  print(about(make_result({}, versions(("numpy", "sentencepiece")), load.others(), before)), end="\n\n")
  print(table(("", "CPU time, median"), [*rows, ("ids of a batch", f"{checked / IDS * 1e9:.2f} s for 10^9 ids")]))


if __name__ == "__main__":
  main(sys.argv[1:])
