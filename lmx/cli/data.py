# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx data`: batches as the model sees them, counts of tokens, the token cache, and TFDS data sets from files."""

import argparse
import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from ml_collections.config_dict import ConfigDict
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from lmx.cli.row_view import RowView
from lmx.console import console
from lmx.data.corpus import Corpus, DataRequirements, epoch_stats, make_eval_batches, make_loader, prepare_corpus
from lmx.data.sources.sources import join_sources
from lmx.data.sources.tfds import build_tfds
from lmx.errors import LmxError, message
from lmx.experiment.build import data_needs, data_spec, run_labels, run_tokenizer
from lmx.experiment.train_setup import make_objective
from lmx.units import human_bytes

_NO_RUN = Path("/nonexistent")  # There is no run whose tokenizer and labels would be used.


def run(args: argparse.Namespace) -> int:
  """Runs the sub-command `args.action`."""
  return {"show": _show, "count": _count, "prepare": _prepare, "build": _build}[args.action](args)


@dataclasses.dataclass(frozen=True)
class _Read:
  """The data of a config.

  Attributes:
    config: the config.
    corpus: its prepared data.
    needs: what the objective requires of the data.
    labels: names of the classes, () where there are none.
  """

  config: ConfigDict
  corpus: Corpus
  needs: DataRequirements
  labels: tuple[str, ...]


def _read(args: argparse.Namespace, out: Console) -> _Read:
  """Reads the config's data for its objective; a bar shows how far tokenizing is."""
  config = args.config_values
  data = data_spec(config)
  tokenizer = run_tokenizer(config, _NO_RUN, out)
  labels = run_labels(config, _NO_RUN, out)
  needs = data_needs(make_objective(config, tokenizer, labels))
  with _progress(out) as progress:
    corpus = prepare_corpus(data, tokenizer, progress, encoder=needs.encoder)
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
    out.print(f"{note.name}: {'already cached' if note.reused else 'prepared'}", markup=False)
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
  for part, stats in (("training", corpus.train_stats), ("validation", corpus.validation_stats)):
    for one in stats:
      numbers = (f"{one.documents:,}", f"{one.tokens:,}", f"{one.bytes:,}", f"{one.bytes_per_token:.3f}")
      table.add_row(Text(one.name), part, *numbers)
  out.print(table)
  for note in corpus.notes:
    for reason, count in note.skipped.items():
      out.print(f"{note.name}: skipped {count} ({reason}), first {note.examples[reason]}", markup=False)
    if note.unknown:
      out.print(f"{note.name}: {note.unknown:,} tokens stand for text that the tokenizer can't represent", markup=False)
    for what, count in note.rows.items():
      out.print(f"{note.name}: {count:,} {what}", markup=False)
    if note.cut:
      out.print(f"{note.name}: {note.cut:,} examples were truncated by {note.cut_tokens:,} tokens in all", markup=False)
  epoch = epoch_stats(corpus, read.needs, batch_size=read.config.train.batch_size)
  what = "tokens" if epoch.bytes_per_target is None else f"targets of {epoch.bytes_per_target:.3f} bytes"
  out.print(
    f"an epoch: {epoch.rows:,} rows of {corpus.spec.length} ({corpus.spec.packing}, {epoch.fill:.1%} filled), "
    f"{epoch.targets:,} {what}",
    markup=False,
  )
  return 0


def _batch(args: argparse.Namespace, read: _Read) -> dict[str, np.ndarray]:
  """The batch that was asked for, from training or validation data."""
  batch_size = read.config.train.batch_size
  if not args.heldout:
    loader = make_loader(read.corpus, read.needs, batch_size=batch_size, seed=read.config.seed)
    loader.seek(args.batch)
    batch = next(loader)
    loader.close()
    return batch
  batches = make_eval_batches(read.corpus, read.needs, batch_size=batch_size)
  if args.batch >= len(batches):
    raise LmxError(message("--batch", got=args.batch, allowed=f"0 to {len(batches) - 1}, the validation batches"))
  return next(batch for index, batch in enumerate(batches) if index == args.batch)


def _show(args: argparse.Namespace) -> int:
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
      out.print(view.positions(row, args.table))
  return 0


def _build(args: argparse.Namespace) -> int:
  data = data_spec(args.config_values)
  out = console()
  folder = data.tfds_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
  source = join_sources(args.sources, data.read_options)
  report = build_tfds(
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
  flag = f" --config.data.tfds_dir={data.tfds_dir}" if data.tfds_dir else ""
  out.print(f"use it: lmx train --config.data.sources=tfds:{args.name}{flag}", markup=False)
  return 0
