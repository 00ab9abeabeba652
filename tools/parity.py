# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table of parity: every family and head, random options, and how far lmx is from `transformers`.

python -m tools.parity                          every family and head, three random models of each
python -m tools.parity --family llama --count 9 one family, more of them
python -m tools.parity --options                also print what was drawn

It needs torch and transformers (pip install -c constraints.txt -e ".[parity]"). Errors are norms of differences over
norms, float32, over real tokens: of the logits or scores, of the worst hidden layer, of the loss, and of the worst
parameter's gradient of the loss; of what `transformers` computes from the model as lmx writes it; then whether that
has the same numbers, bit for bit.

How hidden layers line up: lmx's `Outputs.layers` are what entered the first block and then what each block gave, and
`Outputs.hidden` is after the final norm. Theirs, in models that have a final norm, hold its output in the place of the
last block's (and for Mamba-2 leave out what entered the first block).
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from lmx.hf.exporting import Exported, export_hf
from lmx.hf.weights import WeightFiles
from tools.reference import ours
from tools.reference.cases import FAMILIES, PAIRS, Case, draw_case, draw_inputs

LIMIT = 1e-4
# Their loss has no losses of the experts' balance unless it is asked for; ours always has, as configured.
WITHOUT_GRADIENTS = ("mixtral", "qwen2_moe", "qwen3_moe")


def live(case: Case, directory: Path, with_gradients: bool) -> dict[str, float]:
  """The errors of one random model, computed by both now; what needs torch is imported here."""
  from tools.reference import theirs

  model = theirs.write_model(case, directory)
  batch = draw_inputs(case)
  gradients = directory / "gradients"
  expected = theirs.answers(model, case, batch)
  if with_gradients and "targets" in batch:
    gradients.mkdir()
    theirs.write_gradients(model, case, batch, gradients / "model.safetensors")
  errors = compare(directory, expected, batch, gradients if gradients.is_dir() else None)
  export(ours.read(directory), directory / "exported")
  again = theirs.answers(theirs.load(case, directory / "exported"), case, batch)
  ends = {name: value for name, value in expected.items() if name in ("logits", "scores")}
  return errors | {f"exported.{name}": error for name, error in ours.errors(again, ends, batch).items()}


def compare(directory: Path, expected: ours.Answers, batch: dict[str, np.ndarray], gradients: Path | None):
  """Errors of lmx's outputs for a directory's weights, by name."""
  imported = ours.read(directory)
  found = ours.errors(ours.answers(imported, batch), expected, batch)
  if gradients is not None:
    found |= gradient_errors(ours.gradients(imported, batch), ours.their_gradients(imported, gradients))
  return found | {"round trip": round_trip(imported, directory)}


def gradient_errors(mine: dict[str, jax.Array], other: dict[str, jax.Array]) -> dict[str, float]:
  """Each parameter's error, over its own norm, or that of a typical gradient where its own is nearly zero.

  The gradient of a key's bias is exactly zero in theory, and noise in both.
  """
  typical = float(np.sqrt(np.mean([np.linalg.norm(np.asarray(g)) ** 2 for g in other.values()])))
  return {
    f"gradient.{name}": float(
      np.linalg.norm(np.asarray(mine[name]) - np.asarray(g)) / max(np.linalg.norm(np.asarray(g)), 1e-2 * typical)
    )
    for name, g in other.items()
  }


def export(imported: ours.Imported, directory: Path) -> Exported:
  """Writes the model as the family that it came from."""
  described = imported.description
  name, labels = described.family.name, described.labels
  return export_hf(imported.parameters, imported.spec, described.model, directory, family=name, labels=labels)


def round_trip(imported: ours.Imported, directory: Path) -> float:
  """0 where writing the model again gives every tensor bit for bit; rows that no position uses aside."""
  with tempfile.TemporaryDirectory() as folder:
    exported = export(imported, Path(folder) / "again")
    with WeightFiles(directory) as before, WeightFiles(exported.directory) as after:
      left_out = set(imported.left_out) - set(after.tensors)
      if set(before.tensors) - left_out != set(after.tensors):
        return float("inf")
      offset = 2 if imported.description.family.name == "roberta" else 0
      first = {name: offset if name.endswith("position_embeddings.weight") else 0 for name in after.tensors}
      same = [np.array_equal(before.read(name)[n:], after.read(name)[n:]) for name, n in first.items()]
    return 0.0 if all(same) else 1.0


GROUPS: dict[str, Callable[[str], bool]] = {
  "logits": lambda name: name in ("logits", "scores"),
  "layers": lambda name: "hidden." in name or name.endswith("final"),
  "loss": lambda name: name == "loss",
  "gradient": lambda name: name.startswith("gradient."),
  "exported": lambda name: name.startswith("exported."),
  "again": lambda name: name == "round trip",
}


def worst(errors: dict[str, float]) -> dict[str, float | None]:
  """The largest error of each column of the table; None where nothing was compared."""
  return {
    column: max((value for name, value in errors.items() if belongs(name)), default=None)
    for column, belongs in GROUPS.items()
  }


def main() -> int:
  """Prints the table; 1 where an error is over the limit."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--family", choices=sorted(FAMILIES), help="this one alone")
  parser.add_argument("--head", help="this one alone")
  parser.add_argument("--count", type=int, default=3, help="random models of each family and head (default: 3)")
  parser.add_argument("--seed", type=int, default=0, help="of the first one")
  parser.add_argument("--options", action="store_true", help="print what was drawn")
  args = parser.parse_args()
  print(f"{'model':34}" + "".join(f"{column:>10}" for column in GROUPS))
  failed = []
  for family, head in PAIRS:
    if args.family not in (None, family) or args.head not in (None, head):
      continue
    for seed in range(args.seed, args.seed + args.count):
      case = draw_case(family, head, seed)
      with tempfile.TemporaryDirectory() as folder:
        errors = live(case, Path(folder), with_gradients=family not in WITHOUT_GRADIENTS)
      columns = worst(errors)
      cells = ("" if value is None else ("same" if value == 0 else "no") if name == "again" else f"{value:.1e}"
               for name, value in columns.items())  # fmt: skip
      print(f"{case.name:34}" + "".join(f"{cell:>10}" for cell in cells), flush=True)
      if args.options:
        print(f"  {case.options()}")
      wrong = {name: value for name, value in errors.items() if not value <= LIMIT}
      if wrong:
        failed.append(case.name)
        print("  over the limit: " + ", ".join(f"{name} {value:.1e}" for name, value in wrong.items()))
  print(f"{len(failed)} over {LIMIT:g}" + (f": {', '.join(failed)}" if failed else ""))
  return 1 if failed else 0


if __name__ == "__main__":
  raise SystemExit(main())
