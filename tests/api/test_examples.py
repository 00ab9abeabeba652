# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The examples in docstrings and on the page of the Python API run, on models made here."""

import contextlib
import doctest
import inspect
import io
import re
from pathlib import Path

import hf_folders
import jax
import pytest
import tiny_runs
from golden_models import GOLDEN
from laws import assert_law_catches

import lmx
from lmx.api.loaded_run import LoadedRun
from lmx.cli.main import main
from lmx.config import loading as configs
from lmx.data.tokenizers.tokenizer import ByteTokenizer
from lmx.evaluation.baseline import xz_bits_per_byte
from lmx.evaluation.squad import squad_scores
from lmx.experiment.train_setup import model_maker, model_spec
from lmx.inference.beam import beam_search
from lmx.inference.embed import embed
from lmx.inference.generate import generate
from lmx.inference.predict import classify
from lmx.inference.score import score
from lmx.training.checkpoint import Checkpointer
from lmx.training.run_directory import CHECKPOINT_DIR, write_run_files
from lmx.training.state import abstract_model

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("generate", "continuations", "translate", "chat", "classify", "regress", "answer", "tag", "embed", "predict",
           "loss", "evaluate", "merged")  # fmt: skip
FIRST = {  # What a user calls first.
  "lmx.load": lmx.load,
  "lmx.from_hf": lmx.from_hf,
  "lmx.to_hf": lmx.to_hf,
  **{f"LoadedRun.{name}": getattr(LoadedRun, name) for name in METHODS},
  "generate": generate,
  "beam_search": beam_search,
  "score": score,
  "embed": embed,
  "classify": classify,
  "squad_scores": squad_scores,
  "xz_bits_per_byte": xz_bits_per_byte,
}
IMPORTED = {  # Run -> the golden model that it is imported from.
  "classify": "bert-classification-8",
  "regress": "bert-regression-8",
  "span": "bert-span-8",
  "tag": "bert-tagging-8",
  "embed": "bert-embedding-8",
  "translation": "t5-language-0",
}
UNTRAINED = {"cpu": {}, "sft": {"objective.name": "chat", "data.packing": "padded"}}


def write_untrained(folder: Path, text: Path, changes: dict) -> None:
  """A run of step 0: a tiny decoder with random weights."""
  keys = {**tiny_runs.TINY, "name": folder.name, "data.sources": f"{text}/*.txt", "data.cache_dir": f"{text}/cache"}
  keys |= {"model.context": 128, "data.length": 64, **changes}
  config = configs.load(str(ROOT / "configs" / "base.py"), [f"{key}={value}" for key, value in keys.items()])
  make_model = model_maker(config, model_spec(config, ByteTokenizer().vocab_size))
  parameters = abstract_model(make_model).split(make_model(jax.random.key(0)))
  write_run_files(folder, configs.to_json(config), ByteTokenizer())
  with Checkpointer(folder / CHECKPOINT_DIR, background=False) as checkpoints:
    checkpoints.save_parameters(parameters, {})


@pytest.fixture(scope="module", autouse=True)
def workplace(tmp_path_factory):
  """A working directory with the text, runs and models that the examples name."""
  folder = tmp_path_factory.mktemp("examples")
  with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
    patch.chdir(folder)
    text = tiny_runs.write_text(folder / "text")
    for name, changes in UNTRAINED.items():
      write_untrained(folder / "runs" / name, text, changes)
    for name, golden in IMPORTED.items():
      labels = {"id2label": {"0": "bad", "1": "good", "2": "mixed"}} if name == "classify" else {}
      model = hf_folders.copy(GOLDEN / golden, folder / "models" / name, framed="<s> $A </s>", **labels)
      assert main(["import", str(model), f"--workdir=runs/{name}"]) == 0
    hf_folders.copy(GOLDEN / "bert-embedding-8", folder / "path" / "to" / "bert", framed="<s> $A </s>")
    yield


def run_examples(name: str, docstring: str) -> None:
  """Runs the examples of a docstring; there is at least one."""
  test = doctest.DocTestParser().get_doctest(docstring, {"lmx": lmx}, name, None, None)
  assert test.examples, f"{name} has no example"
  report = io.StringIO()
  assert not doctest.DocTestRunner(verbose=False).run(test, out=report.write).failed, report.getvalue()


@pytest.mark.parametrize("name", FIRST)
def test_the_example_in_a_docstring_runs_and_prints_what_it_says(name):
  run_examples(name, inspect.getdoc(FIRST[name]) or "")


def test_a_wrong_example_or_none_is_noticed():
  run_examples("right", ">>> 1 + 1\n2\n")
  assert_law_catches(lambda text: run_examples("wrong", text), ">>> 1 + 1\n3\n")
  assert_law_catches(lambda text: run_examples("none", text), "No example.")


def undocumented(function) -> list[str]:
  """Parameters that a docstring's Args section lacks, for functions of three or more."""
  names = [name for name in inspect.signature(function).parameters if name != "self"]
  section = re.search(r"^Args:\n((?:  .*\n?|\n)*)", inspect.getdoc(function) or "", re.MULTILINE)
  listed = re.findall(r"^  (\S[^:\n]*):", section[1], re.MULTILINE) if section else []
  known = {name.strip(" *") for names in listed for name in names.split(",")}
  return [name for name in names if name not in known] if len(names) > 2 else []


@pytest.mark.parametrize("name", FIRST)
def test_every_argument_is_documented(name):
  assert not undocumented(FIRST[name])


def test_an_argument_without_a_word_is_noticed():
  def documented(a, b, *, c):
    """Adds.

    Args:
      a, b: numbers.
      c: another.
    """

  def forgetful(a, b, *, c):
    """Adds.

    Args:
      a: a number.
      c: another.
    """

  def check(function) -> None:
    assert not undocumented(function)

  check(documented)
  assert_law_catches(check, forgetful)


def test_the_code_of_the_api_page_runs():
  blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
  assert blocks
  for block in blocks:
    with contextlib.redirect_stdout(io.StringIO()):
      exec(block, {})
