# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Runs that lmx 0.1 imported and models that it exported are still read, with the same outputs.

`written_by_0_1` holds a Llama and a BERT classifier of one layer with random weights. At commit 49e9c59 `lmx import`
made `*_run` of each, and `lmx export` made `*_exported` of that run. expected.safetensors has tokens and, under the
model's name, the logits or scores that `lmx.load` of that commit computed from them.
"""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from laws import assert_law_catches
from safetensors.numpy import load_file

import lmx
from lmx.cli.main import main
from lmx.hf.importing import import_hf

# Checkpoints of lmx 0.1 have no digests, which `lmx.load` warns about.
pytestmark = pytest.mark.filterwarnings("ignore:.*has no digests.json:lmx.errors.LmxWarning")
WRITTEN = Path(__file__).parent / "written_by_0_1"
NAMES = ("llama", "bert")


def check_outputs(model, name: str) -> None:
  """Logits of the language model, or scores of the classifier."""
  expected = load_file(WRITTEN / "expected.safetensors")
  outputs = jax.jit(lambda tokens: (lambda found: found.logits() if name == "llama" else found.scores)(model(tokens)))
  np.testing.assert_allclose(outputs(expected["tokens"]), expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_an_older_version_imported_loads_with_the_same_outputs(name):
  run = lmx.load(WRITTEN / f"{name}_run")
  check_outputs(run.model, name)
  assert run.labels == {"llama": (), "bert": ("no", "yes", "perhaps")}[name]
  assert run.generation.stops == {"llama": (2, 7), "bert": ()}[name]
  assert list(run.tokenizer.encode("w0 w7")) == [4, 11]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_an_older_version_exported_is_imported_with_the_same_outputs(name):
  check_outputs(import_hf(WRITTEN / f"{name}_exported", dtype="float32").model, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_an_older_version_is_exported_as_the_same_model(name, tmp_path):
  assert main(["export", str(WRITTEN / f"{name}_run"), f"--output={tmp_path / 'out'}"]) == 0
  now, then = tmp_path / "out", WRITTEN / f"{name}_exported"
  written, before = (load_file(folder / "model.safetensors") for folder in (now, then))
  assert written.keys() == before.keys()
  for tensor, array in before.items():
    np.testing.assert_array_equal(written[tensor], array, err_msg=tensor)
  config, older = (json.loads((folder / "config.json").read_text()) for folder in (now, then))
  older |= {"eos_token_id": [2, 7]} if name == "llama" else {}  # lmx 0.1 kept the first of the model's two only.
  assert {key: config[key] for key in older} == older


def test_the_comparison_notices_a_model_with_one_norm_twice_as_large():
  model = import_hf(WRITTEN / "bert_exported", dtype="float32")
  changed = model.parameters | {"embedding_norm.scale": 2 * model.parameters["embedding_norm.scale"]}
  assert_law_catches(check_outputs, model.abstract.join(changed), "bert")
