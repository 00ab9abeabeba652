# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Train a SentencePiece tokenizer on a config's text, or show how it tokenizes a text.

lmx tokenizer train --output=my_tokenizer --config.tokenizer.vocab_size=8192
lmx tokenizer train --output=my_tokenizer --sources "corpus/*.txt"
lmx tokenizer show --path=my_tokenizer --text "Some words."
"""

import argparse
import dataclasses
import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from rich.markup import escape

from lmx.cli.arguments import add_config
from lmx.cli.given_config import checked_config
from lmx.console import console, print_table
from lmx.errors import LmxError, message

_COLOURS = ("black on cyan", "black on yellow", "black on green", "black on magenta")
_MEASURED = 1_000_000  # Characters on which bytes per token are counted.


def add_arguments(parser: argparse.ArgumentParser) -> None:
  commands = parser.add_subparsers(dest="action", required=True, metavar="train|show")
  train = commands.add_parser("train", help="train a SentencePiece on the config's sources")
  add_config(train)
  train.add_argument("--output", required=True, metavar="FOLDER", help="a folder for the tokenizer's files")
  train.add_argument("--sources", nargs="+", metavar="SOURCE", help="train on this text instead of the config's")
  show = commands.add_parser("show", help="what a tokenizer is, and how it cuts a text")
  show.add_argument(
    "--path", required=True, help='a tokenizer\'s folder, a run, a .model, a tokenizer.json, or "bytes"'
  )
  show.add_argument("--text", help="the text to cut")
  show.add_argument("--pieces", type=int, default=0, help="also list so many pieces of the vocabulary")


def run(args: argparse.Namespace) -> int:
  return {"train": _train, "show": _show}[args.action](args)


def _train(args: argparse.Namespace) -> int:
  build = importlib.import_module("lmx.experiment.build")
  training = importlib.import_module("lmx.data.tokenizer_training")
  spec_module = importlib.import_module("lmx.data.spec")
  config = checked_config(args)
  spec, data = build.tokenizer_spec(config), build.data_spec(config)
  if spec.kind != "sentencepiece":
    raise LmxError(message("config.tokenizer.kind", got=spec.kind, allowed="sentencepiece: it is the kind lmx trains"))
  if args.sources:
    data = dataclasses.replace(data, sources=tuple(args.sources), weights=())
  output = Path(args.output).expanduser()
  if output.exists() and (not output.is_dir() or any(output.iterdir())):
    raise LmxError(message("--output", got=str(output), allowed="a new or empty folder"))
  out = console()
  sources = spec_module.open_sources(data)
  out.print(f"training {spec.model_type} on {', '.join(data.sources)}", markup=False)
  tokenizer = training.train_tokenizer(spec, data, sources)
  tokenizer.save(output)
  print_table(out, str(output), _facts(tokenizer))
  sample = list(_sample(itertools.chain.from_iterable(source.documents(_lenient()) for source in sources)))
  tokens = sum(map(len, tokenizer.encode_batch(sample)))
  size = sum(len(text.encode()) for text in sample)
  out.print(f"  {size / max(1, tokens):.3f} bytes per token on the first {size:,} bytes of the text", markup=False)
  out.print(f"use it: lmx train --config.tokenizer.path={output}", markup=False)
  return 0


def _lenient():
  return importlib.import_module("lmx.data.document").BadDocuments("skip")


def _sample(documents) -> Iterator[str]:
  left = _MEASURED
  for document in documents:
    yield document.text[:left]
    left -= len(document.text)
    if left <= 0:
      return


def _open(path: str):
  """A tokenizer by whatever names it: its folder, the run it belongs to, or a file."""
  table = importlib.import_module("lmx.data.tokenizers.tokenizer")
  place = Path(path).expanduser()
  if path == "bytes" and not place.exists():
    return table.open_tokenizer("bytes", None)
  folder = place / "tokenizer" if (place / "tokenizer").is_dir() else place
  if (folder / table.DESCRIPTION_FILE).is_file():
    return table.load_tokenizer(folder)
  names = [folder] if folder.is_file() else [folder / "tokenizer.model", folder / "tokenizer.json"]
  for file in names:
    if file.is_file():
      return table.open_tokenizer("huggingface" if file.suffix == ".json" else "sentencepiece", str(file), "--path")
  raise LmxError(message("--path", got=path, allowed="a tokenizer's folder, a run, a .model, a tokenizer.json, bytes"))


def _facts(tokenizer) -> dict[str, str]:
  return {
    "kind": tokenizer.kind,
    "ids": f"{tokenizer.vocab_size:,}",
    "start, end": f"{tokenizer.bos_id} {tokenizer.piece(tokenizer.bos_id)!r}, "
    f"{tokenizer.eos_id} {tokenizer.piece(tokenizer.eos_id)!r}",
    "reversible": "yes, any text" if tokenizer.lossless else "no: characters it does not know are lost",
    "fingerprint": tokenizer.fingerprint,
  }


def _show(args: argparse.Namespace) -> int:
  tokenizer, out = _open(args.path), console()
  print_table(out, tokenizer.name, _facts(tokenizer))
  if args.pieces > 0:
    last = min(args.pieces, tokenizer.vocab_size)
    out.print("  ".join(f"{i} {tokenizer.piece(i)!r}" for i in range(last)), markup=False)
  if args.text is None:
    return 0
  ids = tokenizer.encode(args.text)
  pieces = [tokenizer.piece(int(i)) for i in ids]
  if out.is_terminal:
    coloured = zip(itertools.cycle(_COLOURS), pieces, strict=False)
    out.print("".join(f"[{colour}]{escape(piece)}[/]" for colour, piece in coloured))
  out.print(" ".join(repr(piece) for piece in pieces), markup=False)
  out.print(" ".join(map(str, ids.tolist())), markup=False)
  same = "comes back exactly" if tokenizer.decode(ids) == args.text else f"comes back as {tokenizer.decode(ids)!r}"
  out.print(f"{len(ids)} tokens for {len(args.text.encode())} bytes; the text {same}", markup=False)
  return 0
