# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The documentation is true: commands parse, configs load, keys are read, links lead somewhere."""

import ast
import importlib.util
import inspect
import re
import shlex
from pathlib import Path

import pytest
from laws import assert_law_catches

from lmx import exits
from lmx.cli import main
from lmx.config import loading as configs
from lmx.errors import LmxError
from lmx.parallel.compiler_options import TPU_OPTIONS, VMEM
from lmx.versions import TESTED_LIBTPU

ROOT = Path(__file__).resolve().parent.parent
CONFIG_FILES = sorted((ROOT / "configs").glob("*.py"))
COMMAND = re.compile(r"(?:^|&& |\| )(?:\S*/bin/)?(lmx [a-z][^&|]*)")


def commands_in(text: str) -> list[str]:
  """Every `lmx ...` command of a text: in bash blocks, after "Command:", or as the only thing on an indented line."""
  blocks = [block.replace("\\\n", " ") for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)]
  lines = [line for block in blocks for line in block.splitlines()]
  lines += re.findall(r"^Command: +(.*)$", text, re.MULTILINE)
  names = "|".join(main.COMMANDS)
  lines += re.findall(rf"^  +((?:cat \S+ \| )?lmx (?:{names}) .*)$", text, re.MULTILINE)
  return [match[1].partition("  #")[0].strip() for line in lines for match in COMMAND.finditer(line)]


def documents() -> list[Path]:
  markdown = [p for p in ROOT.rglob("*.md") if not any(part.startswith(".") or part == "runs" for part in p.parts)]
  return [*markdown, *CONFIG_FILES, *sorted((ROOT / "lmx" / "cli").glob("*.py"))]


# The runs that documents speak of, as the configs they would have been trained with.
RUNS = {
  "bert": "configs/bert.py:base",
  "bert_small": "configs/bert.py:small",
  "llama": "configs/llama.py:125m",
  "minilm": "configs/bert.py:base",
  "minilm_classification": "configs/bert.py:base",
  "minilm_regression": "configs/bert.py:base",
  "pretrained": "configs/gpt2.py:small",
  "sft": "configs/llama.py:125m",
}


@pytest.fixture(autouse=True, scope="module")
def documented_runs(tmp_path_factory):
  """A working directory in which those runs exist."""
  folder = tmp_path_factory.mktemp("documented")
  for name, config in RUNS.items():
    (folder / "runs" / name).mkdir(parents=True)
    (folder / "runs" / name / "config.json").write_text(configs.to_json(configs.load(config)))
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    yield


COMMANDS = [(path.relative_to(ROOT), command) for path in documents() for command in commands_in(path.read_text())]


def works(command: str) -> None:
  """The command parses, and the config it names has nothing wrong with it but files that aren't here."""
  try:
    _, args = main.parse(shlex.split(command)[1:])
    if "config" in args:
      config, problems = configs.try_load(args.config, args.overrides)
      assert not problems + configs.check(config), f"{command}: {problems + configs.check(config)}"
  except LmxError as error:
    raise AssertionError(f"{command}: {error}") from error


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[f"{path}: {command}" for path, command in COMMANDS])
def test_a_command_in_the_documentation_parses(path, command):
  works(command)


def test_commands_are_found_and_wrong_ones_noticed():
  found = commands_in(
    "```bash\n.venv/bin/lmx train\nlmx plot a \\\n  b\n```\n"
    "Command:   lmx plot a\n  cat x | lmx data show\nlmx is good\n"
  )
  assert [command.split() for command in found] == [
    ["lmx", "train"], ["lmx", "plot", "a", "b"], ["lmx", "plot", "a"], ["lmx", "data", "show"],
  ]  # fmt: skip
  assert {str(path) for path, _ in COMMANDS} >= {"README.md", *(f"configs/{p.name}" for p in CONFIG_FILES)}
  for command in (
    "lmx trian",
    "lmx train --config.model.widht=3",
    "lmx generate --promt=x",
    "lmx train --config=no.py",
  ):
    assert_law_catches(works, command)


def module_of(path: Path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def arguments_of(path: Path) -> list[str]:
  """Every argument a config file takes: its sizes, or the one in its docstring's command."""
  module = module_of(path)
  sizes = [f":{size}" for size in vars(module).get("SIZES", ())]
  named = sorted(set(re.findall(rf"{path.name}(:\S+)", module.__doc__)))
  optional = all(p.default is not p.empty for p in inspect.signature(module.get_config).parameters.values())
  return [*(sizes or named), *([""] if optional else [])]


CONFIGS = [f"configs/{path.name}{argument}" for path in CONFIG_FILES for argument in arguments_of(path)]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_loads_and_has_nothing_wrong(name):
  assert configs.check(configs.load(name)) == []


def test_configs_have_names_of_their_own():
  names = {
    name: configs.load(name).name for name in CONFIGS if name.partition(":")[2] or f"{name}:" not in str(CONFIGS)
  }
  assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.name)
def test_a_config_states_how_it_is_run_and_what_to_expect(path):
  def is_stated(text: str) -> None:
    for heading in ("Command:", "Hardware:", "Time:", "Expected:"):
      assert re.search(rf"^{heading} +\S", text, re.MULTILINE), f"{path.name} lacks {heading}"

  text = ast.get_docstring(ast.parse(path.read_text()))
  if path.name == "base.py":  # Not an experiment.
    text += "\nHardware: -\nTime: -\nExpected: -"
  is_stated(text)
  assert_law_catches(is_stated, text.replace("Command:", "Try:"))


# ---------------------------------------------------------------- links and commands of the README


def dead_links(path: Path, text: str) -> list[str]:
  targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
  return [t for t in targets if "://" not in t and not t.startswith("mailto:") and not (path.parent / t).exists()]


@pytest.mark.parametrize("path", [p for p in documents() if p.suffix == ".md"], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
  assert dead_links(path, path.read_text()) == []
  assert dead_links(path, "[a](nowhere.md)") == ["nowhere.md"]


def absent_files(text: str) -> list[str]:
  """Files of the repository that a text names and that don't exist."""
  named = re.findall(r"`((?:lmx|configs|tests|tools|experiments|docs|findings)/[\w/.]*)`", text)
  return [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("path", [p for p in documents() if p.suffix == ".md" and p.name != "CHANGELOG.md"], ids=str)
def test_files_named_in_a_document_exist(path):
  assert absent_files(path.read_text()) == []
  assert absent_files("`lmx/nn/` and `lmx/nowhere.py`") == ["lmx/nowhere.py"]


def test_the_quick_start_has_the_command_of_the_readme():
  command = re.search(r"<!-- run: train -->\n```bash\n(.+)\n", (ROOT / "README.md").read_text())
  assert command
  assert command[1] in (ROOT / "docs" / "quickstart.md").read_text()


@pytest.mark.parametrize("name", ["train", "test"])
def test_the_two_commands_at_the_top_are_what_continuous_integration_runs(name):
  text = (ROOT / "README.md").read_text()
  match = re.search(rf"^<!-- run: {name} -->\n```bash\n(.+)\n```$", text, re.MULTILINE)
  assert match, f"README.md lacks the marked command {name}"
  assert match.start() < text.index("\n## "), "it stands at the top"
  assert f"readme {name})" in (ROOT / ".ci" / "run").read_text()


# ---------------------------------------------------------------- numbers that the code has too


def cells(page: str, first: str) -> list[str]:
  """The cells after the first one in the row of a page's table that starts with it."""
  row = re.search(rf"^\| {re.escape(first)}.*$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
  assert row, f"docs/{page} has no row {first!r}"
  return [cell.strip() for cell in row[0].strip("|").split("|")][1:]


def test_the_table_of_exit_codes_has_every_code():
  assert exits.__doc__
  table = exits.__doc__.partition("| code | meaning |")[2].partition("\n\n")[0]
  found = {int(code) for row in table.splitlines()[2:] for code in re.findall(r"\d+", row.split("|")[1])}
  codes = {exits.DONE, exits.FAILED, exits.MISTAKE, exits.STORAGE, exits.LOST_PROCESS, exits.DIFFERENT_PROCESSES,
           exits.SAVED}  # fmt: skip
  assert found == codes | {exits.INTERRUPTED, exits.SIGNALLED + 15}


def test_the_page_of_tpus_has_the_tested_versions_and_the_vector_memory_of_the_options():
  text = (ROOT / "docs" / "tpu.md").read_text()
  assert [pair for pair in TESTED_LIBTPU.items() if "| {} | {} |".format(*pair) not in text] == []
  memory = cells("tpu.md", "vector memory of one operation")[-5:]
  options = [table[VMEM].value // 1024 if VMEM in table else "libtpu's" for table in TPU_OPTIONS.values()]
  assert memory == [str(option) for option in options]
