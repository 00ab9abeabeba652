# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A short run of each kind of tools/fuzz, and the failures that it must find."""

import collections
import json
import random
import time

import pytest
from laws import assert_law_catches

from lmx.data.sources import files
from lmx.errors import LmxError
from lmx.objectives import columns
from tools.fuzz import loop, mutations
from tools.fuzz.__main__ import KINDS, main

COUNTS = {"config": 150, "small": 150, "tokenizer": 150, "rows": 600, "files": 300}


def outcomes(kind: loop.Kind, count: int) -> tuple[collections.Counter[str], set[str], list[str]]:
  """(outcome -> count, changed inputs, failures) in this process."""
  found = [loop.attempt(kind, f"1.{number}") for number in range(count)]
  return (
    collections.Counter(one.what for one in found),
    {one.base for one in found},
    [one.text for one in found if one.text],
  )


def check_inputs_are_read_or_refused(name: str) -> set[str]:
  counts, bases, failures = outcomes(KINDS[name], COUNTS[name])
  assert not failures, failures[0]
  assert min(counts[loop.READ], counts[loop.REFUSED]) > 20, counts
  return bases


@pytest.mark.parametrize("name", KINDS)
def test_changed_inputs_are_read_or_refused_in_one_message(name):
  assert (
    len(check_inputs_are_read_or_refused(name))
    >= {"config": 16, "small": 5, "tokenizer": 8, "rows": 8, "files": 20}[name]
  )


def test_a_reader_that_raises_is_noticed(monkeypatch):
  def raising(*arguments):
    raise IndexError("nothing there")
    yield

  with monkeypatch.context() as patch:
    patch.setitem(files.FORMATS, "csv", raising)
    assert_law_catches(check_inputs_are_read_or_refused, "files")
  with monkeypatch.context() as patch:
    patch.setattr(columns, "is_missing", lambda value: False)
    patch.setattr(columns, "_unicode", lambda text, name: text)
    assert_law_catches(check_inputs_are_read_or_refused, "rows")


def endless_sleep(folder, pick):
  return loop.Case("endless", "", lambda: time.sleep(60) or False)


def broken(folder, pick):
  return loop.Case("broken", "", lambda: {}["x"])


def nameless(folder, pick):
  def read():
    raise LmxError("something is wrong")

  return loop.Case("nameless", "", read, names="a.txt")


def good(folder, pick):
  return loop.Case("good", "", lambda: True)


def test_a_traceback_a_message_without_the_file_and_a_hang_are_reported_and_the_run_continues():
  messages: list[str] = []
  kinds = [loop.Kind(make.__name__, make) for make in (broken, nameless, endless_sleep, good)]
  found = loop.fuzz(kinds, 8, seed=0, seconds=1.0, say=messages.append)
  assert {kind: dict(counts) for (kind, _), counts in found.items()} == {
    "broken": {loop.FAILED: 2}, "nameless": {loop.FAILED: 2}, "endless_sleep": {loop.SLOW: 2}, "good": {loop.READ: 2},
  }  # fmt: skip
  assert loop.failed(found) == 6 == len(messages)
  assert any("KeyError" in text for text in messages)
  assert list(loop.table(found))[-1] == "| all | all | 2 | 0 | 4 | 2 |"


def test_the_command_prints_a_table_and_refuses_a_kind_that_there_is_not(capsys):
  assert main(["rows", "--count=6"]) == 0
  assert "| all | all |" in capsys.readouterr().out
  with pytest.raises(SystemExit):
    main(["row"])
  assert "no kind 'row'" in capsys.readouterr().err


def test_mutations_change_values_and_bytes_and_leave_the_original_alone():
  value = {"a": [1, {"b": "text"}], "c": None}
  text = json.dumps(value)
  changed = [json.dumps(mutations.changed_value(value, random.Random(seed), ("d",))) for seed in range(200)]
  assert json.dumps(value) == text
  assert sum(one != text for one in changed) > 150
  assert any('"d"' in one for one in changed)
  assert len({mutations.changed_bytes(b"abcdef", random.Random(seed)) for seed in range(100)}) > 50
  assert mutations.misspelled("rms_norm_eps", random.Random(0)) != "rms_norm_eps"
