# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Where a run goes: a new folder, the same run again, and never over something else."""

import pytest
from laws import assert_law_catches

from lmx.cli.given_config import FREE, working_directory
from lmx.config import loading as configs
from lmx.config.run_config import read_run_config
from lmx.errors import LmxError


def config_with(*overrides: str):
  return configs.load("configs/cpu.py", overrides)


def existing_run(folder, *overrides: str):
  folder.mkdir(exist_ok=True)
  (folder / "config.json").write_text(configs.to_json(config_with(*overrides)))
  return folder


def test_a_new_run_goes_to_its_own_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path, note = working_directory(config_with("name=mine"), None, accept_changes=False)
  assert (str(path), note) == ("runs/mine", "new run in runs/mine")
  assert not path.exists()
  (tmp_path / "empty").mkdir()
  assert "new run" in working_directory(config_with(), "empty", accept_changes=False)[1]


def test_the_same_config_resumes_and_another_one_is_refused(tmp_path):
  def resumes(overrides) -> None:
    try:
      _, note = working_directory(config_with(*overrides), str(run), accept_changes=False)
    except LmxError as error:
      raise AssertionError(str(error)) from error
    assert note.startswith("resuming")

  run = existing_run(tmp_path / "run", "seed=3")
  resumes(["seed=3"])
  resumes(["seed=3", "mesh.fsdp=4", "compute.remat=full", "log.every=5 steps", "evaluation.max_rows=3", "name=other"])
  for change in ("seed=4", "model.layers=9", "train.duration=1000 steps", "data.length=64", "compute.dtype=bfloat16"):
    assert_law_catches(resumes, ["seed=3", change])


def test_the_message_lists_the_differences_and_the_ways_out(tmp_path):
  run = existing_run(tmp_path / "run")
  with pytest.raises(LmxError) as caught:
    working_directory(config_with("seed=4", "model.layers=9"), str(run), accept_changes=False)
  text = str(caught.value)
  assert "seed: 0 in the run, 4 now" in text
  assert "model.layers: 4 in the run, 9 now" in text
  assert "--workdir=" in text
  assert "--accept-changes" in text
  _, note = working_directory(config_with("seed=4"), str(run), accept_changes=True)
  assert note.endswith("with changes: seed 0 -> 4")


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
  (tmp_path / "thesis.tex").write_text("years of work")
  with pytest.raises(LmxError, match="a new or empty folder, or a run"):
    working_directory(config_with(), str(tmp_path), accept_changes=True)
  with pytest.raises(LmxError, match="not a file"):
    working_directory(config_with(), str(tmp_path / "thesis.tex"), accept_changes=True)


def test_a_run_of_another_version_is_named(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # Where no runs/ could be offered instead.
  (tmp_path / "config.json").write_text('{"colour": 3}')
  with pytest.raises(LmxError, match=r"config\.json: .*config\.colour: no such key"):
    read_run_config(tmp_path)
  with pytest.raises(LmxError, match=r"a folder that holds config\.json"):
    read_run_config(tmp_path / "nowhere")


def test_keys_that_a_resumed_run_may_change_exist():
  keys = configs.flatten(config_with())
  assert all(any(key.startswith(free) if free.endswith(".") else key == free for key in keys) for free in FREE)
