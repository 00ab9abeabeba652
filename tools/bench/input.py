# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""How many tokens per second the input pipeline makes: packed rows of 1,024 tokens out of a token cache.

Command:  python -m tools.bench.input [--threads 1 2] [--seconds N] [--record]
Time:     about a minute

The cache is made here: documents of random ids whose lengths spread as those of web text do (log-normal, median 400,
mean 900 tokens). Everything is timed that happens between the cache and the step: reading, packing, segments and
positions, batching. Nothing else runs meanwhile, so this is the most that the threads can give.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lmx.data.encoding import Needs
from lmx.data.pipeline import BatchShape, Loader
from lmx.data.rows import Rows, make_rows
from lmx.data.store import StoreWriter, TokenStore, token_dtype
from lmx.objectives.causal import prepare
from tools.bench.contest import load_average
from tools.bench.reporting import Load, make_result, report, table, versions

LENGTH, BATCH, VOCABULARY, DOCUMENTS = 1024, 32, 50_304, 20_000
TURN_SECONDS = 1.0


def write_cache(folder: Path, documents: int) -> TokenStore:
  """A token cache of random documents."""
  random = np.random.default_rng(0)
  dtype = token_dtype(VOCABULARY)
  writer = StoreWriter(folder, dtype)
  for length in np.maximum(1, random.lognormal(np.log(400), 1.27, documents)).astype(int).tolist():
    writer.add([random.integers(0, VOCABULARY - 1, length, dtype=np.int32)], [b"x" * (4 * length)])
  writer.close()
  return TokenStore(folder, dtype, bos_id=VOCABULARY - 1, eos_id=VOCABULARY - 1)


def make_loader(rows: Rows, threads: int) -> Loader:
  shape = BatchShape(LENGTH, LENGTH, batch_size=BATCH, pad_id=VOCABULARY - 1, threads=threads, prefetch=4)
  return Loader([rows], Needs(prepare, lookahead=1), shape, seed=0)


def rate(loader: Loader, seconds: float) -> float:
  """Tokens per second of one turn. The threads are stopped after it and their first batches are not counted."""
  for _ in range(8):  # What lies ready, twice over.
    next(loader)
  start, batches = time.perf_counter(), 0
  while time.perf_counter() - start < seconds:
    next(loader)
    batches += 1
  elapsed = time.perf_counter() - start
  loader.seek(loader.position)
  return batches * BATCH * LENGTH / elapsed


def main(argv: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(prog="python -m tools.bench.input", description=__doc__.partition("\n")[0])
  parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
  parser.add_argument("--seconds", type=float, default=20.0, help="in all, for each number of threads")
  parser.add_argument("--documents", type=int, default=DOCUMENTS)
  parser.add_argument("--record", action="store_true", help="keep the result in tools/bench")
  args = parser.parse_args(argv)
  before = load_average()
  with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
    store = write_cache(Path(folder) / "cache", args.documents)
    start = time.perf_counter()
    rows = make_rows(store, packing="packed", length=LENGTH, lookahead=1)
    planning = time.perf_counter() - start
    loaders = {threads: make_loader(rows, threads) for threads in args.threads}
    for loader in loaders.values():
      stack.callback(loader.close)
    load = Load([])
    rates: dict[int, list[float]] = {threads: [] for threads in loaders}
    for _ in range(max(1, round(args.seconds / TURN_SECONDS))):
      for threads, loader in loaders.items():
        rates[threads].append(rate(loader, min(TURN_SECONDS, args.seconds)))
    others = load.others()
    values = {"documents": store.documents, "tokens": store.tokens, "rows": len(rows), "planning_seconds": planning,
              "fill": rows.targets / (len(rows) * LENGTH), "tokens_per_second": rates}  # fmt: skip
  result = make_result(values, versions(("grain", "numpy")), others, before)
  lines = [(str(n), *(f"{f(each) / 1e6:.2f}" for f in (statistics.median, min, max))) for n, each in rates.items()]
  text = (
    f"{values['documents']:,} documents of {values['tokens'] / 1e6:.1f}M tokens, packed into {values['rows']:,} rows "
    f"of {LENGTH} in {planning:.1f} s, {values['fill']:.1%} full; batches of {BATCH} rows.\n\n"
    + table(("threads", "million tokens per second", "least", "most"), lines)
  )
  report("input", result, text, record=args.record)


if __name__ == "__main__":
  main(sys.argv[1:])
