# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A short run of tools/fuzz.py, and that it finds what it looks for."""

import pytest

from tools import fuzz


@pytest.mark.parametrize("name", ["config", "small", "tokenizer", "rows"])
def test_changed_files_are_read_or_refused_in_one_message(name):
  counts, failures = fuzz.fuzz(150, seed=1, names=(name,))
  assert not failures, failures[0]
  assert counts[name]["refused"] > 20


def test_the_fuzzer_notices_a_traceback_and_a_hang(monkeypatch):
  def broken(folder):
    raise KeyError("x")

  def endless(folder):
    while True:
      pass

  for read, said in ((broken, "KeyError"), (endless, "SlowError")):
    monkeypatch.setattr(fuzz, "TARGETS", (fuzz.Target("config", fuzz.write_config, read),))
    (failure,) = fuzz.fuzz(1, seed=0, seconds=0.2)[1]
    assert said in failure.what
