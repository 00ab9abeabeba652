# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A few hundred broken files are read or refused, and the tool that makes them notices anything else."""

import importlib.util
from pathlib import Path

import pytest

from lmx.data import files

FILE = Path(__file__).resolve().parents[2] / "tools" / "fuzz_files.py"


@pytest.fixture(scope="module")
def tool():
  spec = importlib.util.spec_from_file_location("fuzz_files", FILE)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_broken_files_are_read_or_refused(tool):
  found = tool.fuzz(400, seed=1)
  assert found.keys() == {"read", "refused"}
  assert min(found.values()) > 50


def test_the_tool_notices_a_reader_that_raises(tool, monkeypatch):
  def raising(*arguments):
    raise IndexError("nothing there")
    yield

  monkeypatch.setitem(files.FORMATS, "csv", raising)
  found = tool.fuzz(200, seed=1)
  assert any(outcome.startswith("a.csv: IndexError: nothing there") for outcome in found)
