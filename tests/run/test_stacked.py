# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Stacked runs: the losses of runs that are trained together are those of the same runs one by one."""

from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_runs
from laws import assert_law_catches

from lmx.config.loading import load
from lmx.errors import LmxError
from lmx.experiment.build import build
from lmx.experiment.stack import NUMBERS, build_stack, problems_of, program_of, stacked_numbers
from lmx.parallel.mesh import make_mesh
from lmx.parallel.sharding import Layout
from lmx.parallel.signals import StopSignals
from lmx.run import loop
from lmx.run.stacked import train_stack
from lmx.sweep.groups import grouped
from lmx.sweep.trial import named

BASE = {"optimizer__ema": 0.5, "train__spike_factor": 50.0, "evaluation__prompts": "()", "train__duration": "6 steps"}
OTHER = {
  "seed": 7, "optimizer.peak_lr": 3e-3, "optimizer.final_lr_ratio": 0.5, "optimizer.weight_decay": 1.0,
  "optimizer.b1": 0.5, "optimizer.b2": 0.999, "optimizer.eps": 1e-2, "optimizer.clip_norm": 0.1, "optimizer.ema": 0.9,
  "train.spike_factor": 1.01, "model.init_std": 0.05, "model.dropout": 0.4,
}  # fmt: skip


def config_of(text: Path, **changes: object):
  return load(str(tiny_runs.ROOT / "configs" / "base.py"), tiny_runs.overrides(text, **{**BASE, **changes}))


def changed(*keys: str) -> dict[str, object]:
  return {key.replace(".", "__"): OTHER[key] for key in keys}


def losses(run_dir: Path) -> list[float]:
  return [value for line in tiny_runs.lines(run_dir) for name, value in line.items() if name.endswith("loss")]


def check_same_losses(ours: list[float], theirs: list[float]) -> None:
  np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def check_group(folder: Path, variants: list[dict[str, object]], *, all_differ: bool = True) -> None:
  text = tiny_runs.write_text(folder / "text")
  configs = [config_of(text, **variant) for variant in variants]
  dirs = [folder / f"stacked{number}" for number in range(len(configs))]
  with StopSignals() as stop:
    result = train_stack(build_stack(configs, dirs, "lmx train"), stop)
  assert (result.step, result.finished, result.diverged) == (6, True, {})
  one = Layout(make_mesh(devices=jax.devices()[:1]))
  alone = []
  for number, config in enumerate(configs):
    loop.train(build(config, folder / f"alone{number}", layout=one))
    alone.append(losses(folder / f"alone{number}"))
    check_same_losses(losses(dirs[number]), alone[number])
    assert (dirs[number] / "status.json").exists()
  for other in alone[1:] if all_differ else ():
    assert_law_catches(check_same_losses, other, alone[0])  # The numbers made a difference.


def test_runs_that_differ_in_every_number_have_the_losses_that_they_have_one_by_one(tmp_path):
  check_group(tmp_path, [{}, changed(*OTHER)])


@pytest.mark.slow
def test_each_number_enters_the_program_of_all_as_it_enters_that_of_one(tmp_path):
  # In six steps without a spike, the spike factor alone makes no difference.
  check_group(tmp_path, [{}, *(changed(key) for key in NUMBERS)], all_differ=False)


def test_every_number_of_the_table_is_tried():
  assert set(OTHER) == set(NUMBERS)


def test_a_number_that_is_left_out_of_the_program_makes_another_program(tmp_path):
  plain = program_of(config_of(tmp_path))
  assert plain == program_of(config_of(tmp_path, **changed(*OTHER)))
  for key, value in {"optimizer__b1": 0.0, "optimizer__clip_norm": 0, "model__dropout": 0, "model__width": 32}.items():
    assert plain != program_of(config_of(tmp_path, **{key: value}))


def test_only_numbers_that_differ_are_stacked_each_in_order(tmp_path):
  numbers = stacked_numbers([config_of(tmp_path, optimizer__b1=b1) for b1 in (0.5, 0.25)])
  assert list(numbers) == ["optimizer.b1"]
  assert numbers["optimizer.b1"].tolist() == [0.5, 0.25]


def test_trials_are_grouped_by_their_programs_and_one_that_is_alone_is_refused(tmp_path):
  def group(widths, rates=("1e-3", "1e-4")):
    trials = named([{"model.width": w, "optimizer.peak_lr": r} for w in widths for r in rates])
    configs = [config_of(tmp_path, model__width=t.overrides["model.width"],
                         optimizer__peak_lr=t.overrides["optimizer.peak_lr"]) for t in trials]  # fmt: skip
    return grouped(trials, configs)

  assert [len(one.trials) for one in group(["16", "32"])] == [2, 2]
  with pytest.raises(LmxError, match=r"width=16.*change it: model.width;"):
    group(["16", "32"], ["1e-3"])


def test_what_cannot_be_stacked_is_refused_with_its_key(tmp_path):
  assert problems_of(config_of(tmp_path)) == []
  assert "config.optimizer.schedule=plateau" in problems_of(config_of(tmp_path, optimizer__schedule="plateau"))[0]
  assert "config.mesh.fsdp=2" in problems_of(config_of(tmp_path, mesh__fsdp=2))[0]
