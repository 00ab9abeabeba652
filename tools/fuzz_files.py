# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Changes bytes of a file of each format at random and reads it: nothing but an LmxError may come out.

Command:  python tools/fuzz_files.py --mutations=10000 --seed=0
Prints how many were read and how many were refused, and every other outcome: another exception, a message that doesn't
name the file, a row that JSON can't hold, more than ten seconds. Exit status 1 if there was one.
"""

import argparse
import bz2
import collections
import gzip
import json
import lzma
import random
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from lmx.data.document import BadDocuments, ReadOptions, Wanted
from lmx.data.sources import open_source
from lmx.data.token_files import TokenSource
from lmx.data.tokenizer import ByteTokenizer
from lmx.errors import LmxError

ROWS = [
  {"text": f"caf\u00e9 {i}", "label": i % 2, "answers": {"text": ["x", "y"][: i % 3]}, "tokens": ["a", "b"]}
  for i in range(60)
]
COLUMNS = ("text", "label", "answers.text", "tokens", "question", "id", "tags")
SLOW = 10.0  # Seconds.
TOKENIZER = ByteTokenizer()


def make_files(folder: Path) -> list[Path]:
  """A good file of each format."""
  table = pa.Table.from_pylist(ROWS)
  pa.parquet.write_table(table, folder / "a.parquet")
  pa.feather.write_feather(table, str(folder / "a.feather"))
  with pa.ipc.new_stream(str(folder / "a.arrow"), table.schema) as writer:
    writer.write_table(table)
  lines = "".join(json.dumps(row) + "\n" for row in ROWS)
  asked = {"id": "1", "question": "What?", "answers": [{"text": "gas", "answer_start": 2}]}
  articles = {"data": [{"title": "t", "paragraphs": [{"context": "a gas", "qas": [asked, asked]}]}]}
  texts = {
    "a.txt": "caf\u00e9\r\nand tea\n\n" * 20,
    "a.jsonl": lines,
    "array.json": json.dumps(ROWS),
    "under_data.json": json.dumps({"data": ROWS}, indent=1),
    "squad.json": json.dumps(articles),
    "a.csv": 'id,text\n1,"a ""b"""\n2,c\n' * 3,
    "a.tsv": "id\ttext\n1\tb\n" * 3,
    "a.conll": "-DOCSTART- O\n\nEU B-ORG\ncalls O\n\nus O\n" * 3,
    "a.conllu": "# text = us\n1\tus\twe\tPRON\t_\t_\t0\troot\t_\t_\n\n" * 3,
  }
  for name, text in texts.items():
    (folder / name).write_bytes(text.encode())
  packers = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
  packers[".zst"] = lambda data: pa.compress(data, codec="zstd", asbytes=True)
  for suffix, pack in packers.items():
    (folder / f"a.jsonl{suffix}").write_bytes(pack(lines.encode()))
    (folder / f"a.txt{suffix}").write_bytes(pack(texts["a.txt"].encode()))
  ids = np.arange(1, 250, dtype="<u2")
  header = np.zeros(256, "<i4")
  header[:3] = 20240520, 1, len(ids)
  (folder / "raw.bin").write_bytes(ids.tobytes())
  (folder / "header.bin").write_bytes(header.tobytes() + ids.tobytes())
  np.save(folder / "a.npy", ids)
  return sorted(folder.iterdir())


def mutated(data: bytes, rng: random.Random) -> bytes:
  """A few bytes changed, left out, put in, repeated, or cut off."""
  changed = bytearray(data)
  for _ in range(rng.choice((1, 1, 2, 5, 20))):
    place = rng.randrange(len(changed)) if changed else 0
    end = place + rng.randrange(1, 30)
    how = rng.randrange(5)
    if how == 0:
      changed[place : place + 1] = bytes([rng.randrange(256)])
    elif how == 1:
      del changed[place:end]
    elif how == 2:
      changed[place:place] = rng.randbytes(rng.randrange(1, 9))
    elif how == 3:
      changed[place:place] = changed[place:end]
    else:
      del changed[place:]
  return bytes(changed)


def read(path: Path, rng: random.Random) -> str:
  """Reads a file in one of the ways that lmx does, and returns what came of it: "read", "refused", or a fault."""
  options = ReadOptions(
    columns={name: name for name in COLUMNS}, separator=rng.choice((None, "\n")), max_document_bytes=10_000
  )
  bad = BadDocuments(rng.choice(("error", "skip")))
  wanted = Wanted((rng.choice(COLUMNS),), (rng.choice(COLUMNS),))
  try:
    source = open_source(str(path), options)
    if isinstance(source, TokenSource):
      collections.deque(source.ids(TOKENIZER, bad), maxlen=0)
    elif rng.random() < 0.3:
      collections.deque(source.documents(bad), maxlen=0)
    else:
      for record in source.records(wanted, bad):
        json.dumps(record.values)
  except LmxError as error:
    return "refused" if path.name in str(error) else f"no file named: {str(error)[:100]}"
  except Exception as error:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:80]} ({Path(where.filename).name}:{where.lineno})"
  return "read"


def fuzz(mutations: int, seed: int) -> collections.Counter[str]:
  """Counts of outcomes over that number of changed files; a fault begins with the file it was made from."""
  rng, found = random.Random(seed), collections.Counter[str]()
  with tempfile.TemporaryDirectory() as folder:
    good = [(path, path.read_bytes()) for path in make_files(Path(folder))]
    for _ in range(mutations):
      path, data = rng.choice(good)
      path.write_bytes(mutated(data, rng))
      start = time.perf_counter()
      outcome = read(path, rng)
      if time.perf_counter() - start > SLOW:
        outcome = f"over {SLOW} seconds"
      found[outcome if outcome in ("read", "refused") else f"{path.name}: {outcome}"] += 1
  return found


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument("--mutations", type=int, default=10_000)
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args()
  warnings.simplefilter("error")
  found = fuzz(args.mutations, args.seed)
  for outcome, count in found.most_common():
    print(f"{count:6d} {outcome}")
  return 0 if found.keys() <= {"read", "refused"} else 1


if __name__ == "__main__":
  sys.exit(main())
