# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Writes tests/hf/golden: tiny random models of every family with what `transformers` computes from them.

python -m tools.make_golden        (needs torch and transformers: pip install -c constraints.txt -e ".[parity]")

A folder holds config.json, the weights (rounded to bfloat16 and stored so), expected.safetensors (the batch under
"batch.", outputs under "output.", float32) and, for some families, the gradients of the loss. Regenerate them only when
a family is added or an option becomes part of what is drawn; a difference to an older version of transformers is a
finding, not a reason to.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file
from safetensors.torch import save_file as torch_save

from tools.reference import theirs
from tools.reference.cases import PAIRS, Case, draw_case, draw_inputs

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "hf" / "golden"
WITH_GRADIENTS = ("gpt2", "llama", "bert", "modernbert", "t5")
# Seeds whose options make a difference: windows in layers, scaled angles, several groups, tied tables and not.
SEEDS = {
  **{"gpt2": (6,), "llama": (7,), "mistral": (8,), "qwen2": (4,), "qwen3": (4,), "gemma2": (8,), "gemma3_text": (5,)},
  **{"olmo2": (5,), "mixtral": (2,), "qwen2_moe": (1,), "qwen3_moe": (4,), "mamba2": (1,)},
  **{"bert": (8,), "roberta": (8,), "modernbert": (27, 26), "t5": (6, 0), "marian": (3,)},
}
# A head that several families share is written for these alone.
ONCE = {
  "classification": ("llama", "bert", "roberta", "modernbert"),
  "regression": ("bert",),
  "span": ("bert", "modernbert"),
  "tagging": ("bert", "modernbert"),
  "embedding": ("bert",),
}


def cases() -> list[Case]:
  chosen = [(family, head) for family, head in PAIRS if family in ONCE.get(head, (family,))]
  return [draw_case(family, head, seed) for family, head in chosen for seed in SEEDS[family]]


def write(case: Case) -> int:
  """Writes one case; its size in bytes."""
  folder = GOLDEN / case.name
  folder.mkdir(parents=True)
  model = theirs.write_model(case, folder)
  with torch.no_grad():
    for parameter in (one for one in model.parameters() if one.requires_grad):  # Positions may be fixed.
      parameter.copy_(parameter.to(torch.bfloat16).float())
  batch = draw_inputs(case)
  arrays = {f"batch.{name}": array for name, array in batch.items()}
  outputs = theirs.answers(model, case, batch)
  if "targets" not in batch:  # The backbone's layers are compared once a family, with the head over the vocabulary.
    outputs = {"scores": outputs["scores"]}
  arrays |= {f"output.{name}": array for name, array in outputs.items()}
  save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, folder / "expected.safetensors")
  if case.family in WITH_GRADIENTS and "targets" in batch and case.seed == SEEDS[case.family][0]:
    (folder / "gradients").mkdir()
    theirs.write_gradients(model, case, batch, folder / "gradients" / "model.safetensors")
  tensors = load_file(folder / "model.safetensors")
  torch_save(
    {k: v.to(torch.bfloat16) for k, v in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"}
  )
  (folder / "generation_config.json").unlink(missing_ok=True)
  return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
  shutil.rmtree(GOLDEN, ignore_errors=True)
  total = 0
  for case in cases():
    size = write(case)
    total += size
    print(f"{case.name:32} {size / 1000:6.1f} kB   {case.options()}", flush=True)
  print(f"{total / 1000:.0f} kB in all")


if __name__ == "__main__":
  main()
