# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Tokens per second of the input pipeline, compared with what eight H200 take to train a 1B model.

Command:  python -m tools.bench.input [--threads 0 1 2] [--seconds N] [--record]
Time:     about two minutes

Two parts, as in a run. Text is tokenized once, before the first step (`lmx data prepare`, or `lmx train` where the
cache lacks it); here the text of Python's own library, from a JSONL file. Rows are made from the cache while the model
trains: reading, packing, segments and positions, batching; here from documents of random ids as long as web text.
Nothing else of this benchmark runs meanwhile. "On a core" is tokens over the seconds of all threads together.
"""

import argparse
import contextlib
import dataclasses
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmx.data.batches.pipeline import BatchShape, Loader
from lmx.data.batches.rows import Rows, make_rows
from lmx.data.cache.encoding import DataRequirements
from lmx.data.cache.prepare import Split, prepare_source
from lmx.data.cache.store import StoreWriter, TokenStore, token_dtype
from lmx.data.document import BadDocuments, ReadOptions
from lmx.data.sources.sources import open_source
from lmx.data.tokenizers.tokenizer import ByteTokenizer, Tokenizer, train_sentencepiece
from lmx.objectives.causal import prepare
from lmx.units import chip_of
from tools.bench.batches import document_lengths
from tools.bench.contest import load_average
from tools.bench.reporting import Load, make_result, report, table, versions

LENGTH, BATCH, VOCABULARY, DOCUMENTS = 1024, 32, 50_304, 20_000
TURN_SECONDS = 1.0
PIECES, TRAIN_CHARACTERS = 4096, 2000  # SentencePiece, BPE: lmx's default vocabulary, of each document's beginning.

# The consumer: a model of 10^9 matmul parameters, 16 layers of width 2,048, at half of the peak of eight H200.
GPUS, GPU, MFU, PARAMETERS, LAYERS, WIDTH = 8, "h200", 0.5, 10**9, 16, 2048


def target() -> tuple[float, str]:
  """(tokens per second, the arithmetic)."""
  peak = chip_of(GPU).bf16_flops
  flops = 6 * PARAMETERS + 6 * LAYERS * WIDTH * LENGTH
  tokens = GPUS * peak * MFU / flops
  text = (
    f"Target: a 1B model ({LAYERS} layers, width {WIDTH}) takes 6 x 10^9 + 6 x {LAYERS} x {WIDTH} x {LENGTH} = "
    f"{flops / 1e9:.2f} GFLOP a token in rows of {LENGTH}; {GPUS} H200 at {MFU:.0%} of {peak / 1e12:.0f} TFLOP/s take "
    f"{GPUS} x {peak * MFU / 1e12:.1f} TFLOP/s / {flops / 1e9:.2f} GFLOP = {tokens / 1e6:.2f}M tokens/s."
  )
  return tokens, text


@dataclasses.dataclass(frozen=True)
class Turn:
  """One measurement.

  Attributes:
    tokens: made.
    seconds, cpu_seconds: by the clock, and of all threads.
    waits: times that a thread of the process waited for something: the disk, or another thread.
  """

  tokens: int
  seconds: float
  cpu_seconds: float
  waits: int


class Timer:
  """Starts a turn's clocks."""

  def __init__(self) -> None:
    self._start = self._now()

  @staticmethod
  def _now() -> tuple[float, float, int]:
    return time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw

  @property
  def seconds(self) -> float:
    return time.perf_counter() - self._start[0]

  def end(self, tokens: int) -> Turn:
    return Turn(tokens, *(after - before for after, before in zip(self._now(), self._start, strict=True)))


# ------------------------------------------------------------------------------------------------------ text to tokens


def write_text(file: Path, limit: int | None) -> None:
  """The text of Python's library as JSONL; at most `limit` documents of it."""
  with file.open("w", encoding="utf-8") as out:
    for number, document in enumerate(open_source("stdlib", ReadOptions()).documents(BadDocuments("skip"))):
      if limit is not None and number >= limit:
        break
      out.write(json.dumps({"text": document.text}) + "\n")


def tokenize(file: Path, tokenizer: Tokenizer, cache: Path) -> Turn:
  """What `lmx data prepare` does with a file."""
  timer = Timer()
  done = prepare_source(open_source(str(file), ReadOptions()), tokenizer, split=Split(), cache_dir=cache)
  return timer.end(done.train.tokens)


def tokenizing(folder: Path, documents: int | None, turns: int) -> Iterator[tuple[str, list[Turn]]]:
  """The turns of each tokenizer."""
  file = folder / "text.jsonl"
  write_text(file, documents)
  texts = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
  pieces = PIECES if documents is None else 400  # A few documents have no more.
  pieced = train_sentencepiece([text[:TRAIN_CHARACTERS] for text in texts], vocab_size=pieces)
  for name, tokenizer in ((f"SentencePiece, {pieces:,} pieces", pieced), ("bytes", ByteTokenizer())):
    yield name, [tokenize(file, tokenizer, folder / f"cache-{tokenizer.name}-{turn}") for turn in range(turns)]


# ------------------------------------------------------------------------------------------------------ tokens to rows


def write_cache(folder: Path, documents: int) -> TokenStore:
  """A token cache of random documents."""
  random = np.random.default_rng(0)
  dtype = token_dtype(VOCABULARY)
  writer = StoreWriter(folder, dtype)
  for length in document_lengths(documents, random).tolist():
    writer.add([random.integers(0, VOCABULARY - 1, length, dtype=np.int32)], [b"x" * (4 * length)])
  writer.close()
  return TokenStore(folder, dtype, bos_id=VOCABULARY - 1, eos_id=VOCABULARY - 1)


def make_loader(rows: Rows, threads: int) -> Loader:
  shape = BatchShape(LENGTH, LENGTH, batch_size=BATCH, pad_id=VOCABULARY - 1, threads=threads, prefetch=4)
  return Loader([rows], DataRequirements(prepare, lookahead=1), shape, seed=0)


def draw(loader: Loader, seconds: float) -> Turn:
  """One turn. The threads are stopped after it and their first batches are not counted."""
  for _ in range(8):  # Twice as many as are prefetched.
    next(loader)
  timer, batches = Timer(), 0
  while timer.seconds < seconds:
    next(loader)
    batches += 1
  turn = timer.end(batches * BATCH * LENGTH)
  loader.seek(loader.position)
  return turn


def making_rows(store: TokenStore, threads: Sequence[int], seconds: float) -> Iterator[tuple[str, str, list[Turn]]]:
  """(packing, threads, turns); the numbers of threads take turns."""
  for packing in ("packed", "concatenated"):
    rows = make_rows(store, packing=packing, length=LENGTH, lookahead=1)
    with contextlib.ExitStack() as stack:
      loaders = {number: make_loader(rows, number) for number in threads}
      for loader in loaders.values():
        stack.callback(loader.close)
      turns: dict[int, list[Turn]] = {number: [] for number in loaders}
      for _ in range(max(1, round(seconds / TURN_SECONDS))):
        for number, loader in loaders.items():
          turns[number].append(draw(loader, min(TURN_SECONDS, seconds)))
    for number, each in turns.items():
      yield packing, str(number) if number else "0 (the loop's own)", each


def line(what: str, threads: str, turns: Sequence[Turn], wanted: float) -> tuple[str, ...]:
  """A line of the table."""
  rates = [turn.tokens / turn.seconds for turn in turns]
  a_core = statistics.median(turn.tokens / turn.cpu_seconds for turn in turns)
  waits = sum(turn.waits for turn in turns) / sum(turn.tokens for turn in turns)
  return (what, threads, *(f"{f(rates) / 1e6:.2f}" for f in (statistics.median, min, max)), f"{a_core / 1e6:.2f}",
          f"{wanted / a_core:.2f}", f"{statistics.median(rates) / wanted:.0%}",
          f"{waits * BATCH * LENGTH:,.0f}")  # fmt: skip


HEADER = ("made", "threads", "million tokens/s", "least", "most", "on a core", "cores for the target",
          "of the target, here", "waits a batch")  # fmt: skip


def main(argv: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(prog="python -m tools.bench.input", description=__doc__.partition("\n")[0])
  parser.add_argument("--threads", nargs="+", type=int, default=[0, 1, 2], help="making rows")
  parser.add_argument("--seconds", type=float, default=10.0, help="for each number of threads, all turns together")
  parser.add_argument("--documents", type=int, default=DOCUMENTS, help="of random ids")
  parser.add_argument("--text-documents", type=int, help="tokenize at most this many (default: all)")
  parser.add_argument("--record", action="store_true", help="keep the result in tools/bench/results")
  args = parser.parse_args(argv)
  before, load = load_average(), Load([])
  wanted, arithmetic = target()
  lines, turns = [], {}
  with tempfile.TemporaryDirectory() as made:
    for name, each in tokenizing(Path(made), args.text_documents, 1 if args.text_documents else 3):
      lines.append(line(f"tokens of text, {name}", "all cores", each, wanted))
      turns[name] = [dataclasses.asdict(turn) for turn in each]
    store = write_cache(Path(made) / "cache", args.documents)
    for packing, threads, each in making_rows(store, args.threads, args.seconds):
      lines.append(line(f"{packing} rows of tokens", threads, each, wanted))
      turns[f"{packing}, {threads}"] = [dataclasses.asdict(turn) for turn in each]
    values: dict[str, Any] = {"target": wanted, "documents": store.documents, "tokens": store.tokens, "turns": turns}
  result = make_result(values, versions(("grain", "numpy", "sentencepiece")), load.others(), before)
  text = (
    f"{arithmetic}\n\nRows of {LENGTH} out of {values['documents']:,} documents of {values['tokens'] / 1e6:.1f}M "
    f"tokens, in batches of {BATCH}.\n\n{table(HEADER, lines)}"
  )
  report("input", result, text, record=args.record)


if __name__ == "__main__":
  main(sys.argv[1:])
