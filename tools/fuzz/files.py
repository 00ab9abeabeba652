# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Changed files of every format that holds rows, texts or tokens."""

import bz2
import collections
import functools
import gzip
import json
import lzma
import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

from lmx.data.document import BadDocuments, ReadOptions, RequiredColumns
from lmx.data.sources.sources import open_source
from lmx.data.sources.token_files import TokenSource
from lmx.data.tokenizers.tokenizer import ByteTokenizer
from tools.fuzz.loop import Case
from tools.fuzz.mutations import change_file

ROWS = [
  {"text": f"caf\u00e9 {i}", "label": i % 2, "answers": {"text": ["x", "y"][: i % 3]}, "tokens": ["a", "b"],
   "messages": [{"role": "user", "content": "w"}]}
  for i in range(60)
]  # fmt: skip
COLUMNS = ("text", "label", "answers.text", "tokens", "question", "id", "tags", "messages")
TOKENIZER = ByteTokenizer()


def make_files(folder: Path) -> None:
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


@functools.cache
def good_files() -> tuple[tuple[str, bytes], ...]:
  """(name, contents) of a good file of each format."""
  with tempfile.TemporaryDirectory() as folder:
    make_files(Path(folder))
    return tuple((path.name, path.read_bytes()) for path in sorted(Path(folder).iterdir()))


def file(folder: Path, pick: random.Random) -> Case:
  """A file of one format, read in one of the ways that lmx does."""
  name, data = pick.choice(good_files())
  path = folder / name
  path.write_bytes(data)
  change_file(path, pick, COLUMNS, values=0.5)
  options = ReadOptions(
    columns={name: name for name in COLUMNS}, separator=pick.choice((None, "\n")), max_document_bytes=10_000
  )
  bad, wanted = (
    BadDocuments(pick.choice(("error", "skip"))),
    RequiredColumns((pick.choice(COLUMNS),), (pick.choice(COLUMNS),)),
  )
  whole = pick.random() < 0.3

  def read() -> bool:
    source = open_source(str(path), options)
    if isinstance(source, TokenSource):
      collections.deque(source.ids(TOKENIZER, bad), maxlen=0)
    elif whole:
      collections.deque(source.documents(bad), maxlen=0)
    else:
      for record in source.records(wanted, bad):
        json.dumps(record.values)
    return True

  return Case(name, repr(path.read_bytes()), read, names=name)
