# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A loaded run in a notebook: what is read, how it shows itself, and training from it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_runs import experiment, lines

import lmx
from lmx.api.history import History
from lmx.errors import LmxError
from lmx.models.spec import TransformerSpec
from lmx.run import loop


@pytest.fixture(scope="module", autouse=True)
def no_check():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(TransformerSpec, "check_attention", lambda spec, backend: "not checked in this test")
    yield


@pytest.fixture(scope="module")
def folder(tiny_text, tmp_path_factory) -> Path:
  """A run trained on eight devices."""
  folder = tmp_path_factory.mktemp("runs") / "begun"
  loop.train(experiment(tiny_text, folder, devices=8, mesh__fsdp=4, mesh__data=2))
  return folder


def test_a_load_that_casts_rounds_the_saved_parameters_and_no_others(folder):
  saved, cast = lmx.load(folder), lmx.load(folder, dtype="bfloat16")
  for leaf, small in zip(jax.tree.leaves(saved.model), jax.tree.leaves(cast.model), strict=True):
    assert small.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(leaf.astype(jnp.bfloat16)), np.asarray(small))
  assert cast.loss("the loss of a model").nats == pytest.approx(saved.loss("the loss of a model").nats, rel=1e-2)
  with pytest.raises(LmxError, match=r"dtype: got 'bf16'"):
    lmx.load(folder, dtype="bf16")


def test_the_history_is_the_runs_metrics_and_shows_itself_as_a_table(folder):
  run = lmx.load(folder)
  assert [record["step"] for record in run.history] == [record["step"] for record in lines(folder)]
  losses = [line["heldout_loss"] for line in lines(folder) if "heldout_loss" in line]
  assert run.history.last("heldout_loss") == losses[-1]
  shown = History([{"step": step, "a<b": 0.5} for step in range(40)])._repr_html_()
  assert shown.count("<tr>") == 1 + 12 + 1 + 12
  assert "a&lt;b" in shown


@pytest.mark.slow
def test_training_from_a_run_makes_a_new_run_and_the_same_call_again_loads_it(folder, tmp_path):
  run, before = lmx.load(folder), lines(folder)
  changes = {"optimizer.peak_lr": 1e-3, "mesh.data": 1, "train.batch_size": 8}
  new = run.train(steps=3, workdir=tmp_path / "new", changes={**changes, "mesh.data": 8})
  assert (new.step, new.folder, new.config.optimizer.peak_lr) == (3, tmp_path / "new", 1e-3)
  assert lines(folder) == before
  assert run.train(steps=3, workdir=tmp_path / "new", changes={**changes, "mesh.data": 8}).step == 3
  with pytest.raises(LmxError, match=r"optimizer.peak_lr: 0.001 there, 0.01 now\nFix: workdir="):
    run.train(steps=3, workdir=tmp_path / "new", changes={"mesh.data": 8})
  with pytest.raises(LmxError, match=r"Did you mean config.optimizer.peak_lr"):
    run.train(steps=3, workdir=tmp_path / "other", changes={"optimizer.peak_r": 1e-3})
  with pytest.raises(LmxError, match=r"steps: got 0"):
    run.train(steps=0)
  with pytest.raises(LmxError, match=r"the loaded step: got 5.*newest"):
    lmx.load(folder, 5).train(steps=3)
