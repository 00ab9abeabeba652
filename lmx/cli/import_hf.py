# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx import`: a Hugging Face model as a run, to use, evaluate or fine-tune."""

import argparse
from pathlib import Path

from jax.sharding import Mesh

from lmx.config.loading import check, from_values, to_json
from lmx.config.run_config import IMPORTED_DIR, TOKENIZER_DIR
from lmx.console import console, print_table
from lmx.errors import LmxError, message
from lmx.hf import carried
from lmx.hf.importing import Imported, import_hf
from lmx.objectives import OBJECTIVES
from lmx.parallel.mesh import make_mesh
from lmx.paths import any_path, remove_folder
from lmx.storage import writing_folder
from lmx.training.checkpoint import Checkpointer
from lmx.training.run_directory import CHECKPOINT_DIR, write_run_files


def run(args: argparse.Namespace) -> int:
  """Imports the model into a new run and prints what was read and what can be done next."""
  run_dir = any_path(args.workdir, "--workdir")
  if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
    raise LmxError(message("--workdir", got=str(run_dir), allowed="a new or empty folder"))
  labels = tuple(label for label in args.labels.split(",") if label)
  if labels and args.head is None:
    raise LmxError(message("--labels", got=args.labels, allowed="nothing without --head: the model has its own labels"))
  imported = import_hf(
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
  print_table(out, str(run_dir), _summary(imported))
  for line in _advice(imported, run_dir):
    out.print(line, markup=False, soft_wrap=True)
  return 0


def _mesh(text: str) -> Mesh | None:
  """The mesh of "fsdp=4,tensor=2"; None for ""."""
  if not text:
    return None
  sizes = {}
  for part in text.split(","):
    axis, equals, size = part.partition("=")
    if not equals or not size.isdigit():
      raise LmxError(message("--mesh", got=text, allowed="axes with sizes, such as fsdp=4,tensor=2"))
    sizes[axis] = int(size)
  return make_mesh(sizes)


def write_run(imported: Imported, run_dir: Path, origin: str, *, other_tokenizer: bool = False) -> None:
  """Writes a run: config, tokenizer, labels, the model's own small files and a checkpoint of step 0.

  Args:
    imported: the model.
    run_dir: new or empty.
    origin: the folder or hub name that the user passed.
    other_tokenizer: whether the tokenizer came from elsewhere than the model.

  Raises:
    LmxError: lmx can't read the model's tokenizer, or the config that would describe the model has problems.
  """
  if imported.tokenizer is None:
    fix = "--tokenizer=FOLDER, with tokenizer.json, tokenizer.model or vocab.txt in it"
    raise LmxError(message("tokenizer", got=f"none in {imported.directory}", allowed="one that lmx can read", fix=fix))
  objective = OBJECTIVES[imported.description.objective]
  kind = imported.tokenizer.kind
  path = None if kind == "bytes" else str(run_dir / TOKENIZER_DIR)
  config = from_values({"name": run_dir.name, "tokenizer.kind": kind, "tokenizer.path": path, **imported.settings})
  if config.data.packing not in objective.packings:
    config.data.packing = objective.packings[0]
  problems = check(config)
  if problems:
    raise LmxError("\n".join(problems))
  try:
    with Checkpointer(run_dir / CHECKPOINT_DIR, background=False) as checkpointer:
      checkpointer.save_parameters(imported.parameters, {"imported_from": str(imported.directory)})
    with writing_folder(run_dir / IMPORTED_DIR) as folder:
      carried.keep(imported.directory, folder, origin=origin, other_tokenizer=other_tokenizer)
    write_run_files(run_dir, to_json(config), imported.tokenizer, imported.description.labels)
  except BaseException:
    remove_folder(run_dir)  # It was empty before.
    raise


def _summary(imported: Imported) -> dict[str, str]:
  description, spec, plan = imported.description, imported.spec, imported.abstract
  shown = {
    "model": f"{description.family.name}, {description.head} head"
    + (f" ({len(description.labels)} labels)" if description.labels else ""),
    "shape": spec.describe(),
    "parameters": f"{plan.parameters:,} in {len(plan.shapes)} arrays, float32",
    "read": f"{imported.bytes / 1e6:,.1f} MB from {imported.directory}",
    "vocabulary": f"{description.vocab_size:,} rows, {spec.vocab_rows - description.vocab_size} of padding added; "
    f"the tokenizer has {imported.tokenizer.vocab_size if imported.tokenizer else 0:,} ids",
  }
  if imported.nonfinite:
    shown["non-finite"] = ", ".join(f"{count:,} numbers of {name}" for name, count in imported.nonfinite.items())
  for name, values in {
    "initialized": imported.fresh,
    "left out": imported.left_out,
    "unused": description.unused,
  }.items():
    if values:
      shown[name] = ", ".join(values[:6]) + (f" and {len(values) - 6} more" if len(values) > 6 else "")
  return shown


# Head -> the config that fine-tunes a model with it.
_CONFIGS = {"classification": "classify", "regression": "regress", "span": "span", "tagging": "tag", "language": "sft"}


def _advice(imported: Imported, run_dir: Path) -> list[str]:
  """Commands that the user may want next."""
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
