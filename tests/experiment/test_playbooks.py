# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Law 20 for optimizers, mixers and objectives: the steps of docs/playbooks.md are enough to add one, and it trains.

Each toy is one function or class and one row, plus one line in configs/base.py for a key that is new.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_runs
from laws import assert_law_catches
from toy_mixer import row_of

import lmx.config.loading
import lmx.config.table
from lmx.config.loading import load
from lmx.config.table import config_dir, keys
from lmx.data.cache.encoding import Encoded
from lmx.data.document import RequiredColumns
from lmx.experiment.readers import readers_of, rows, unread_keys
from lmx.nn.mixers import MIXERS
from lmx.objectives import OBJECTIVES
from lmx.objectives.base import Batch, Loss, Objective, ObjectiveContext, ObjectiveSpec, run_model
from lmx.objectives.columns import number_of, text_of
from lmx.objectives.examples import as_encoded, next_token_fields
from lmx.objectives.parts import vocabulary_loss
from lmx.optim.optimizers import OPTIMIZERS, OptimizerSpec, TrainedParameters
from lmx.plan.compile_step import batch_shapes
from lmx.run import loop

SHORT = {"train__duration": "4 steps", "evaluation__every": "4 steps", "checkpoint__every": "4 steps",
         "evaluation__prompts": "()", "model__dropout": 0.0}  # fmt: skip


def base_with(folder: Path, monkeypatch, after: str, line: str) -> None:
  """Puts a line into a copy of base.py, after the one that starts with a text, and makes lmx read the copy."""
  lines = (config_dir() / "base.py").read_text().splitlines()
  place = next(number for number, text in enumerate(lines) if text.strip().startswith(after))
  folder.mkdir()
  (folder / "base.py").write_text("\n".join([*lines[: place + 1], f"  {line}", *lines[place + 1 :]]) + "\n")
  for module in (lmx.config.table, lmx.config.loading):
    monkeypatch.setattr(module, "config_dir", lambda: folder)


def losses(run_dir: Path) -> list[float]:
  return [line["loss"] for line in tiny_runs.lines(run_dir) if "loss" in line]


# ---------------------------------------------------------------- an optimizer with a hyperparameter of its own


def toy_optimizer(parameters: TrainedParameters, *, b1: float, toy_sign: float) -> optax.GradientTransformation:
  """A momentum, mixed with its sign."""

  def mix(directions, values=None):
    return {name: toy_sign * jnp.sign(d) + (1 - toy_sign) * d for name, d in directions.items()}

  return optax.chain(optax.trace(decay=b1), optax.stateless(mix))


@pytest.fixture
def toy_optimizer_row(tmp_path, monkeypatch):
  monkeypatch.setitem(OPTIMIZERS, "toy", OptimizerSpec(toy_optimizer))
  line = 'optimizer.toy_sign = key(0.5, "0 <= x <= 1", read_by="name")  # Share of the sign in a step.'
  base_with(tmp_path / "configs", monkeypatch, "optimizer.b2 = ", line)


def test_an_optimizer_with_a_hyperparameter_is_one_function_and_one_row(toy_optimizer_row, tiny_text, tmp_path):
  def trained(folder: str, **changes: Any) -> list[float]:
    given = {"optimizer__name": "toy", "log__every": "1 steps", **SHORT, **changes}
    assert loop.train(tiny_runs.experiment(tiny_text, tmp_path / folder, **given)).finished
    return losses(tmp_path / folder)

  def differ(other: list[float]) -> None:
    assert half[0] == other[0], "the first loss is that of the first parameters"
    assert half[1:] != other[1:], "the hyperparameter does nothing"

  half = trained("half")
  assert half[-1] < half[0]
  differ(trained("signs", optimizer__toy_sign=0.9))
  assert_law_catches(differ, half)


def test_a_toy_optimizers_key_is_checked_documented_and_left_to_it(toy_optimizer_row):
  assert keys()["optimizer.toy_sign"].meaning == "Share of the sign in a step."
  assert readers_of("optimizer.toy_sign") == "toy (optimizer.name)"
  (wrong,) = lmx.config.loading.check(load("configs/base.py", ["optimizer.toy_sign=2"]))
  assert "a number from 0 to 1" in wrong
  (unread,) = unread_keys(load("configs/base.py", ["optimizer.toy_sign=0.1"]), *rows())
  assert "config.optimizer.name=adamw, which doesn't read it" in unread
  assert "--config.optimizer.name=toy" in unread


# ---------------------------------------------------------------- a sequence mixer with a key of its own


def test_a_mixer_with_a_key_is_one_class_and_one_row(tiny_text, tmp_path, monkeypatch):
  monkeypatch.setitem(MIXERS, "toy", row_of("toy_horizon", horizon=lambda spec: spec.option("toy_horizon")))
  line = 'model.toy_horizon = key(4, ">= 1", read_by="mixer")  # Tokens after which the sum has forgotten most.'
  base_with(tmp_path / "configs", monkeypatch, "model.mamba_conv = ", line)

  def trained(folder: str, **changes: Any) -> list[float]:
    given = {"model__mixer": "toy", "log__every": "1 steps", **SHORT, **changes}
    assert loop.train(tiny_runs.experiment(tiny_text, tmp_path / folder, **given)).finished
    return losses(tmp_path / folder)

  def differ(other: list[float]) -> None:
    assert four != other, "the key does nothing"

  four = trained("four")
  assert four[-1] < four[0]
  differ(trained("two", model__toy_horizon=2))
  assert_law_catches(differ, four)
  assert "toy (model.mixer)" in readers_of("model.toy_horizon")
  (unread,) = unread_keys(load("configs/base.py", ["model.toy_horizon=2"]), *rows())
  assert "config.model.mixer=attention, which doesn't read it" in unread


# ---------------------------------------------------------------- an objective with a new column and batch fields


class RatedTexts:
  """Rows with a text and a rating to next-token examples."""

  columns: tuple[str, ...] = ("text", "rating")
  optional: tuple[str, ...] = ()

  def __init__(self, context: ObjectiveContext):
    self._tokenizer, self._length = context.tokenizer, context.length
    self.fingerprint = {"objective": "toy", "length": context.length}

  def __call__(self, row: Mapping[str, Any]) -> Encoded:
    (ids,) = self._tokenizer.encode_batch([text_of(row, "text")])
    ids = np.concatenate([[self._tokenizer.bos_id], ids, [self._tokenizer.eos_id]])[: self._length + 1]
    fields = next_token_fields(ids, np.ones(len(ids), bool))
    emphasis = np.linspace(0, 1, len(fields["tokens"]), dtype=np.float32)
    return Encoded({**fields, "emphasis": emphasis, "rating": np.array(number_of(row, "rating"), np.float32)})


def toy_objective(context: ObjectiveContext, *, toy_margin: float) -> Objective:
  """Next-token prediction that counts later tokens, and rows of a high rating, for more."""

  def loss(model: Any, batch: Batch, dropout_key: jax.Array | None, reference: Any = None) -> Loss:
    factor_BL = toy_margin + batch["emphasis"] * batch["rating"][:, None]
    return vocabulary_loss(run_model(model, batch, dropout_key), batch["targets"], batch["loss_weights"] * factor_BL)

  return Objective("toy", prepare=as_encoded, loss=loss, encoder=RatedTexts(context), per_row=("rating",))


TOY_OBJECTIVE = ObjectiveSpec(
  toy_objective, head="language", families=("transformer",), packings=("padded",), texts=RequiredColumns(("text",))
)


@pytest.fixture
def toy_objective_row(tmp_path, monkeypatch):
  monkeypatch.setitem(OBJECTIVES, "toy", TOY_OBJECTIVE)
  line = 'objective.toy_margin = key(0.25, "> 0")  # toy: what every token counts.'
  base_with(tmp_path / "configs", monkeypatch, "objective.z_loss = ", line)


@pytest.fixture
def rated(tmp_path) -> Path:
  rows = [{"text": f"the number {number} and {number % 3}", "rating": number % 5} for number in range(60)]
  (tmp_path / "rated.jsonl").write_text("\n".join(map(json.dumps, rows)))
  return tmp_path / "rated.jsonl"


def toy_changes(rated: Path) -> dict[str, Any]:
  return {
    "objective__name": "toy",
    "objective__toy_margin": 0.5,
    "data__sources": str(rated),
    "data__packing": "padded",
    "data__heldout_split": "document",
    "data__heldout_fraction": 0.3,
  }


def test_an_objective_with_a_column_and_batch_fields_is_one_file_and_one_row(toy_objective_row, rated, tmp_path):
  x = tiny_runs.experiment(tmp_path, tmp_path / "run", log__every="1 steps", **SHORT, **toy_changes(rated))
  result = loop.train(x)
  assert result.finished
  assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
  assert np.isfinite(result.heldout.metrics["nll"])


def test_the_plan_of_a_toy_objective_has_its_batch_fields(toy_objective_row, rated, tmp_path):
  changes = tiny_runs.overrides(tmp_path, **SHORT, **toy_changes(rated))
  x = tiny_runs.experiment(tmp_path, tmp_path / "planned", **SHORT, **toy_changes(rated))
  shapes = batch_shapes(load("configs/base.py", changes), x.network)
  assert shapes["emphasis"].shape == shapes["tokens"].shape == (8, 32)
  assert shapes["rating"].shape == (8,)


def test_a_file_without_the_toys_column_names_it(toy_objective_row, tmp_path):
  (tmp_path / "plain.jsonl").write_text('{"text": "a"}\n{"text": "b"}')
  with pytest.raises(lmx.errors.LmxError, match=r"no column 'rating'.*--config\.data\.columns\.rating="):
    tiny_runs.experiment(tmp_path, tmp_path / "run", **SHORT, **toy_changes(tmp_path / "plain.jsonl"))
