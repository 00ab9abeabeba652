# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Show batches as the model sees them, count tokens, fill the cache, or build a TFDS data set.

lmx data show --config=configs/cpu.py --rows=2
lmx data count --config.data.sources="corpus/*.jsonl.gz"
lmx data prepare --config=configs/gpt2.py:small
lmx data build --name=my_corpus corpus/*.jsonl.gz
"""

import argparse
import dataclasses
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from lmx.cli.arguments import add_config
from lmx.cli.given_config import checked_config
from lmx.cli.row_view import RowView
from lmx.console import console
from lmx.errors import LmxError, message
from lmx.units import human_bytes

_NO_RUN = Path("/nonexistent")  # There is no run whose tokenizer and labels would be taken.


def add_arguments(parser: argparse.ArgumentParser) -> None:
  commands = parser.add_subparsers(dest="action", required=True, metavar="show|count|prepare|build")
  show = commands.add_parser("show", help="decoded batches as they enter the model")
  add_config(show)
  show.add_argument("--rows", type=int, default=4, help="rows to show (default: 4)")
  show.add_argument("--batch", type=int, default=0, help="the batch to show, counted from 0 (default: 0)")
  show.add_argument("--heldout", action="store_true", help="batches of the held-out text instead")
  show.add_argument("--table", type=int, default=0, metavar="PLACES", help="also list so many places of each row")
  add_config(commands.add_parser("count", help="documents, tokens and bytes of each source"))
  add_config(commands.add_parser("prepare", help="train the tokenizer and fill the cache of tokens or examples"))
  build = commands.add_parser("build", help="write a TFDS data set (ArrayRecord) from your files, on all cores")
  add_config(build)
  build.add_argument("sources", nargs="+", metavar="SOURCE", help="files, folders or globs, as in config.data.sources")
  build.add_argument("--name", required=True, help="of the data set; --config.data.sources=tfds:NAME then reads it")
  build.add_argument("--split", default="train", help="the split to write (default: train)")
  build.add_argument("--version", default="1.0.0", help="of the data set (default: 1.0.0)")
  build.add_argument("--shards", type=int, default=0, help="files, and processes writing them (default: the cores)")


def run(args: argparse.Namespace) -> int:
  return {"show": _show, "count": _count, "prepare": _prepare, "build": _build}[args.action](args)


@dataclasses.dataclass(frozen=True)
class _Read:
  """What a config's data is: the config, the corpus, what the objective asks of it, and its labels."""

  config: Any
  corpus: Any
  needs: Any
  labels: tuple[str, ...]


def _read(args: argparse.Namespace, out: Console) -> _Read:
  """The config's corpus, read for its objective; a bar shows what is tokenized now."""
  build, corpora = importlib.import_module("lmx.experiment.build"), importlib.import_module("lmx.data.corpus")
  config = checked_config(args)
  data = build.data_spec(config)
  tokenizer = build.run_tokenizer(config, _NO_RUN, out)
  labels = build.run_labels(config, _NO_RUN, out)
  needs = build.data_needs(build.make_objective(config, tokenizer, labels))
  with _progress(out) as progress:
    corpus = corpora.prepare_corpus(data, tokenizer, progress, encoder=needs.encoder)
  return _Read(config, corpus, needs, labels)


@contextmanager
def _progress(out: Console) -> Iterator[Callable[[str, int, int | None], None]]:
  """A bar for each source on a terminal, a line for each few megabytes elsewhere."""
  if not out.is_terminal:
    yield lambda name, done, total: out.print(f"tokenized {human_bytes(done)} of {name}", markup=False)
    return
  columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
  with Progress(*columns, console=out) as bar:
    tasks: dict = {}

    def update(name: str, done: int, total: int | None) -> None:
      if name not in tasks:
        tasks[name] = bar.add_task(name, total=total)
      bar.update(tasks[name], completed=done)

    yield update


def _prepare(args: argparse.Namespace) -> int:
  out = console()
  corpus = _read(args, out).corpus
  for note in corpus.notes:
    out.print(f"{note.name}: {'in the cache already' if note.reused else 'prepared'}", markup=False)
  out.print(corpus.describe(), markup=False)
  out.print(f"cache: {corpus.spec.cache_dir}", markup=False)
  return 0


def _count(args: argparse.Namespace) -> int:
  out = console()
  read = _read(args, out)
  corpus = read.corpus
  table = Table(box=None)
  units = f"{corpus.train_stats[0].unit}s"
  for name in ("source", "part", units, "tokens", "bytes", "bytes/token"):
    table.add_column(name, justify="left" if name in ("source", "part") else "right", overflow="fold")
  for part, facts in (("training", corpus.train_stats), ("held-out", corpus.validation_stats)):
    for one in facts:
      numbers = (f"{one.documents:,}", f"{one.tokens:,}", f"{one.bytes:,}", f"{one.bytes_per_token:.3f}")
      table.add_row(Text(one.name), part, *numbers)
  out.print(table)
  for note in corpus.notes:
    for reason, count in note.skipped.items():
      out.print(f"{note.name}: skipped {count} ({reason}), first {note.examples[reason]}", markup=False)
    if note.unknown:
      out.print(f"{note.name}: {note.unknown:,} tokens stand for text the tokenizer does not know", markup=False)
    for what, count in note.rows.items():
      out.print(f"{note.name}: {count:,} {what}", markup=False)
    if note.cut:
      out.print(
        f"{note.name}: {note.cut:,} examples were cut to fit; they lost {note.cut_tokens:,} tokens", markup=False
      )
  corpora = importlib.import_module("lmx.data.corpus")
  epoch = corpora.epoch_stats(corpus, read.needs, batch_size=read.config.train.batch_size)
  what = "tokens" if epoch.bytes_per_target is None else f"targets of {epoch.bytes_per_target:.3f} bytes"
  out.print(
    f"an epoch: {epoch.rows:,} rows of {corpus.spec.length} ({corpus.spec.packing}, {epoch.fill:.1%} filled), "
    f"{epoch.targets:,} {what}",
    markup=False,
  )
  return 0


def _batch(args: argparse.Namespace, read: _Read) -> dict[str, np.ndarray]:
  corpora, batch_size = importlib.import_module("lmx.data.corpus"), read.config.train.batch_size
  if not args.heldout:
    loader = corpora.make_loader(read.corpus, read.needs, batch_size=batch_size, seed=read.config.seed)
    loader.seek(args.batch)
    batch = next(loader)
    loader.close()
    return batch
  batches = corpora.make_eval_batches(read.corpus, read.needs, batch_size=batch_size)
  if args.batch >= len(batches):
    raise LmxError(message("--batch", got=args.batch, allowed=f"0 to {len(batches) - 1}, the held-out batches"))
  return next(batch for index, batch in enumerate(batches) if index == args.batch)


def _show(args: argparse.Namespace) -> int:
  for flag, value in (("--rows", args.rows - 1), ("--batch", args.batch), ("--table", args.table)):
    if value < 0:
      raise LmxError(message(flag, got=value, allowed="a positive number"))
  out = console()
  read = _read(args, out)
  batch = _batch(args, read)
  shapes = ", ".join(f"{name} {array.dtype}" for name, array in batch.items())
  count, length = batch["tokens"].shape
  out.print(f"batch {args.batch}: {count} rows of {length}: {shapes}", markup=False)
  view = RowView(out, read.corpus.tokenizer, read.labels)
  for index in range(min(args.rows, count)):
    row = {name: array[index] for name, array in batch.items()}
    view.show(index, row)
    if args.table:
      out.print(view.places(row, args.table))
  return 0


def _build(args: argparse.Namespace) -> int:
  build, tfds = importlib.import_module("lmx.experiment.build"), importlib.import_module("lmx.data.sources.tfds")
  sources = importlib.import_module("lmx.data.sources.sources")
  config = checked_config(args)
  data = build.data_spec(config)
  out = console()
  folder = data.tfds_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
  source = sources.join_sources(args.sources, data.read_options)
  report = tfds.build_tfds(
    {args.split: source},
    name=args.name,
    directory=folder,
    version=args.version,
    shards=args.shards,
    bad_documents=data.bad_documents,
  )
  for split, documents in report.documents.items():
    out.print(f"{report.folder}: {split}, {documents:,} documents, {human_bytes(report.bytes[split])}", markup=False)
  for reason, count in report.skipped.items():
    out.print(f"skipped {count} ({reason})", markup=False)
  place = f" --config.data.tfds_dir={data.tfds_dir}" if data.tfds_dir else ""
  out.print(f"use it: lmx train --config.data.sources=tfds:{args.name}{place}", markup=False)
  return 0
