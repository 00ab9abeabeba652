# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx export`: a run as a Hugging Face model that transformers reads."""

import argparse

from lmx.api.exchange import to_hf
from lmx.api.loading import load
from lmx.console import console, print_table
from lmx.errors import LmxError, message
from lmx.hf.exporting import Exported, new_folder


def run(args: argparse.Namespace) -> int:
  """Writes the model and prints what was written and how to open it."""
  output = new_folder(args.output)
  loaded = load(args.run, step=args.step)
  options = {"dtype": args.dtype, "family": args.family, "max_shard_size": args.max_shard_size}
  options = {name: value for name, value in options.items() if value is not None}
  for name in {"family", "max_shard_size"} & set(options) if args.adapter else ():
    flag = "--" + name.replace("_", "-")
    raise LmxError(message(flag, got=options[name], allowed="nothing with --adapter: the base model determines it"))
  exported = to_hf(loaded, output, adapter=args.adapter, base=args.base, **options)
  out = console()
  files = f"{len(exported.files)} file{'s' if len(exported.files) > 1 else ''}"
  print_table(
    out,
    str(exported.directory),
    {
      "model": f"{exported.family}, {exported.architecture}",
      "weights": f"{exported.parameters:,} numbers in {exported.tensors} tensors, {args.dtype}, "
      f"{exported.bytes / 1e6:,.1f} MB in {files}",
      "tokenizer": _tokenizer(exported),
      "step": f"{loaded.step:,}",
    },
  )
  out.print(f"use it: {_use(exported, len(loaded.labels))}", markup=False, soft_wrap=True)
  return 0


def _tokenizer(exported: Exported) -> str:
  """Whether and how exactly the tokenizer was written, in words."""
  if not exported.tokenizer:
    return "not written: transformers has no equivalent"
  rest = "; its unigram scores are not rounded: of equally likely segmentations, transformers may choose another one"
  return "written" + ("" if exported.exact else rest)


def _use(exported: Exported, labels: int) -> str:
  """The line of Python that loads the exported model."""
  reader = f"transformers.{exported.architecture}.from_pretrained"
  if exported.base is None:
    return f'{reader}("{exported.directory}")'
  scores = f", num_labels={labels}" if labels else ""
  return f'peft.PeftModel.from_pretrained({reader}("{exported.base}"{scores}), "{exported.directory}")'
