# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The space of a sweep: flags, functions in files, names, and combinations that can't be run."""

import argparse

import pytest

from lmx.errors import ConfigError, LmxError
from lmx.sweep.file import sweep_of_file
from lmx.sweep.space import Choices, Interval, as_text, integers, listed, log_uniform, parse_axis, product
from lmx.sweep.trial import MAX_NAME, check_trials, name_of, named


def test_flags_are_lists_keys_that_change_together_and_ranges():
  assert parse_axis("optimizer.peak_lr=1e-4, 3e-4") == Choices(("optimizer.peak_lr",), (("1e-4",), ("3e-4",)))
  assert parse_axis("model.layers+model.width=4:256,8:512") == Choices(
    ("model.layers", "model.width"), (("4", "256"), ("8", "512"))
  )
  assert parse_axis("optimizer.peak_lr=log(1e-5,1e-2)") == Interval("optimizer.peak_lr", 1e-5, 1e-2, log=True)
  assert parse_axis("model.layers=logint(1,64)") == Interval("model.layers", 1, 64, log=True, whole=True)


def test_commas_and_colons_inside_brackets_and_quotes_belong_to_the_value():
  axis = parse_axis("""evaluation.prompts=("a","b"),("c,",)""")
  assert axis == Choices(("evaluation.prompts",), (('("a","b")',), ('("c,",)',)))
  axis = parse_axis('name+data.sources="a:b":x,c:y')
  assert axis == Choices(("name", "data.sources"), (('"a:b"', "x"), ("c", "y")))


@pytest.mark.parametrize(
  ("flag", "expected"),
  [
    ("model.layers", r"--sweep.model.layers: no values. Fix: --sweep.model.layers=VALUE"),
    ("model.layers=", r"no values"),
    ("model.layers=1,,2", r"got ''"),
    ("model.layers+model.width=4,8", r"got '4'. Allowed: 2 values with colons between"),
    ("optimizer.peak_lr=lag(1e-4,1e-2)", r"got 'lag'. Allowed: .*log.*Did you mean 'log'"),
    ("optimizer.peak_lr=log(0,1)", r"got 0.0. Allowed: a lower end above 0"),
    ("optimizer.peak_lr=log(2,1)", r"a lower end below the upper one"),
    ("model.layers=int(1,2.5)", r"whole numbers"),
    ("a+b=log(1,2)", r"a range is of one key"),
    ("a=log(x,2)", r"NUMBER"),
  ],
)
def test_a_flag_that_can_not_be_read_is_one_clear_error(flag, expected):
  with pytest.raises(LmxError, match=expected):
    parse_axis(flag)


def test_a_product_has_every_combination_with_the_last_key_changing_fastest():
  axes = [parse_axis("a=1,2"), parse_axis("b+c=3:4,5:6")]
  assert product(axes) == [
    {"a": "1", "b": "3", "c": "4"},
    {"a": "1", "b": "5", "c": "6"},
    {"a": "2", "b": "3", "c": "4"},
    {"a": "2", "b": "5", "c": "6"},
  ]
  with pytest.raises(LmxError, match=r"--sweep.a: given twice"):
    product([parse_axis("a=1"), parse_axis("a=2")])
  with pytest.raises(LmxError, match=r"Fix: --search=random"):
    product([log_uniform("a", 1, 2)])


def test_python_values_become_what_is_typed():
  assert [as_text(value) for value in (None, True, 1e-4, 3, (1, "a"), "x")] == [
    "none", "true", "0.0001", "3", "(1, 'a')", "x",
  ]  # fmt: skip
  assert integers("model.layers", 1, 4).whole


def test_a_file_lists_its_trials_with_conditions_in_plain_python(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(
    "def sweep():\n"
    "  return [{'model.layers': n, 'optimizer.peak_lr': lr} for n in (2, 4) for lr in (1e-3, 1e-2)\n"
    "          if not (n == 4 and lr == 1e-2)]\n"
  )
  function, where = sweep_of_file(str(file))
  assert where == str(file)
  assert len(listed(function(), where)) == 3
  file.write_text("x = 1\n")
  with pytest.raises(LmxError, match=r"has no sweep\(\)"):
    sweep_of_file(str(file))
  with pytest.raises(LmxError, match=r"got 'dict'"):
    listed({"a": 1}, "here")
  with pytest.raises(LmxError, match=r"twice"):
    listed([{"a": 1}, {"a": 1}], "here")
  with pytest.raises(LmxError, match=r"no trials"):
    listed([], "here")


def test_a_trial_is_named_by_what_it_overrides_and_names_stay_short_and_apart():
  keys = ["optimizer.peak_lr", "model.layers"]
  assert name_of({"optimizer.peak_lr": "3e-4", "model.layers": "4"}, keys) == "peak_lr=3e-4,layers=4"
  both = ["mesh.data", "a.data"]
  assert name_of({"mesh.data": "2"}, both) == "mesh.data=2"
  first, second = (name_of({"data.sources": text}, ["data.sources"]) for text in ("a/b", "a b"))
  assert first != second
  assert "/" not in first + second
  assert len(name_of({"data.sources": "x" * 500}, ["data.sources"])) <= MAX_NAME


def test_every_combination_that_can_not_be_run_is_listed_before_anything_starts():
  args = argparse.Namespace(config="configs/base.py", overrides=["model.width=16", "model.heads=2"])
  check_trials(args, named([{"model.heads": "2"}, {"model.heads": "4"}]))
  with pytest.raises(ConfigError) as caught:
    check_trials(args, named([{"model.heads": "2"}, {"model.heads": "3"}, {"model.heads": "5"}]))
  assert [problem.partition(":")[0] for problem in caught.value.problems] == ["heads=3", "heads=5"]
  with pytest.raises(ConfigError, match=r"^config.model.hidden_size: no such key. Did you mean config.model.width"):
    check_trials(args, named([{"model.hidden_size": "2"}, {"model.hidden_size": "4"}]))
