# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A Hugging Face model as a run directory, to use, to evaluate and to train on.

lmx import path/to/model --workdir=runs/minilm
lmx import path/to/bert --workdir=runs/bert --head=classification --labels=negative,positive
lmx import openai-community/gpt2 --workdir=runs/gpt2         (from the hub, where there is a network)
"""

import argparse
import importlib
import shutil
from pathlib import Path
from typing import Any

from lmx.config.loading import check, from_values, to_json
from lmx.config.run_config import IMPORTED_DIR
from lmx.console import console, print_table
from lmx.errors import LmxError, message


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("model", metavar="MODEL", help="a directory with config.json and safetensors, or a hub name")
  parser.add_argument("--workdir", required=True, metavar="FOLDER", help="the run directory to make")
  parser.add_argument(
    "--head", help="end the model in this head instead of its own; what is missing of it starts fresh"
  )
  parser.add_argument("--labels", default="", help="with --head: the names of the classes, with commas between")
  parser.add_argument("--tokenizer", metavar="FOLDER", help="take the tokenizer from here (default: the model's own)")
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="to compute in (default: as the files)")
  parser.add_argument("--nonfinite", choices=("stop", "keep"), default="stop", help="weights that are NaN or infinite")
  parser.add_argument("--mesh", default="", metavar="AXIS=N,...", help="spread the model over devices while reading")


def run(args: argparse.Namespace) -> int:
  run_dir = Path(args.workdir).expanduser()
  if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
    raise LmxError(message("--workdir", got=str(run_dir), allowed="a new or empty folder"))
  importing = importlib.import_module("lmx.hf.importing")
  labels = tuple(label for label in args.labels.split(",") if label)
  if labels and args.head is None:
    raise LmxError(message("--labels", got=args.labels, allowed="nothing without --head: the model's own are read"))
  imported = importing.import_hf(
    args.model,
    mesh=_mesh(args.mesh),
    head=args.head,
    labels=labels,
    dtype=args.dtype,
    tokenizer=args.tokenizer,
    nonfinite=args.nonfinite,
  )
  write_run(imported, run_dir, args.model, other_tokenizer=args.tokenizer is not None)
  out = console()
  print_table(out, str(run_dir), _facts(imported))
  for line in _advice(imported, run_dir):
    out.print(line, markup=False, soft_wrap=True)
  return 0


def _mesh(text: str) -> Any:
  """fsdp=4,tensor=2 as a mesh; "" is None."""
  if not text:
    return None
  sizes = {}
  for part in text.split(","):
    axis, equals, size = part.partition("=")
    if not equals or not size.isdigit():
      raise LmxError(message("--mesh", got=text, allowed="axes with sizes, such as fsdp=4,tensor=2"))
    sizes[axis] = int(size)
  return importlib.import_module("lmx.parallel.mesh").make_mesh(sizes)


def write_run(imported: Any, run_dir: Path, origin: str, *, other_tokenizer: bool = False) -> None:
  """Writes config, tokenizer, labels, the model's own small files and a checkpoint of step 0.

  Args:
    imported: the model.
    run_dir: new or empty.
    origin: the directory or hub name that it was asked for by.
    other_tokenizer: the tokenizer is not the model's own.

  Raises:
    LmxError: a model without a tokenizer that lmx reads.
  """
  if imported.tokenizer is None:
    fix = "--tokenizer=FOLDER of one, with tokenizer.json, tokenizer.model or vocab.txt"
    raise LmxError(message("tokenizer", got=f"none in {imported.directory}", allowed="one that lmx reads", fix=fix))
  folder = importlib.import_module("lmx.training.run_directory")
  checkpoint = importlib.import_module("lmx.training.checkpoint")
  carried = importlib.import_module("lmx.hf.carried")
  objective = importlib.import_module("lmx.objectives").OBJECTIVES[imported.description.objective]
  kind = imported.tokenizer.kind
  path = None if kind == "bytes" else str(run_dir / folder.TOKENIZER_DIR)
  config = from_values({"name": run_dir.name, "tokenizer.kind": kind, "tokenizer.path": path, **imported.settings})
  if config.data.packing not in objective.packings:
    config.data.packing = objective.packings[0]
  problems = check(config)
  if problems:
    raise LmxError("\n".join(problems))
  try:
    with checkpoint.Checkpointer(run_dir / folder.CHECKPOINT_DIR, background=False) as checkpointer:
      checkpointer.save_parameters(imported.parameters, {"imported_from": str(imported.directory)})
    carried.keep(imported.directory, run_dir / IMPORTED_DIR, origin=origin, other_tokenizer=other_tokenizer)
    folder.write_run_files(run_dir, to_json(config), imported.tokenizer, imported.description.labels)
  except BaseException:
    shutil.rmtree(run_dir, ignore_errors=True)  # It was empty: nothing of anyone's is lost.
    raise


def _facts(imported: Any) -> dict[str, str]:
  said, spec, plan = imported.description, imported.spec, imported.abstract
  shown = {
    "model": f"{said.family.name}, {said.head} head" + (f" ({len(said.labels)} labels)" if said.labels else ""),
    "shape": spec.describe(),
    "parameters": f"{plan.parameters:,} in {len(plan.shapes)} arrays, float32",
    "read": f"{imported.bytes / 1e6:,.1f} MB from {imported.directory}",
    "vocabulary": f"{said.vocab_size:,} rows, {spec.vocab_rows - said.vocab_size} of padding added; "
    f"the tokenizer has {imported.tokenizer.vocab_size:,} ids",
  }
  if imported.nonfinite:
    shown["not finite"] = ", ".join(f"{count:,} numbers of {name}" for name, count in imported.nonfinite.items())
  for name, values in {"fresh": imported.fresh, "left out": imported.left_out, "not used": said.unused}.items():
    if values:
      shown[name] = ", ".join(values[:6]) + (f" and {len(values) - 6} more" if len(values) > 6 else "")
  return shown


# Head -> the config that trains a model with it.
_CONFIGS = {"classification": "classify", "regression": "regress", "span": "span", "tagging": "tag", "language": "sft"}


def _advice(imported: Any, run_dir: Path) -> list[str]:
  """What to do next."""
  head = imported.description.head
  lines = ["next:"]
  if imported.description.objective in ("causal", "seq2seq"):
    lines.append(f'  lmx generate {run_dir} --prompt "..."')
  if imported.description.model["family"] == "encoder" and head in ("embedding", "masked"):
    lines.append(f"  lmx train --config=configs/embed.py:{run_dir} --config.data.sources=pairs.tsv")
    lines.append(f"  lmx import {imported.directory} --head=classification --labels=0,1 --workdir={run_dir}_classifier")
  elif head in _CONFIGS and imported.description.model["family"] != "encoder_decoder":
    lines.append(f"  lmx train --config=configs/{_CONFIGS[head]}.py:{run_dir} --config.data.sources=FILE")
  else:
    lines.append(f"  lmx train --config.checkpoint.start_from={run_dir} ...   (any config with the same model)")
  lines.append(f'  python -c "import lmx; run = lmx.load({str(run_dir)!r})"')
  return [*lines, f"  lmx export {run_dir} --output=exported"]
