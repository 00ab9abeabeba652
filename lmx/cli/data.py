# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Show batches as they enter the model, count tokens, fill the token cache, or build a TFDS data set.

lmx data show --config=configs/cpu.py --rows=2
lmx data count --config.data.sources="corpus/*.jsonl.gz"
lmx data prepare --config=configs/gpt2.py:small
lmx data build --name=my_corpus corpus/*.jsonl.gz
"""

import argparse
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from lmx.cli.arguments import add_config
from lmx.cli.given_config import checked_config
from lmx.console import console
from lmx.errors import LmxError, message
from lmx.units import human

_SEGMENT_COLOURS = ("cyan", "yellow", "green", "magenta")
_UNTRAINED = "dim strike"  # Tokens whose prediction has no weight in the loss.


def add_arguments(parser: argparse.ArgumentParser) -> None:
  commands = parser.add_subparsers(dest="action", required=True, metavar="show|count|prepare|build")
  show = commands.add_parser("show", help="decoded batches as they enter the model")
  add_config(show)
  show.add_argument("--rows", type=int, default=4, help="rows to show (default: 4)")
  show.add_argument("--batch", type=int, default=0, help="the batch to show, counted from 0 (default: 0)")
  show.add_argument("--heldout", action="store_true", help="batches of the held-out text instead")
  show.add_argument("--table", type=int, default=0, metavar="PLACES", help="also list so many places of each row")
  add_config(commands.add_parser("count", help="documents, tokens and bytes of each source"))
  add_config(commands.add_parser("prepare", help="train the tokenizer and fill the token cache"))
  build = commands.add_parser("build", help="write a TFDS data set (ArrayRecord) from your files, on all cores")
  add_config(build)
  build.add_argument("sources", nargs="+", metavar="SOURCE", help="files, folders or globs, as in config.data.sources")
  build.add_argument("--name", required=True, help="of the data set; --config.data.sources=tfds:NAME then reads it")
  build.add_argument("--split", default="train", help="the split to write (default: train)")
  build.add_argument("--version", default="1.0.0", help="of the data set (default: 1.0.0)")
  build.add_argument("--shards", type=int, default=0, help="files, and processes writing them (default: the cores)")


def run(args: argparse.Namespace) -> int:
  return {"show": _show, "count": _count, "prepare": _prepare, "build": _build}[args.action](args)


def _corpus(args: argparse.Namespace, out: Console):
  """The config's corpus and objective; a bar shows what is tokenized now."""
  build, corpora = importlib.import_module("lmx.build"), importlib.import_module("lmx.data.corpus")
  config = checked_config(args)
  data = build.data_spec(config)
  tokenizer = corpora.make_tokenizer(build.tokenizer_spec(config), data)
  with _progress(out) as progress:
    corpus = corpora.prepare_corpus(data, tokenizer, progress)
  return config, corpus


@contextmanager
def _progress(out: Console) -> Iterator[Callable[[str, int, int | None], None]]:
  """A bar for each source on a terminal, a line for each few megabytes elsewhere."""
  if not out.is_terminal:
    yield lambda name, done, total: out.print(f"tokenized {human(done)}B of {name}", markup=False)
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
  _, corpus = _corpus(args, out)
  for note in corpus.notes:
    out.print(f"{note.name}: {'in the cache already' if note.reused else 'prepared'}", markup=False)
  out.print(corpus.describe(), markup=False)
  out.print(f"cache: {corpus.spec.cache_dir}", markup=False)
  return 0


def _count(args: argparse.Namespace) -> int:
  out = console()
  config, corpus = _corpus(args, out)
  table = Table(box=None)
  for name in ("source", "part", "documents", "tokens", "bytes", "bytes/token"):
    table.add_column(name, justify="left" if name in ("source", "part") else "right", overflow="fold")
  for part, facts in (("training", corpus.train_facts), ("held-out", corpus.heldout_facts)):
    for one in facts:
      numbers = (f"{one.documents:,}", f"{one.tokens:,}", f"{one.bytes:,}", f"{one.bytes_per_token:.3f}")
      table.add_row(Text(one.name), part, *numbers)
  out.print(table)
  for note in corpus.notes:
    for reason, count in note.skipped.items():
      out.print(f"{note.name}: skipped {count} ({reason}), first {note.examples[reason]}", markup=False)
    if note.unknown:
      out.print(f"{note.name}: {note.unknown:,} tokens stand for text the tokenizer does not know", markup=False)
  corpora, objective = importlib.import_module("lmx.data.corpus"), _objective(config)
  epoch = corpora.epoch_facts(corpus, lookahead=objective.lookahead)
  out.print(
    f"an epoch: {epoch.rows:,} rows of {corpus.spec.length} ({corpus.spec.packing}, {epoch.fill:.1%} filled), "
    f"{epoch.targets:,} targets of {epoch.bytes_per_target:.3f} bytes",
    markup=False,
  )
  return 0


def _objective(config):
  return importlib.import_module("lmx.build").make_objective(config)


def _batch(args: argparse.Namespace, config, corpus) -> dict[str, np.ndarray]:
  corpora, objective = importlib.import_module("lmx.data.corpus"), _objective(config)
  common = {"lookahead": objective.lookahead, "batch_size": config.train.batch_size}
  if not args.heldout:
    loader = corpora.make_loader(corpus, objective.prepare, seed=config.seed, **common)
    loader.seek(args.batch)
    batch = next(loader)
    loader.close()
    return batch
  batches = corpora.make_eval_batches(corpus, objective.prepare, **common)
  if args.batch >= len(batches):
    raise LmxError(message("--batch", got=args.batch, allowed=f"0 to {len(batches) - 1}, the held-out batches"))
  return next(batch for index, batch in enumerate(batches) if index == args.batch)


def _show(args: argparse.Namespace) -> int:
  for flag, value in (("--rows", args.rows - 1), ("--batch", args.batch), ("--table", args.table)):
    if value < 0:
      raise LmxError(message(flag, got=value, allowed="a positive number"))
  out = console()
  config, corpus = _corpus(args, out)
  batch = _batch(args, config, corpus)
  shapes = ", ".join(f"{name} {array.dtype}" for name, array in batch.items())
  count, length = batch["tokens"].shape
  out.print(f"batch {args.batch}: {count} rows of {length}: {shapes}", markup=False)
  for index in range(min(args.rows, count)):
    row = {name: array[index] for name, array in batch.items()}
    _show_row(out, index, row, corpus.tokenizer)
    if args.table:
      out.print(_places(row, corpus.tokenizer, args.table))
  return 0


def _show_row(out: Console, index: int, row: dict[str, np.ndarray], tokenizer) -> None:
  """Each segment of a row, decoded: in its own colour, and under a line with its number."""
  segments, weights = row["segment_ids"], row["loss_weights"]
  last = int(segments.max())
  summary = f"row {index}: {last} segments, {int((weights > 0).sum())} targets in the loss"
  out.print(f"\n{summary}, {int((segments == 0).sum())} places of padding", style="bold", markup=False)
  for segment in range(1, last + 1):
    chosen = np.flatnonzero(segments == segment)
    positions, trained = row["positions"][chosen], int((weights[chosen] > 0).sum())
    head = f"[segment {segment}: places {chosen[0]}-{chosen[-1]}, positions {positions[0]}-{positions[-1]}"
    text = Text(f"{head}, {trained} of {len(chosen)} targets in the loss]\n", style="dim")
    colour = _SEGMENT_COLOURS[segment % len(_SEGMENT_COLOURS)]
    for run, masked in _runs(row["tokens"][chosen], weights[chosen] == 0, tokenizer):
      if masked and not out.is_terminal:
        run = f"\u27e8masked\u27e9{run}\u27e8/masked\u27e9"
      text.append(run, _UNTRAINED if masked else colour)
    out.print(text)


def _runs(tokens: np.ndarray, masked: np.ndarray, tokenizer) -> Iterator[tuple[str, bool]]:
  """Text of neighbouring tokens of one kind; special tokens are spelt out."""
  special = np.isin(tokens, [tokenizer.bos_id, tokenizer.eos_id])
  kind = special * 2 + masked
  borders = np.flatnonzero(np.diff(kind)) + 1
  for part in np.split(np.arange(len(tokens)), borders):
    pieces = [tokenizer.piece(int(t)) for t in tokens[part]]
    text = "".join(pieces) if special[part[0]] else tokenizer.decode(tokens[part])
    yield text, bool(masked[part[0]])


def _places(row: dict[str, np.ndarray], tokenizer, count: int) -> Table:
  """The first places of a row, one a line: what goes in, what shall come out, and with which weight."""
  table = Table(box=None)
  for name in ("place", "segment", "position", "token", "", "target", "", "weight"):
    table.add_column(name, justify="right" if name else "left")
  for place in range(min(count, len(row["tokens"]))):
    token, target = int(row["tokens"][place]), int(row["targets"][place])
    shown = [Text(repr(tokenizer.piece(t))) for t in (token, target)]
    numbers = [str(row[name][place]) for name in ("segment_ids", "positions")]
    table.add_row(str(place), *numbers, str(token), shown[0], str(target), shown[1], f"{row['loss_weights'][place]:g}")
  return table


def _build(args: argparse.Namespace) -> int:
  build, tfds = importlib.import_module("lmx.build"), importlib.import_module("lmx.data.tfds")
  sources = importlib.import_module("lmx.data.sources")
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
    out.print(f"{report.folder}: {split}, {documents:,} documents, {human(report.bytes[split])}B", markup=False)
  for reason, count in report.skipped.items():
    out.print(f"skipped {count} ({reason})", markup=False)
  place = f" --config.data.tfds_dir={data.tfds_dir}" if data.tfds_dir else ""
  out.print(f"use it: lmx train --config.data.sources=tfds:{args.name}{place}", markup=False)
  return 0
