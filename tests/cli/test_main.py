# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The command line itself: fast help, flags as in ml_collections, mistakes without tracebacks."""

import importlib
import os
import re
import subprocess
import sys

import pytest
from laws import assert_law_catches

from lmx import exits
from lmx.cli import main
from lmx.cli.arguments import Parser, split_overrides

HEAVY = {
  "jax",
  "flax",
  "numpy",
  "matplotlib",
  "ml_collections",
  "tensorflow_datasets",
  "grain",
  "sentencepiece",
  "rich",
}


def modules_after(code: str) -> set[str]:
  """The modules that a fresh Python has imported after running `code`."""
  script = f"import sys\n{code}\nprint('MODULES', *sys.modules)"
  done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
  return set(done.stdout.rpartition("MODULES ")[2].split())


def imports_nothing_heavy(code: str) -> None:
  assert not HEAVY & modules_after(code)


def test_help_and_mistyped_flags_import_nothing_heavy():
  lines = [
    ["--help"],
    *([name, "--help"] for name in main.COMMANDS),
    ["trian"],
    ["train", "--nope"],
    ["plot", "--nope"],
  ]
  lines.append(["generate", "x", "--samples=0"])
  imports_nothing_heavy(
    f"from lmx.cli.main import main\nfor argv in {lines!r}:\n  try: main(argv)\n  except SystemExit: pass"
  )
  imports_nothing_heavy("from lmx.cli.main import main; main(['--help'])")
  assert_law_catches(imports_nothing_heavy, "import numpy")


def test_a_mistyped_config_key_is_answered_before_jax_is_imported():
  loaded = modules_after("from lmx.cli.main import main; main(['train', '--config.model.widht=3'])")
  assert "ml_collections" in loaded
  assert not {"jax", "flax", "grain"} & loaded


def test_every_exit_code_is_in_the_help_of_train(capsys):
  with pytest.raises(SystemExit):
    main.run(["train", "--help"])
  text = capsys.readouterr().out
  codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
  assert codes - {exits.SIGNALLED} <= {int(code) for code in re.findall(r"\b\d+\b", text.partition("Exit codes:")[2])}
  assert "exit codes" in main.usage()


def test_help_wraps_paragraphs_and_keeps_commands():
  parser = Parser(prog="x", description="A long sentence. " * 20 + "\n\nlmx train " + "--flag " * 40 + "\nlmx plot")
  text = parser.format_help()
  assert max(map(len, (line for line in text.splitlines() if "sentence" in line))) <= 120
  assert "  lmx train " + "--flag " * 39 in text
  assert "\n  lmx plot" in text


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_module_of_every_command_runs_it(name):
  assert callable(importlib.import_module(f"lmx.cli.{main.COMMANDS[name].module}").run)


def test_help_lists_every_command(capsys):
  assert main.main(["--help"]) == 0
  text = capsys.readouterr().out
  assert all(f"\n  {name} " in text for name in main.COMMANDS)
  assert main.main([]) == 0
  assert main.main(["--version"]) == 0


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_explains_itself(name, capsys):
  with pytest.raises(SystemExit) as stopped:
    main.run([name, "--help"])
  assert stopped.value.code == 0
  assert f"usage: lmx {name}" in capsys.readouterr().out


MISTAKES = [
  (["trian"], "Did you mean 'train'?"),
  # A wrong flag that lmx let pass would train: the last word makes sure that it can't.
  (["train", "--confg=x", "--config.seed=-1"], "Did you mean '--config'?"),
  (["train", "--work", "x", "--config.seed=-1"], "Did you mean '--workdir'?"),
  (["config", "show", "--chnged"], "Did you mean '--changed'?"),
  (["config", "shwo"], "invalid choice: 'shwo'"),
  (["config"], "required"),
  (["train", "surplus", "--config.seed=-1"], "got 'surplus'"),
  (["train", "--config=configs/cpus.py"], "Did you mean 'configs/cpu.py'?"),
  (["train", "--config.model.widht=3"], "Did you mean config.model.width?"),
  (["train", "--config.model.heads=7"], "a divisor of config.model.width"),
  (["train", "--config.data.sources=nowhere/*.txt"], "a file, folder or glob that exists"),
  (["generate", "runs/x", "--config.seed=1"], "takes no config"),
  (["generate"], "required: RUN"),
  (["generate", "x", "--samples", "many"], "invalid int value: 'many'"),
  (["generate", "x", "--samples=0", "--top-p=2"], "--top-p: got 2.0"),
  (["generate", "x", "--top-p=0"], "--top-p: got 0.0. Allowed: above 0, up to 1."),
  (["generate", "x", "--temperature=nan"], "--temperature: got nan. Allowed: 0 or more."),
  (["data", "show", "--rows=0"], "--rows: got 0. Allowed: at least 1."),
  (["plan", "--topology=v5e:4x4", "--tokens=many"], "--tokens: got 'many'"),
  (["generate", "nowhere"], "nowhere"),
  (["evaluate", "nowhere"], "nowhere"),
  (["plot", "nowhere"], "no metrics.jsonl"),
]


@pytest.mark.parametrize(("argv", "text"), MISTAKES, ids=[" ".join(argv) for argv, _ in MISTAKES])
def test_a_mistake_ends_in_a_short_message_and_code_2(argv, text, capsys):
  assert main.main(argv) == 2
  captured = capsys.readouterr()
  assert captured.err.startswith("error: ")
  assert text in captured.err
  assert "Traceback" not in captured.err


def test_flags_for_the_config_are_taken_as_ml_collections_takes_them():
  argv = ["--config=a.py", "--config.x.y=1", "--config.z", "2", "--noconfig.b", "--config.flag", "--workdir", "w"]
  assert split_overrides(argv) == (["--config=a.py", "--workdir", "w"], ["x.y=1", "z=2", "b=false", "flag"])
  assert split_overrides(["--config.a=-1", "--config.b", "-1"]) == ([], ["a=-1", "b=-1"])
  assert split_overrides(["--", "--config.a=1"]) == (["--", "--config.a=1"], [])
  assert split_overrides(["--config.last"]) == ([], ["last"])


def test_control_c_ends_without_a_traceback(monkeypatch, capsys):
  def interrupted(argv):
    raise KeyboardInterrupt

  monkeypatch.setattr(main, "run", interrupted)
  assert main.main(["train"]) == main.INTERRUPTED
  assert capsys.readouterr().err == "stopped\n"


def test_a_closed_pipe_is_no_error():
  command = f"{sys.executable} -m lmx config show | head -1"
  done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
  assert (done.returncode, done.stderr) == (0, "")
  assert done.stdout.startswith("* name = 'cpu'")


def test_output_is_plain_when_it_is_no_terminal_and_survives_ascii():
  environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
  command = [sys.executable, "-m", "lmx", "config", "show", "--config.evaluation.prompts=größe"]
  done = subprocess.run(command, check=True, capture_output=True, env=environment)
  assert b"\x1b" not in done.stdout
  assert b"gr??e" in done.stdout or b"gr\\xf6" in done.stdout or b"gr?" in done.stdout


def test_the_module_is_the_command():
  done = subprocess.run([sys.executable, "-m", "lmx", "nonsense"], capture_output=True, text=True)
  assert done.returncode == 2
  assert done.stderr.startswith("error: command: got 'nonsense'")


def test_packages_that_do_not_fit_stop_a_command_but_not_the_doctor(monkeypatch, capsys):
  monkeypatch.setattr(main, "version_problems", lambda: ["jax 9 needs flax >= 8, and flax 7 is here"])
  assert main.main(["generate", "runs/x"]) == 2
  assert "flax 7 is here. Fix: pip install" in capsys.readouterr().err
  assert main.main(["config", "diff", "configs/cpu.py", "configs/cpu.py"]) == 0
