# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""From a config to an experiment: errors before any data is read, and durations and batches in steps."""

import dataclasses
import io
import shutil

import jax
import pytest
from rich.console import Console
from tiny_runs import ROOT, experiment, overrides

import lmx.experiment.build
import lmx.experiment.train_setup
from lmx.config.loading import load, to_json
from lmx.errors import ConfigError, LmxError
from lmx.experiment.build import build, check, make_intervals, make_step_sizes
from lmx.experiment.train_setup import make_train_setup, model_spec
from lmx.parallel.mesh import make_mesh, padded_batch_size
from lmx.run.report import introduce
from lmx.training.run_directory import write_run_files
from lmx.trees import count
from lmx.units import StepSizes, human


def tiny_config(text, **changes):
  return load(str(ROOT / "configs" / "base.py"), overrides(text, **changes))


@pytest.fixture
def no_data(monkeypatch):
  """Whatever would read text or train a tokenizer fails the test."""

  def fail(*args, **kwargs):
    raise AssertionError("data was read")

  for name in ("make_tokenizer", "prepare_corpus", "load_tokenizer"):
    monkeypatch.setattr(lmx.experiment.build, name, fail)


def test_a_good_config_passes_without_data(tmp_path, no_data):
  assert check(tiny_config(tmp_path)) == []


@pytest.mark.parametrize(
  ("changes", "expected"),
  [
    ({"mesh__data": 3}, "product is the 8 devices here"),
    ({"mesh__fsdp": 16}, "product is the 8 devices here"),
    ({"train__batch_size": 12}, "a multiple of train.micro_batches times the mesh's data = 1 * 8"),
    ({"train__micro_batches": 2}, "= 2 * 8"),
    ({"objective__name": "causl"}, "Did you mean 'causal'"),
    ({"objective__name": "masked"}, "with config.model.family=transformer. Fix: --config.model.family=encoder"),
    ({"objective__mask_rate": 0.2}, "Allowed: 0.15 with config.objective.name=causal, which doesn't read it"),
    ({"model__token_types": 2}, "Allowed: 0 with config.model.family=transformer, which doesn't read it"),
    ({"data__packing": "streams", "objective__name": "prefix"}, "config.data.packing: got 'streams'"),
    ({"lora__rank": 2, "lora__targets": "layers.atention.*"}, "config.lora.targets"),
    ({"optimizer__lr_rules": "(('.*', 0.0),)"}, "config.optimizer.lr_rules"),
    ({"model__family": "transfromer"}, "Did you mean 'transformer'"),
    ({"optimizer__name": "adamv"}, "Did you mean 'adam"),
    ({"model__heads": 3}, "a divisor of width = 16"),
    ({"optimizer__decay_rules": "(('.*bias', 0.0),)"}, "decay_rules"),
    ({"mesh__tensor": 8, "model__heads": 2}, "tensor"),
    ({"mesh__sequence": 4}, "config.mesh.tensor * config.mesh.sequence = 4. Fix: --config.model.heads=4"),
    ({"mesh__sequence": 2, "data__length": 31}, "--config.data.length=30 or --config.data.length=32"),
    ({"mesh__stage": 2}, "config.model.layers: got 1. Allowed: a multiple of config.mesh.stage * "),
    ({"compute__quantization": "int9"}, "Did you mean 'int8'"),
    ({"compute__quantization": "int8", "model__experts": 4}, "Allowed: none with experts"),
    ({"compute__quantization": "fp8", "model__family": "lstm"}, "Allowed: none with config.model.family=lstm"),
  ],
)
def test_what_does_not_fit_is_reported_before_any_data_is_read(tmp_path, no_data, changes, expected):
  config = tiny_config(tmp_path, **changes)
  assert any(expected in problem for problem in check(config)), check(config)
  with pytest.raises(ConfigError):
    build(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_a_wrong_optimizer_does_not_hide_behind_a_wrong_size(tmp_path, no_data):
  assert len(check(tiny_config(tmp_path, optimizer__name="adamv", model__heads=3))) == 2


def test_a_run_of_another_family_to_start_from_is_refused(tmp_path, no_data):
  run = tmp_path / "encoder"
  run.mkdir()
  (run / "config.json").write_text(to_json(tiny_config(tmp_path, model__family="encoder", objective__name="masked")))
  (problem,) = check(tiny_config(tmp_path, checkpoint__start_from=run))
  assert "whose model is of the family encoder'. Allowed: a run with config.model.family=transformer" in problem
  shutil.rmtree(run)  # A resumed run needs its origin no more.
  assert check(tiny_config(tmp_path, checkpoint__start_from=run)) == []


def test_problems_of_the_mesh_and_of_the_model_are_reported_together(tmp_path, no_data):
  problems = check(tiny_config(tmp_path, mesh__data=3, model__heads=3))
  assert len(problems) == 2


def test_durations_become_steps(tmp_path):
  config = tiny_config(
    tmp_path, train__duration="1000 tokens", log__every="24 examples", evaluation__every="50%",
    checkpoint__every="0.5 epochs", checkpoint__keep_every="0.001 epochs",
  )  # fmt: skip
  pace = make_step_sizes(config, rows_per_epoch=80)
  assert pace == StepSizes(examples_per_step=8, tokens_per_step=256, steps_per_epoch=10.0, total_steps=4)
  cadence = make_intervals(config, pace)
  assert (cadence.total, cadence.log, cadence.evaluate, cadence.save, cadence.keep) == (4, 3, 2, 5, 1)
  config.checkpoint.keep_every = None
  assert make_intervals(config, pace).keep is None


def test_batches_for_evaluation_are_rounded_up_to_what_the_mesh_divides(tiny_text, tmp_path):
  x = experiment(tiny_text, tmp_path / "run", devices=4, evaluation__batch_size=5, mesh__tensor=2)
  assert (x.rows.batch_size, x.rows.eval_batch_size) == (8, 6)
  assert padded_batch_size(9, make_mesh({"data": 8})) == 16


def test_a_run_counts_the_flops_of_an_encoder_with_longer_rows(tiny_text, tmp_path):
  x = experiment(tiny_text, tmp_path / "run", model__family="encoder_decoder", objective__name="span_corruption",
                 tokenizer__extra_ids=8, data__encoder_length=32, data__length=16)  # fmt: skip
  out = Console(record=True, width=400, file=io.StringIO())
  introduce(out, x, {})
  flops = x.network.spec.flops_per_token(16, 32).causal
  assert flops > 1.3 * x.network.spec.flops_per_token(16, 16).causal
  assert human(flops * x.rows.batch_size * 16 * x.cadence.total, " FLOPs") in out.export_text()


def test_a_network_is_planned_without_allocating_it(tmp_path, no_data):
  """70 billion parameters and their optimizer, as shapes."""
  config = tiny_config(tmp_path, model__layers=80, model__width=8192, model__heads=64, mesh__fsdp=8, mesh__data=1)
  network = make_train_setup(config, model_spec(config, 128_000), lambda *given: None, make_step_sizes(config, 1000))
  assert network.plan.parameters > 60e9
  assert count(network.abstract.params) == network.plan.parameters
  assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(network.abstract))


def test_a_prompt_that_leaves_no_room_is_found_before_training(tiny_text, tmp_path):
  with pytest.raises(
    LmxError, match=r"config.evaluation.prompts: got 'a a a .* \(40 tokens\)'. Allowed: .* at most 30"
  ):
    experiment(tiny_text, tmp_path / "run", evaluation__prompts=str(("", "a " * 20)))
  assert experiment(tiny_text, tmp_path / "run", evaluation__prompts=str(("a " * 15,))).samples.prompts


def test_a_resumed_run_reads_through_its_own_tokenizer(tiny_text, tmp_path, monkeypatch):
  x = experiment(tiny_text, tmp_path / "run")
  x.tokenizer.save(tmp_path / "run" / "tokenizer")
  monkeypatch.setattr(lmx.experiment.build, "make_tokenizer", None)  # Calling it would fail.
  assert experiment(tiny_text, tmp_path / "run").tokenizer.fingerprint == x.tokenizer.fingerprint


def test_a_run_is_not_resumed_under_a_config_of_another_tokenizer(tiny_text, tmp_path):
  run = tmp_path / "run"
  x = experiment(tiny_text, run)
  write_run_files(run, x.config_json, x.tokenizer, ())
  other = {"tokenizer__kind": "sentencepiece", "tokenizer__vocab_size": 300}
  with pytest.raises(
    LmxError, match=r"config.tokenizer.kind: got 'sentencepiece'. Allowed: 'bytes', with which .*/run was started"
  ):
    experiment(tiny_text, run, **other)
  trained = experiment(tiny_text, tmp_path / "trained", **other)
  write_run_files(tmp_path / "trained", trained.config_json, trained.tokenizer, ())
  with pytest.raises(LmxError, match=r"config.tokenizer.vocab_size: got 310. Allowed: 300"):
    experiment(tiny_text, tmp_path / "trained", tokenizer__kind="sentencepiece", tokenizer__vocab_size=310)
  moved = {"tokenizer__path": str(tmp_path / "trained" / "tokenizer"), **other}
  assert experiment(tiny_text, tmp_path / "trained", **moved).tokenizer.fingerprint == trained.tokenizer.fingerprint


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece"])
def test_a_build_makes_and_checks_the_model_once(tiny_text, tmp_path, monkeypatch, kind):
  made = []
  real = lmx.experiment.train_setup.abstract_model
  monkeypatch.setattr(lmx.experiment.train_setup, "abstract_model", lambda make: made.append(make) or real(make))
  experiment(tiny_text, tmp_path / "run", tokenizer__kind=kind, tokenizer__vocab_size=300)
  assert len(made) == 1
  experiment(tiny_text, tmp_path / "padded", tokenizer__kind=kind, tokenizer__vocab_size=300, model__vocab_size=400)
  assert len(made) == 2


def test_an_experiment_is_frozen(tiny_text, tmp_path):
  x = experiment(tiny_text, tmp_path / "run")
  for part in (x, x.network, x.rows, x.cadence, x.samples, x.saving, x.policy):
    with pytest.raises(dataclasses.FrozenInstanceError):
      part.surprise = 1
