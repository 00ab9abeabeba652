# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx tokenizer train`: train a SentencePiece tokenizer on a config's text."""

import argparse
import dataclasses
import itertools
from collections.abc import Iterable, Iterator

from lmx.cli.tokenizer import describe
from lmx.console import console, print_table
from lmx.data.document import BadDocuments, Document
from lmx.data.spec import open_sources
from lmx.data.tokenizer_training import train_tokenizer
from lmx.errors import LmxError, message
from lmx.experiment.build import data_spec, tokenizer_spec
from lmx.paths import local_path

_MEASURED = 1_000_000  # Characters of text on which bytes per token are measured.


def run(args: argparse.Namespace) -> int:
  """Trains the tokenizer, saves it, and prints how many bytes a token of it stands for."""
  spec, data = tokenizer_spec(args.config_values), data_spec(args.config_values)
  if spec.kind != "sentencepiece":
    raise LmxError(
      message("config.tokenizer.kind", got=spec.kind, allowed="sentencepiece, the only kind that lmx trains")
    )
  if args.sources:
    data = dataclasses.replace(data, sources=tuple(args.sources), weights=())
  output = local_path(args.output, "--output", "copy the tokenizer afterwards")
  if output.exists() and (not output.is_dir() or any(output.iterdir())):
    raise LmxError(message("--output", got=str(output), allowed="a new or empty folder"))
  out = console()
  sources = open_sources(data)
  out.print(f"training {spec.model_type} on {', '.join(data.sources)}", markup=False)
  tokenizer = train_tokenizer(spec, data, sources)
  tokenizer.save(output)
  print_table(out, str(output), describe(tokenizer))
  sample = list(_sample(itertools.chain.from_iterable(source.documents(BadDocuments("skip")) for source in sources)))
  tokens = sum(map(len, tokenizer.encode_batch(sample)))
  size = sum(len(text.encode()) for text in sample)
  out.print(f"  {size / max(1, tokens):.3f} bytes per token on the first {size:,} bytes of the text", markup=False)
  out.print(f"use it: lmx train --config.tokenizer.path={output}", markup=False)
  return 0


def _sample(documents: Iterable[Document]) -> Iterator[str]:
  """Texts of about `_MEASURED` characters in all."""
  left = _MEASURED
  for document in documents:
    yield document.text[:left]
    left -= len(document.text)
    if left <= 0:
      return
