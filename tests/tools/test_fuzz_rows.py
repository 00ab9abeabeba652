# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Rows with something wrong in them are refused in a sentence, whatever it is."""

from laws import assert_law_catches

from lmx.objectives import columns
from tools import fuzz_rows


def check_no_row_ends_in_a_traceback(mutations: int) -> None:
  counts = fuzz_rows.fuzz(mutations, seed=0)
  assert not sum(count["tracebacks"] for count in counts.values())
  assert all(count["encoded"] and count["refused"] for count in counts.values()), counts


def test_no_mutated_row_ends_in_a_traceback(monkeypatch):
  check_no_row_ends_in_a_traceback(600)
  monkeypatch.setattr(columns, "is_missing", lambda value: False)
  monkeypatch.setattr(columns, "_unicode", lambda text, name: text)
  assert_law_catches(check_no_row_ends_in_a_traceback, 600)
