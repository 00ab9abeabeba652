# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx tokenizer show`: what a tokenizer is, and how it tokenizes a text. Imports no jax."""

import argparse
import itertools

from rich.markup import escape

from lmx.console import console, print_table
from lmx.data.tokenizers.tokenizer import DESCRIPTION_FILE, Tokenizer, load_tokenizer, open_tokenizer
from lmx.errors import LmxError, message
from lmx.paths import any_path

_COLOURS = ("black on cyan", "black on yellow", "black on green", "black on magenta")


def run(args: argparse.Namespace) -> int:
  """Describes the tokenizer, lists tokens, and tokenizes a text."""
  tokenizer, out = _open(args.path), console()
  print_table(out, tokenizer.name, describe(tokenizer))
  if args.pieces > 0:
    last = min(args.pieces, tokenizer.vocab_size)
    out.print("  ".join(f"{i} {tokenizer.piece(i)!r}" for i in range(last)), markup=False)
  if args.text is None:
    return 0
  ids = tokenizer.encode(args.text)
  tokens = [tokenizer.piece(int(i)) for i in ids]
  if out.is_terminal:
    coloured = zip(itertools.cycle(_COLOURS), tokens, strict=False)
    out.print("".join(f"[{colour}]{escape(token)}[/]" for colour, token in coloured))
  out.print(" ".join(repr(token) for token in tokens), markup=False)
  out.print(" ".join(map(str, ids.tolist())), markup=False)
  same = "decodes exactly" if tokenizer.decode(ids) == args.text else f"decodes to {tokenizer.decode(ids)!r}"
  out.print(f"{len(ids)} tokens for {len(args.text.encode())} bytes; the text {same}", markup=False)
  return 0


def _open(path: str) -> Tokenizer:
  """The tokenizer of a folder, a run or a file, or "bytes"."""
  place = any_path(path, "--path")
  if path == "bytes" and not place.exists():
    return open_tokenizer("bytes", None)
  folder = place / "tokenizer" if (place / "tokenizer").is_dir() else place
  if (folder / DESCRIPTION_FILE).is_file():
    return load_tokenizer(folder)
  names = [folder] if folder.is_file() else [folder / "tokenizer.model", folder / "tokenizer.json"]
  for file in names:
    if file.is_file():
      return open_tokenizer("huggingface" if file.suffix == ".json" else "sentencepiece", str(file), "--path")
  raise LmxError(
    message("--path", got=path, allowed="the folder of a tokenizer or a run, a .model, a tokenizer.json, bytes")
  )


def describe(tokenizer: Tokenizer) -> dict[str, str]:
  """Names and values to print about a tokenizer."""
  return {
    "kind": tokenizer.kind,
    "ids": f"{tokenizer.vocab_size:,}",
    "start, end": f"{tokenizer.bos_id} {tokenizer.piece(tokenizer.bos_id)!r}, "
    f"{tokenizer.eos_id} {tokenizer.piece(tokenizer.eos_id)!r}",
    "reversible": "yes, any text" if tokenizer.lossless else "no: unknown characters are lost",
    "fingerprint": tokenizer.fingerprint,
  }
