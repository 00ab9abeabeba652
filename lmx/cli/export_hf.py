# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A run as a Hugging Face directory that transformers reads: config.json, safetensors, tokenizer.

lmx export runs/classify --output=exported
lmx export runs/small --output=exported --family=llama --dtype=bfloat16 --max-shard-size=2GB
lmx export runs/sft --output=adapter --adapter               (trained with --config.lora.rank: a folder of PEFT)
"""

import argparse
import importlib
from typing import Any

from lmx.cli.arguments import add_run
from lmx.console import console, print_table
from lmx.errors import LmxError, message


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add_run(parser)
  parser.add_argument("--output", required=True, metavar="FOLDER", help="a new or empty folder")
  parser.add_argument(
    "--family", help="write it as this family (default: the one it came from, or the first that fits)"
  )
  parser.add_argument("--adapter", action="store_true", help="write a LoRA run's adapters alone, for PEFT")
  parser.add_argument("--base", metavar="MODEL", help="with --adapter: the folder or hub name of the model that it "
                      "belongs to (default: what was imported)")  # fmt: skip
  parser.add_argument("--dtype", default="float32", help="float32 (default), bfloat16 or float16")
  parser.add_argument("--max-shard-size", metavar="SIZE", help="of one file (default: 5GB)")


def run(args: argparse.Namespace) -> int:
  output = importlib.import_module("lmx.hf.exporting").new_folder(args.output)
  notebook = importlib.import_module("lmx.api.loaded_run")
  loaded = notebook.load(args.run, step=args.step)
  options = {"dtype": args.dtype, "family": args.family, "max_shard_size": args.max_shard_size}
  options = {name: value for name, value in options.items() if value is not None}
  for name in {"family", "max_shard_size"} & set(options) if args.adapter else ():
    flag = "--" + name.replace("_", "-")
    raise LmxError(message(flag, got=options[name], allowed="nothing with --adapter: it is its base's"))
  exported = importlib.import_module("lmx.api.exchange").to_hf(
    loaded, output, adapter=args.adapter, base=args.base, **options
  )
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


def _tokenizer(exported: Any) -> str:
  """What became of the tokenizer, for people."""
  if not exported.tokenizer:
    return "not written: it has no form that transformers reads"
  rest = "; its unigram model's scores are not rounded as lmx trains them: equally likely runs may be split otherwise"
  return "written" + ("" if exported.exact else rest)


def _use(exported: Any, labels: int) -> str:
  """The line of Python that opens what was written."""
  reader = f"transformers.{exported.architecture}.from_pretrained"
  if exported.base is None:
    return f'{reader}("{exported.directory}")'
  scores = f", num_labels={labels}" if labels else ""
  return f'peft.PeftModel.from_pretrained({reader}("{exported.base}"{scores}), "{exported.directory}")'
