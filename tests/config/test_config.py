# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Configs: overrides as typed in a shell, everything wrong reported at once, exact saving."""

import importlib
import re
import subprocess
import sys

import pytest
from laws import assert_law_catches

from lmx.config import loading as configs
from lmx.config.key import Section, allowed_values, key, optional
from lmx.config.table import keys, meanings
from lmx.errors import ConfigError, LmxError

BASE = "configs/base.py"

# overrides of base.py -> parts of the message; every row is one mistake that a person makes.
WRONG = [
  (["model.layerz=3"], ["no such key", "config.model.layers"]),
  (["peak_lr=3e-4"], ["no such key", "config.optimizer.peak_lr"]),
  (["modell.layers=3"], ["no such key", "config.model.layers"]),
  (["model=3"], ["is a section", "layers"]),
  (["model.layers.more=3"], ["no such key"]),
  (["model.tied"], ["no value", "true or false"]),
  (["model.layers=2.5"], ["got 2.5", "a whole number"]),
  (["model.layers=many"], ["'many'", "a whole number"]),
  (["model.layers=none"], ["'none'", "a whole number"]),
  (["model.layers=0"], ["got 0", "at least 1"]),
  (["model.kv_heads=few"], ["'few'", "or none"]),
  (["model.tied=yes"], ["'yes'", "true or false"]),
  (["optimizer.peak_lr=fast"], ["'fast'", "a number"]),
  (["optimizer.peak_lr=-1"], ["above 0"]),
  (["optimizer.peak_lr=nan"], ["above 0"]),
  (["optimizer.b2=1"], ["not including, 1"]),
  (["optimizer.ema=1.5"], ["between 0 and 1"]),
  (["model.dropout=1"], ["not including, 1"]),
  (["model.norm=rmsnrom"], ["Did you mean 'rmsnorm'?"]),
  (["model.activation=swish"], ["swiglu", "geglu"]),
  (["data.packing=pack"], ["Did you mean 'packed'?"]),
  (["model.heads=7"], ["a divisor of config.model.width = 768", "--config.model.heads=6"]),
  (["model.kv_heads=5"], ["1, 2, 3, 4, 6, 12"]),
  (["model.position=rotary", "model.head_width=63"], ["an even number"]),
  (["data.length=2048"], ["at most config.model.context = 1024", "--config.model.context=2048"]),
  (["train.batch_size=10", "train.micro_batches=4"], ["a multiple of config.train.micro_batches = 4", "=12"]),
  (["train.batch_size=12", "mesh.fsdp=8"], ["a multiple of 8", "=16"]),
  (["mesh.fsdp=-1"], ["one axis of -1"]),
  (["mesh.tensor=0"], ["at least 1, or -1"]),
  (["train.duration=100 %"], ["percent has nothing to refer to"]),
  (["train.duration=1000"], ["config.train.duration", "1000 steps"]),
  (["train.duration=0 steps"], ["a positive number of steps"]),
  (["optimizer.warmup=2 weeks"], ["'2 weeks'", "steps, tokens, examples, epochs, percent"]),
  (["optimizer.warmup=200%"], ["0% to 100%"]),
  (["evaluation.every=0 steps"], ["above 0"]),
  (["data.sources="], ["config.data.sources", "at least one"]),
  (["data.sources=a,b", "data.weights=1,2,3"], ["one number for each of the 2 sources"]),
  (["data.weights=0"], ["above 0"]),
  (["data.weights=heavy"], ["'heavy'", "numbers"]),
  (["data.heldout_fraction=1"], ["between 0 and 1"]),
  (["tokenizer.kind=huggingface"], ["tokenizer.json"]),
  (["tokenizer.kind=bytes", "tokenizer.path=x"], ["bytes need no file"]),
  (["model.rope_factor=8"], ["config.model.rope_scaling"]),
  (["model.rope_scaling=linear"], ["--config.model.position=rotary"]),
  (["model.position=rotary", "model.rope_scaling=llama3", "model.rope_factor=8"], ["rope_original_context"]),
  (["optimizer.decay_rules=5"], ["(regex, multiplier) pairs"]),
  (["optimizer.decay_rules=(('(', 1.0),)"], ["a regular expression"]),
  (["name=a/b"], ["names a folder"]),
  ([r"data.separator=\d"], ["config.data.separator", "a backslash itself"]),
  (["data.separator=a\\"], ["a backslash itself"]),
  ([r"evaluation.prompts=\ud800"], ["config.evaluation.prompts"]),
  (["seed=-1"], ["from 0"]),
]


def problems_of(overrides: list[str], path: str = BASE) -> list[str]:
  config, problems = configs.try_load(path, overrides)
  return problems + configs.check(config)


@pytest.mark.parametrize(("overrides", "pieces"), WRONG, ids=[" ".join(o) for o, _ in WRONG])
def test_a_wrong_input_gets_a_message_that_says_what_is_allowed(overrides, pieces):
  problems = problems_of(overrides)
  assert len(problems) == 1, problems
  assert all(piece in problems[0] for piece in pieces), problems[0]


def test_the_table_of_wrong_inputs_can_fail():
  def has_one_problem(overrides: list[str]) -> None:
    assert len(problems_of(overrides)) == 1

  assert_law_catches(has_one_problem, ["model.layers=3"])


def test_everything_that_is_wrong_is_reported_at_once():
  with pytest.raises(ConfigError) as caught:
    configs.load(BASE, ["model.layerz=3", "model.width=wide", "data.sources=a.txt", "nothing=1"])
  assert len(caught.value.problems) == 3
  assert str(caught.value).startswith("3 problems:")


OVERRIDES = [
  ("model.layers=3", 3),
  ("tokenizer.train_bytes=5e6", 5_000_000),
  ("optimizer.peak_lr=3e-4", 3e-4),
  ("optimizer.peak_lr=1", 1.0),
  ("model.tied=false", False),
  ("model.tied=True", True),
  ("model.kv_heads=2", 2),
  ("model.kv_heads=none", None),
  ("model.kv_heads=None", None),
  ("compute.remat=none", "none"),
  ("checkpoint.start_from=runs/a=b", "runs/a=b"),
  ("data.sources=mytext/*.txt", ("mytext/*.txt",)),
  ("data.sources=a.txt,b.txt", ("a.txt", "b.txt")),
  ('data.sources=("a, b.txt", "c.txt")', ("a, b.txt", "c.txt")),
  ("data.weights=1,2.5", (1.0, 2.5)),
  ("data.weights=()", ()),
  ("evaluation.prompts=Hello, world", ("Hello, world",)),
  ("evaluation.prompts=['a', 'b']", ("a", "b")),
  (r"data.separator=\n", "\n"),
  (r"data.separator=\r\n\t", "\r\n\t"),
  (r"data.separator=\\n", r"\n"),
  (r"data.separator=\\\n", "\\\n"),
  (r"data.separator=\x1e", "\x1e"),
  (r"data.separator=\u2029\U0001f389", "\u2029\U0001f389"),
  ("data.separator=<|endoftext|>", "<|endoftext|>"),
  ("data.separator=\n", "\n"),
  (r"evaluation.prompts=def f(x):\n\treturn", ("def f(x):\n\treturn",)),
  (r"evaluation.prompts=print('a\\n')", (r"print('a\n')",)),
  (r"evaluation.prompts=('a\nb', 'c\\d')", ("a\nb", r"c\d")),
  (r"tokenizer.path=C:\new\table.json", r"C:\new\table.json"),
  ('optimizer.decay_rules=((".*", 1),)', ((".*", 1.0),)),
]


@pytest.mark.parametrize(("override", "expected"), OVERRIDES, ids=[o for o, _ in OVERRIDES])
def test_an_override_takes_the_type_of_its_key(override, expected):
  value = configs.load(BASE, [override])[override.partition("=")[0]]
  assert value == expected
  assert type(value) is type(expected)


def test_a_whole_number_in_a_config_file_serves_as_a_number(tmp_path):
  file = tmp_path / "mine.py"
  lines = "config.optimizer.peak_lr = 1", "config.data.weights = [2]", "config.model.window = 5"
  body = "".join(f"  {line}\n" for line in lines)
  file.write_text(
    f"from lmx.config.loading import base_config\ndef get_config():\n  config = base_config()\n{body}  return config\n"
  )
  config = configs.load(str(file))
  assert [type(config.optimizer.peak_lr), config.data.weights, config.model.window] == [float, (2.0,), 5]


def test_the_last_of_two_overrides_wins():
  assert configs.load(BASE, ["seed=1", "seed=2"]).seed == 2


def saved_and_read(config):
  return configs.from_json(configs.to_json(config))


def test_a_saved_config_comes_back_exactly():
  def comes_back(path_and_read) -> None:
    path, read = path_and_read
    config = configs.load(path, ["data.weights=0.1", "model.window=5", "name=größe"])
    back = configs.flatten(read(config))
    assert {k: (type(v), v) for k, v in back.items()} == {k: (type(v), v) for k, v in configs.flatten(config).items()}

  for path in (BASE, "configs/llama.py:8b"):
    comes_back((path, saved_and_read))

  def rounds(config):
    return configs.from_json(configs.to_json(config).replace("1e-08", "1.0001e-08"))

  assert_law_catches(comes_back, (BASE, rounds))


def test_a_config_of_another_version_is_refused_by_its_keys():
  text = configs.to_json(configs.load(BASE)).replace('"layers"', '"depth"')
  with pytest.raises(ConfigError, match=r"another version of lmx.*config\.model\.depth"):
    configs.from_json(text)
  with pytest.raises(ConfigError, match="not JSON"):
    configs.from_json("{")
  with pytest.raises(ConfigError, match="not a config"):
    configs.from_json("[1]")


def test_a_key_that_an_old_run_lacks_gets_its_default():
  text = re.sub(r'\n *"seed": 7,?', "", configs.to_json(configs.load(BASE, ["seed=7"])))
  assert "seed" not in text
  assert configs.from_json(text).seed == 0


def test_diff_lists_what_differs_and_nothing_else():
  config = configs.load(BASE, ["model.layers=3", "data.sources=x"])
  assert configs.diff(configs.load(BASE), config) == [("data.sources", ("stdlib",), ("x",)), ("model.layers", 12, 3)]
  assert configs.diff(config, config) == []


def test_a_loaded_config_takes_no_new_keys_and_no_wrong_types():
  config = configs.load(BASE)
  with pytest.raises(AttributeError):
    config.model.widht = 3
  with pytest.raises(TypeError):
    config.model.width = "3"


CONFIG_FILES = {
  "two_mistakes": ("  config.model.widht = 3\n  config.model.layers = '3'\n", ["widht", "config.model.width", "'3'"]),
  "section": ("  config.model = 3\n", ["is a section"]),
  "crash": ("  config.seed = 1 / 0\n", ["line 4", "ZeroDivisionError"]),
  "syntax": ("  config.seed = = 1\n", ["line 4", "SyntaxError"]),
  "none": ("  return None\n", ["NoneType"]),
}


@pytest.mark.parametrize("name", CONFIG_FILES)
def test_mistakes_in_a_config_file_are_reported_with_the_file(name, tmp_path):
  body, pieces = CONFIG_FILES[name]
  file = tmp_path / f"{name}.py"
  file.write_text(
    f"from lmx.config.loading import base_config\ndef get_config():\n  config = base_config()\n{body}  return config\n"
  )
  _, problems = configs.try_load(str(file))
  assert problems
  assert all(str(file) in problem for problem in problems)
  assert all(piece in "\n".join(problems) for piece in pieces), problems


def test_a_wrong_file_or_argument_is_named(tmp_path):
  def message(path: str) -> str:
    return "\n".join(configs.try_load(path)[1])

  assert "Did you mean 'configs/cpu.py'?" in message("configs/cpus.py")
  assert "takes nothing after a colon" in message("configs/cpu.py:small")
  assert "configs/shakespeare_char.py:<path>" in message("configs/shakespeare_char.py")
  assert "Did you mean 'medium'?" in message("configs/gpt2.py:mediun")
  (tmp_path / "empty.py").write_text("")
  assert "get_config()" in message(str(tmp_path / "empty.py"))
  (tmp_path / "notes.txt").write_text("")
  assert "a Python file" in message(str(tmp_path / "notes.txt"))


def test_missing_files_are_found_before_anything_runs(tmp_path):
  there = tmp_path / "a.txt"
  there.write_text("text")

  def missing(*overrides: str) -> list[str]:
    return configs.check_files(configs.load(BASE, overrides))

  assert missing(f"data.sources={there},stdlib,tfds:x,text:{there},{tmp_path}/*.txt") == []
  assert "nearest folder that exists" in missing(f"data.sources={tmp_path}/no/b.txt")[0]
  assert len(missing(f"data.sources={tmp_path}/*.md,{there}", "tokenizer.path=/no.model")) == 2
  assert "config.checkpoint.start_from" in missing("checkpoint.start_from=runs/none")[0]


# The names that base.py allows are the rows of the tables that have them.
TABLES = {
  "model.rope_scaling": ("lmx.nn.layers.positions", "ROPE_SCALINGS"),
  "model.norm": ("lmx.nn.layers.norm", "NORMS"),
  "model.norm_position": ("lmx.nn.block", "PLACEMENTS"),
  "model.activation": ("lmx.nn.layers.activations", "ACTIVATIONS"),
  "model.init": ("lmx.nn.layers.initializers", "INITS"),
  "model.pooling": ("lmx.nn.heads", "POOLINGS"),
  "compute.attention": ("lmx.nn.attention.kernels", "KERNEL_CHOICES"),
  "compute.layers": ("lmx.nn.stack", "LAYER_LOOPS"),
  "compute.quantization": ("lmx.nn.layers.quantized", "QUANTIZATIONS"),
  "compute.remat": ("lmx.nn.stack", "REMATS"),
  "compute.remat_keep": ("lmx.nn.stack", "KEEPS"),
  "optimizer.schedule": ("lmx.optim.schedules", "SCHEDULES"),
  "tokenizer.kind": ("lmx.data.tokenizers.tokenizer", "KINDS"),
  "data.bad_documents": ("lmx.data.document", "POLICIES"),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_choices_of_a_key_are_the_rows_of_its_table(name):
  def same(choices) -> None:
    assert sorted(choices) == sorted(vars(importlib.import_module(module))[table])

  module, table = TABLES[name]
  same(keys()[name].allowed.choices)
  assert_law_catches(same, keys()[name].allowed.choices[1:])


def test_the_table_that_a_key_names_is_there_and_has_its_default():
  named = {name: entry.table for name, entry in keys().items() if entry.table}
  assert set(named) == {"model.family", "model.mixer", "objective.name", "optimizer.name"}
  for name, table in named.items():
    module, _, attribute = table.rpartition(".")
    assert keys()[name].default in vars(importlib.import_module(module))[attribute]


def test_every_key_has_a_meaning_its_own_default_is_allowed_and_every_number_has_a_range():
  def complete(table) -> None:
    for name, entry in table.items():
      assert entry.meaning, f"{name} has no comment"
      entry.check(name, entry.default)
      assert entry.text or entry.kind not in (int, float), f"{name} has no range"
      assert bool(entry.items) == (entry.kind is tuple), name

  complete(keys())
  section = Section()
  section.width = key(3)
  assert_law_catches(complete, section.keys({"width": "D."}))
  assert_law_catches(complete, section.keys({}))


def test_the_table_has_the_keys_of_the_config():
  assert sorted(keys()) == list(configs.flatten(configs.load(BASE)))


@pytest.mark.parametrize(
  ("text", "kind", "good", "bad", "phrase"),
  [
    (">= 1", int, [1, 7], [0, -1], "a whole number of at least 1"),
    ("> 0", float, [0.1], [0.0, float("inf"), float("nan")], "a number above 0"),
    ("0 <= x < 1", float, [0.0, 0.9], [1.0, -0.1], "a number from 0 up to, not including, 1"),
    ("0 < x <= 1", float, [1.0], [0.0, 1.1], "a number above 0, at most 1"),
    ("-1 or >= 1", int, [-1, 1], [0, -2], "a whole number of at least 1, or -1"),
    ("a | b_2", str, ["a", "b_2"], ["c"], "a | b_2"),
    ("a | b", tuple, [(), ("a", "b")], [("a", "c")], "a | b"),
  ],
)
def test_the_notation_of_allowed_values(text, kind, good, bad, phrase):
  allowed = allowed_values(text, kind)
  assert allowed.phrase == phrase
  for value in good:
    allowed.check("config.x", value)
  for value in bad:
    with pytest.raises(LmxError, match=r"config\.x: got"):
      allowed.check("config.x", value)


def test_what_is_not_notation_is_an_error():
  with pytest.raises(ValueError, match="'at least 1' describes no allowed values"):
    key(1, "at least 1")
  section = Section()
  with pytest.raises(TypeError, match="write key"):
    section.width = 3
  section.width = optional(int, ">= 1", read_by="nothing")
  with pytest.raises(ValueError, match=r"names config\.nothing, which is no key"):
    section.keys({})


def test_a_keys_meaning_is_the_comment_after_it_or_above_it():
  source = """
def keys():
  config = Section()
  # ----- a section
  a = config.part = Section()
  a.x = key(1)  # One.
  # Two lines
  # of text.
  a.y = key(
    2
  )
  a.z = key(3)
"""
  assert meanings(source) == {"part": "", "part.x": "One.", "part.y": "Two lines of text.", "part.z": ""}


def test_reading_and_checking_a_config_imports_no_jax():
  code = (
    "import sys; from lmx.config import loading as c; c.check(c.load('configs/llama.py:1b'));"
    "assert not {'jax', 'flax', 'numpy', 'matplotlib'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
