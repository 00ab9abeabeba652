# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Studies in experiments/: their runs are configs that build, and their READMEs repeat the numbers of results.jsonl."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from laws import assert_law_catches

from lmx.config import loading as configs
from lmx.errors import LmxError
from lmx.experiment.build import abstract_setup

ROOT = Path(__file__).resolve().parent.parent
STUDIES = sorted(path.parent for path in (ROOT / "experiments").glob("*/README.md"))
# Runs that a study imports from Hugging Face or trains first, as the configs that they would have.
MINILM = ("model.layers=6", "model.width=384", "model.heads=12", "data.length=128")
STARTS = {
  "minilm": ("configs/bert.py:base", MINILM),
  "minilm_classification": ("configs/bert.py:base", MINILM),
  "minilm_regression": ("configs/bert.py:base", MINILM),
  "pretrained": ("experiments/chat/config.py:pretrained", ()),
  "bert_small": ("experiments/masked_pretraining/config.py:bert_small", ()),
}


def runs_of(study: Path) -> list[str]:
  spec = importlib.util.spec_from_file_location(f"study_{study.name}", study / "config.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return list(module.RUNS)


RUNS = [(study, run) for study in STUDIES for run in runs_of(study)]


@pytest.fixture(autouse=True, scope="module")
def starts(tmp_path_factory):
  """A working directory with the runs that studies start from."""
  folder = tmp_path_factory.mktemp("studies")
  for name, (config, overrides) in STARTS.items():
    (folder / "runs" / name).mkdir(parents=True)
    (folder / "runs" / name / "config.json").write_text(configs.to_json(configs.load(config, overrides)))
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    yield


def build(config: str) -> None:
  """Loads and checks a config, and builds its model and optimizer without arrays or data."""
  try:
    loaded = configs.load(config)
    assert configs.check(loaded) == []
    assert loaded.name == config.rpartition(":")[2], "a run trains in the folder with its name"
    abstract_setup(loaded, devices=1)
  except LmxError as error:
    raise AssertionError(f"{config}: {error}") from error


@pytest.mark.parametrize(("study", "run"), RUNS, ids=[f"{study.name}:{run}" for study, run in RUNS])
def test_every_run_of_a_study_builds(study, run):
  build(f"experiments/{study.name}/config.py:{run}")


def test_a_run_that_does_not_build_is_noticed(tmp_path):
  wrong = (ROOT / "experiments/lstm_transformer/config.py").read_text().replace("batch_size = 8", "batch_size = -8")
  (tmp_path / "config.py").write_text(wrong.replace('"lstm": _lstm', '"lstm": lambda: load("configs/none.py")'))
  assert_law_catches(build, f"{tmp_path}/config.py:transformer")
  assert_law_catches(build, f"{tmp_path}/config.py:lstm")


def numbers(text: str) -> set[float]:
  return {float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", re.sub(r"(?<=\d),(?=\d{3})", "", text))}


def measured(row: dict) -> list[float]:
  """The numbers of a row of results, those of its lists included."""
  values = [value if isinstance(value, list) else [value] for value in row.values() if not isinstance(value, str)]
  return [number for several in values for number in several]


def unmentioned(readme: str, results: str) -> list[float]:
  """Numbers of a results file that the README doesn't have; integers below 10 may be words there."""
  found = numbers(readme)
  all_measured = [number for line in results.splitlines() for number in measured(json.loads(line))]
  return [number for number in all_measured if number not in found and not (number < 10 and number == int(number))]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_a_readme_repeats_the_results_of_its_file(study):
  readme, results = (study / "README.md").read_text(), (study / "results.jsonl").read_text()
  names = {json.loads(line)["run"] for line in results.splitlines()}
  assert set(runs_of(study)) <= names

  def repeats(text: str) -> None:
    assert unmentioned(readme, text) == []

  repeats(results)
  assert_law_catches(repeats, results + '{"run": "another", "loss": 1234.5}\n')


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").rglob("*.md")), ids=lambda file: file.parent.name)
def test_commands_of_a_study_fit_on_a_line(file):
  blocks = re.findall(r"```bash\n(.*?)```", file.read_text(), re.DOTALL)
  assert [line for block in blocks for line in block.splitlines() if len(line) > 120] == []
