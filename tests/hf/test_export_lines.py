# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The line about the export in a run's report: every stock config, each of its sizes, and fine-tuned runs of them."""

import importlib.util
import inspect
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from laws import assert_law_catches

from lmx.config import loading as configs
from lmx.errors import LmxError
from lmx.experiment.build import export_as
from lmx.hf.exporting import choose_family
from lmx.objectives import OBJECTIVES

FOLDER = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(FOLDER.glob("*.py"))
KEY = re.compile(r"Fix: --config\.([\w.]+=[^;\s]+)")


def module_of(file: Path):
  spec = importlib.util.spec_from_file_location(f"stock_{file.stem}", file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


MODULES = {file.name: module_of(file) for file in FILES}
TAKES = {name: next(iter(inspect.signature(module.get_config).parameters), None) for name, module in MODULES.items()}
SIZED = [f"configs/{name}:{size}" for name, module in MODULES.items() if TAKES[name] == "size" for size in module.SIZES]
PLAIN = [f"configs/{name}" for name, takes in TAKES.items() if takes in (None, "run")]
OF_A_FILE = [f"configs/{name}:{__file__}" for name, takes in TAKES.items() if takes == "path"]
FINE_TUNING = [f"configs/{name}" for name, takes in TAKES.items() if takes == "run"]
STOCK = [*SIZED, *PLAIN, *OF_A_FILE]


def starts() -> list[tuple[str, str]]:
  """(fine-tuning config, the stock config of the run that it starts from), where its objective trains such models."""
  found = []
  for one in FINE_TUNING:
    families = OBJECTIVES[configs.load(one).objective.name].families
    found += [(one, base) for base in SIZED if configs.load(base).model.family in families]
  return found


def check_line(line: str, name: str, given: Sequence[str] = ()) -> None:
  """A line names the format, or keys whose change makes the model exportable, or states that none exists with a fix."""
  if re.fullmatch(r"as \w+, \w+", line):
    return
  if 'lmx.load("runs/' in line:
    assert "whatever its other keys are" in line
    return
  changes = KEY.findall(line)
  assert changes, line
  changed = export_as(configs.load(name, [*given, *changes]))
  assert re.fullmatch(r"as \w+, \w+", changed), (changes, changed)


def test_every_stock_config_is_among_the_cases():
  assert {name.partition(":")[0].removeprefix("configs/") for name in STOCK} == {file.name for file in FILES}
  assert len(STOCK) >= 35
  assert len(starts()) >= 40


@pytest.mark.parametrize("name", STOCK)
def test_a_stock_config_reports_its_export_format_or_what_to_do_instead(name):
  line = export_as(configs.load(name))
  check_line(line, name)
  assert line.startswith("no Hugging Face format" if "lstm" in name else "as "), line


@pytest.mark.parametrize(("name", "base"), starts())
def test_a_fine_tuned_stock_config_is_exportable_or_reports_what_to_change(name, base, tmp_path):
  (tmp_path / "config.json").write_text(configs.to_json(configs.load(base)))
  line = export_as(configs.load(f"{name}:{tmp_path}"))
  check_line(line, f"{name}:{tmp_path}")
  assert line.startswith("no Hugging Face format" if "lstm" in base else "as "), line


CHANGED = {
  "gelu in llama": ("configs/llama.py:125m", "model.activation=gelu"),
  "norms elsewhere": ("configs/gpt2.py:small", "model.norm_position=sandwich"),
  "muP": ("configs/gpt2.py:small", "model.mup_base_width=256"),
  "windows in T5": ("configs/t5.py:small", "model.window=64"),
  "a modern encoder with all its norms": ("configs/bert.py:modern", "model.first_attention_norm=true"),
  "a modern encoder with relu": ("configs/bert.py:modern", "model.activation=relu"),
  "a modern encoder that pools the last token": ("configs/classify.py", "model.pooling=last"),
  "windows that end in a global layer": ("configs/bert.py:modern", "model.window=65", "model.global_every=3"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_the_keys_that_a_line_names_make_a_model_exportable(case):
  name, *changes = CHANGED[case]
  line = export_as(configs.load(name, changes))
  assert line.startswith("no Hugging Face format of lmx holds this model exactly; the nearest is"), line
  check_line(line, name, changes)


def test_the_check_notices_a_line_without_a_fix():
  line = "no Hugging Face format of lmx holds a model of config.model.family=lstm"
  assert_law_catches(check_line, line, "configs/lstm.py")
  line = "no Hugging Face format of lmx holds this model exactly; Fix: --config.model.layers=3"
  assert_law_catches(check_line, line, "configs/llama.py", ["model.activation=gelu"])


def test_exporting_an_lstm_raises_the_same_message():
  with pytest.raises(LmxError, match=r"model\.family=lstm, whatever its other keys are.*lmx\.load\("):
    choose_family({"family": "lstm"}, None, None)
