# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Time to prepare a token cache from JSON lines, relative to a bare loop over the tokenizer's own batched encoding.

Command:  python -m tools.bench.tokenizing [--megabytes N] [--characters N] [--kind KIND] [--tokenizer PATH]
Time:     about two minutes

The loop reads lines, parses JSON, and calls `encode_batch_fast` (tokenizers) or `encode` (SentencePiece) on batches of
1,000 documents; it neither checks nor writes anything. `lmx data prepare` does the same work and splits, checks, writes
and verifies. The text is that of Python's standard library, repeated; the tokenizer is a byte-level BPE trained on it
unless a path is given.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from lmx.data.cache.prepare import Split, prepare_source
from lmx.data.document import BadDocuments, ReadOptions
from lmx.data.sources.sources import open_source
from lmx.data.tokenizers.tokenizer import Tokenizer, open_tokenizer, train_sentencepiece
from lmx.data.tokenizers.vocabulary import cpu_count
from tools.bench.contest import load_average
from tools.bench.input import Timer, Turn
from tools.bench.reporting import Load, make_result, report, table, versions

BATCH = 1000  # Documents of the loop's batches.
PIECES, END = 8192, "<|endoftext|>"
HELDOUT = 0.01  # Share of the validation set.


def texts(size: int) -> list[str]:
  """The text of Python's standard library in documents of up to `size` characters."""
  documents = open_source("stdlib", ReadOptions()).documents(BadDocuments("skip"))
  return [d.text[start : start + size] for d in documents for start in range(0, len(d.text), size)]


def write_text(file: Path, size: int, documents: Sequence[str]) -> None:
  """JSON lines of about `size` bytes, all different."""
  with file.open("w", encoding="utf-8") as out:
    number = 0
    while out.tell() < size:
      out.write(json.dumps({"text": f"{number} {documents[number % len(documents)]}"}) + "\n")
      number += 1


def make_tokenizer(kind: str, path: str | None, documents: Sequence[str], folder: Path) -> Tokenizer:
  if path is not None:
    return open_tokenizer(kind, path)
  if kind == "sentencepiece":
    return train_sentencepiece(documents[:2000], vocab_size=PIECES)
  trained = tokenizers.ByteLevelBPETokenizer()
  trained.train_from_iterator(documents[:2000], vocab_size=PIECES, special_tokens=[END], show_progress=False)
  trained.save(str(folder / "tokenizer.json"))
  return open_tokenizer(kind, str(folder / "tokenizer.json"))


def batches(file: Path) -> Iterator[list[str]]:
  with file.open("rb") as lines:
    batch = []
    for line in lines:
      batch.append(json.loads(line)["text"])
      if len(batch) == BATCH:
        yield batch
        batch = []
    yield batch


def bare_loop(tokenizer: Any, file: Path) -> Turn:
  """The tokenizer's library alone. The ids are counted, so that they are made."""
  timer, count = Timer(), 0
  for batch in batches(file):
    if tokenizer.kind == "sentencepiece":
      encoded = tokenizer._processor.encode(batch, out_type="numpy", num_threads=cpu_count())
    else:
      encoded = tokenizer._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
    count += sum(map(len, encoded))
  return timer.end(count)


def prepare(tokenizer: Tokenizer, file: Path, cache: Path) -> Turn:
  """What `lmx data prepare` does with a file."""
  timer = Timer()
  source = open_source(str(file), ReadOptions())
  done = prepare_source(source, tokenizer, split=Split("document", HELDOUT), cache_dir=cache)
  return timer.end(done.train.tokens + (done.validation.tokens if done.validation else 0))


def main(argv: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(prog="python -m tools.bench.tokenizing", description=__doc__.partition("\n")[0])
  parser.add_argument("--megabytes", type=float, default=20, help="of text")
  parser.add_argument("--characters", type=int, default=3000, help="at most, of a document")
  parser.add_argument("--kind", default="huggingface", choices=("huggingface", "sentencepiece"))
  parser.add_argument("--tokenizer", help="its path (default: trained on the text)")
  parser.add_argument("--rounds", type=int, default=3)
  args = parser.parse_args(argv)
  before, load = load_average(), Load([])
  turns: dict[str, list[Turn]] = {"bare loop": [], "lmx data prepare": []}
  with tempfile.TemporaryDirectory() as made:
    folder, documents = Path(made), texts(args.characters)
    write_text(folder / "text.jsonl", round(args.megabytes * 1e6), documents)
    tokenizer = make_tokenizer(args.kind, args.tokenizer, documents, folder)
    ways: dict[str, Callable[[int], Turn]] = {
      "bare loop": lambda _: bare_loop(tokenizer, folder / "text.jsonl"),
      "lmx data prepare": lambda turn: prepare(tokenizer, folder / "text.jsonl", folder / f"cache-{turn}"),
    }
    for turn in range(args.rounds):
      for name, way in ways.items():
        turns[name].append(way(turn))
  rows = []
  for name, some in turns.items():
    wall, cpu = (statistics.median(getattr(one, key) for one in some) for key in ("seconds", "cpu_seconds"))
    bare = [statistics.median(getattr(one, key) for one in turns["bare loop"]) for key in ("seconds", "cpu_seconds")]
    rows.append((name, f"{some[0].tokens / 1e6:.2f}", f"{wall:.2f}", f"{wall / bare[0]:.2f}", f"{cpu:.2f}",
                 f"{cpu / bare[1]:.2f}"))  # fmt: skip
  values = {"turns": {name: [dataclasses.asdict(turn) for turn in some] for name, some in turns.items()}}
  result = make_result(values, versions(("numpy", "tokenizers", "sentencepiece")), load.others(), before)
  header = ("", "million tokens", "seconds", "over the loop", "CPU seconds", "over the loop")
  report("tokenizing", result, table(header, rows), record=False)


if __name__ == "__main__":
  main(sys.argv[1:])
