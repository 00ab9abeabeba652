# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 20 for a Hugging Face family: one file and one row are enough to import, train, export and import again.

The toy is added as docs/playbooks.md says: the section "the file" would be lmx/hf/families/toy.py, and the fixture adds
the row. The checkpoint is made on the spot, with tensor names and settings that no family of lmx has; `toy_logits` is
the reference implementation of the model in NumPy.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hf_folders import WORDS, write, write_tokenizer
from laws import assert_law_catches
from safetensors.numpy import load_file, save_file
from tiny_tasks import fine_tuned

import lmx
from lmx.cli.main import main
from lmx.errors import LmxError
from lmx.hf.families import FAMILIES
from lmx.hf.family import Family, HeadMap, linear, norm, tensor
from lmx.hf.importing import import_hf
from lmx.hf.settings import Always, HFConfig, Keys, Only, Same
from lmx.training.state import abstract_model_of

# ---------------------------------------------------------------- the file: lmx/hf/families/toy.py


class _Expansion:
  """ff_expansion: the width of the MLP as a multiple of the model's."""

  def read(self, theirs: HFConfig, ours: Keys) -> None:
    ours["mlp_width"] = theirs.take("ff_expansion", 4, int, nullable=False) * ours["width"]

  def write(self, ours: Mapping[str, Any], theirs: Keys) -> None:
    theirs["ff_expansion"] = ours["mlp_width"] // ours["width"]


_LAYER = "stack.{layer}."
_MIXED = _LAYER + "mix.in"  # Queries, keys and values, one after another.
TOY = Family(
  name="toy",
  lines=(
    Always({"family": "transformer", "mixer": "attention", "position": "learned", "norm": "layernorm",
            "norm_bias": False, "norm_position": "pre", "attention_bias": False, "mlp_bias": True, "tied": False}),
    Same("depth", "layers"),
    Same("dim", "width"),
    Same("n_heads", "heads"),
    Same("max_length", "context", 64),
    Same("eps", "norm_eps", 1e-3),
    Same("nonlinearity", "activation", "ReLU", {"ReLU": "relu", "GELU": "gelu"}),
    _Expansion(),
    Only("causal", (True,)),
  ),
  prefix="toy.",
  backbone=(
    *tensor("token_embedding.embedding", "words", "v d -> v d"),
    *tensor("position_embedding.embedding", "places", "p d -> p d"),
    *norm("layers.attention_norm", _LAYER + "mix.norm"),
    *linear("layers.attention.query", _MIXED, "d (h k) -> d h k", "(h k) -> h k", along=1),
    *linear("layers.attention.key", _MIXED, "d (g k) -> d g k", "(g k) -> g k", along=1),
    *linear("layers.attention.value", _MIXED, "d (g k) -> d g k", "(g k) -> g k", along=1),
    *linear("layers.attention.out", _LAYER + "mix.out", "(h k) d -> h k d", "d -> d"),
    *norm("layers.mlp_norm", _LAYER + "ff.norm"),
    *linear("layers.mlp.up", _LAYER + "ff.up", "f d -> d f", "f -> f"),
    *linear("layers.mlp.down", _LAYER + "ff.down", "d f -> f d", "d -> d"),
    *norm("final_norm", "norm"),
  ),
  heads={"language": HeadMap(("ToyForCausalLM",), tensor("unembedding.kernel", "words_out", "d v -> v d"))},
)  # fmt: skip


# ---------------------------------------------------------------- the row, and a checkpoint as its authors publish it

D, H, F, V, P, LAYERS = 16, 4, 48, 40, 48, 2
SHAPES = {
  "toy.words": (V, D), "toy.places": (P, D), "toy.norm.weight": (D,), "words_out": (D, V),
  **{f"toy.stack.{layer}.{name}": shape for layer in range(LAYERS) for name, shape in {
    "mix.norm.weight": (D,), "mix.in.weight": (D, 3 * D), "mix.out.weight": (D, D), "ff.norm.weight": (D,),
    "ff.up.weight": (F, D), "ff.up.bias": (F,), "ff.down.weight": (D, F), "ff.down.bias": (D,)}.items()},
}  # fmt: skip
CONFIG = {"model_type": "toy", "architectures": ["ToyForCausalLM"], "depth": LAYERS, "dim": D, "n_heads": H,
          "ff_expansion": 3, "max_length": P, "vocab_size": V, "causal": True}  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path, monkeypatch) -> Path:
  """A directory with a toy model, and the row in the table of families."""
  monkeypatch.setitem(FAMILIES, "toy", TOY)
  folder, random = tmp_path / "published", np.random.default_rng(0)
  folder.mkdir()
  write(folder, "config.json", CONFIG)
  arrays = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in SHAPES.items()}
  save_file(arrays, folder / "model.safetensors")
  write_tokenizer(folder, WORDS)
  return folder


def toy_logits(w: Mapping[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
  """(L, V) logits of one row of tokens."""

  def normed(x: np.ndarray, name: str) -> np.ndarray:
    centered = x - x.mean(-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-3) * w[f"{name}.weight"][None]

  length = len(tokens)
  x = w["toy.words"][tokens] + w["toy.places"][:length]
  for layer in range(LAYERS):
    name = f"toy.stack.{layer}"
    query, key, value = np.split(normed(x, f"{name}.mix.norm") @ w[f"{name}.mix.in.weight"], 3, axis=-1)
    heads = [one.reshape(length, H, D // H).transpose(1, 0, 2) for one in (query, key, value)]
    scores = heads[0] @ heads[1].transpose(0, 2, 1) / np.sqrt(D // H)
    scores = np.where(np.tril(np.ones((1, length, length), bool)), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    read = (weights / weights.sum(-1, keepdims=True) @ heads[2]).transpose(1, 0, 2).reshape(length, D)
    x = x + read @ w[f"{name}.mix.out.weight"]
    up = normed(x, f"{name}.ff.norm") @ w[f"{name}.ff.up.weight"].T + w[f"{name}.ff.up.bias"][None]
    x = x + np.maximum(up, 0) @ w[f"{name}.ff.down.weight"].T + w[f"{name}.ff.down.bias"][None]
  return normed(x, "toy.norm") @ w["words_out"]


def check_logits(model: Any, weights: Mapping[str, np.ndarray]) -> None:
  tokens = np.random.default_rng(1).integers(0, V, 12)
  np.testing.assert_allclose(model(tokens[None]).logits()[0], toy_logits(weights, tokens), rtol=2e-4, atol=2e-4)


# ---------------------------------------------------------------- the law


def test_a_toy_family_is_imported_trained_exported_and_imported_again_bit_for_bit(checkpoint, tmp_path, capsys):
  assert main(["import", str(checkpoint), f"--workdir={tmp_path / 'run'}", "--dtype=float32"]) == 0
  assert "toy, language head" in capsys.readouterr().out
  published = load_file(checkpoint / "model.safetensors")
  check_logits(lmx.load(tmp_path / "run").model, published)

  trained = lmx.load(fine_tuned(tmp_path / "run", tmp_path, "sft.py", "--config.compute.dtype=float32"))
  assert "as toy, ToyForCausalLM" in " ".join(capsys.readouterr().out.split())
  assert trained.step == 2
  assert main(["export", str(trained.folder), f"--output={tmp_path / 'exported'}"]) == 0

  written = load_file(tmp_path / "exported" / "model.safetensors")
  assert {name: array.shape for name, array in written.items()} == SHAPES
  assert all(np.any(written[name] != published[name]) for name in SHAPES)  # Every tensor was trained.
  check_logits(trained.model, written)
  config = json.loads((tmp_path / "exported" / "config.json").read_text())
  assert {key: config[key] for key in CONFIG} == CONFIG
  assert (config["eps"], config["nonlinearity"]) == (1e-3, "ReLU")

  again = import_hf(tmp_path / "exported")
  before = abstract_model_of(trained.model).split(trained.model)
  assert again.parameters.keys() == before.keys()
  for name, array in before.items():
    np.testing.assert_array_equal(again.parameters[name], array, err_msg=name)


def test_the_law_notices_swapped_keys_and_values(checkpoint):
  weights = load_file(checkpoint / "model.safetensors")
  model = import_hf(checkpoint, dtype="float32").model
  name = "toy.stack.1.mix.in.weight"
  query, key, value = np.split(weights[name], 3, axis=1)
  assert_law_catches(check_logits, model, {**weights, name: np.concatenate([query, value, key], axis=1)})


def test_settings_that_a_toy_family_cannot_express_are_refused_by_name(checkpoint):
  write(checkpoint, "config.json", {**CONFIG, "causal": False})
  with pytest.raises(LmxError, match=r"config\.json: causal: got False"):
    import_hf(checkpoint)
  write(checkpoint, "config.json", {**CONFIG, "ff_expansion": 2.5})
  with pytest.raises(LmxError, match=r"config\.json: ff_expansion: got 2\.5"):
    import_hf(checkpoint)
