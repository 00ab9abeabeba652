# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The processes of the benchmarks: answers, failures, time limits, who runs when; and the pages that keep results."""

import importlib
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ECHO = "import sys\nfor line in sys.stdin: print(line.strip(), flush=True)"
COUNT = """import json, sys, threading, time
ticks = [0]
def work():
  while True:
    ticks[0] += 1
    time.sleep(0.01)
threading.Thread(target=work, daemon=True).start()
for line in sys.stdin: print(json.dumps({"ticks": ticks[0]}), flush=True)"""


@pytest.fixture
def process(monkeypatch):
  monkeypatch.syspath_prepend(ROOT)
  return importlib.import_module("tools.bench.process")


def test_a_process_answers_each_request(process):
  with process.Process([sys.executable, "-c", ECHO]) as echo:
    assert [echo.ask({"steps": n}) for n in (1, 2)] == [{"steps": 1}, {"steps": 2}]


def test_a_process_that_ends_is_reported_with_its_last_words(process, tmp_path):
  fails = "import sys; sys.exit('no memory left')"
  failing = process.Process([sys.executable, "-c", fails], log=tmp_path / "log")
  with failing, pytest.raises(process.NoAnswerError, match="ended without an answer: no memory left"):
    failing.answer()


def test_a_process_that_takes_too_long_is_reported(process):
  slow = process.Process([sys.executable, "-c", "import time; time.sleep(60)"], limit=0.2)
  with slow, pytest.raises(process.NoAnswerError, match=r"no answer within 0\.2 s"):
    slow.answer()


@pytest.mark.parametrize("stop", [True, False])
def test_a_stopped_process_does_nothing_between_its_answers(process, stop):
  with process.Process([sys.executable, "-c", COUNT], stop=stop) as counting:
    first = counting.ask({})["ticks"]
    time.sleep(1.0)
    assert (counting.ask({})["ticks"] - first < 30) == stop


def test_a_recorded_table_replaces_the_last_one_on_its_page(monkeypatch, tmp_path, capsys):
  monkeypatch.syspath_prepend(ROOT)
  reporting = importlib.import_module("tools.bench.reporting")
  monkeypatch.setattr(reporting, "HERE", tmp_path)
  page = tmp_path / "results" / "step.md"
  page.parent.mkdir()
  page.write_text("# Step\n\n<!-- result -->\n\nold\n\n<!-- end -->\n\nafter\n")
  reporting.report("step", reporting.make_result({}, {"python": "3.11"}, None, 0.5), "| new |", record=True)
  text = page.read_text()
  assert text.startswith("# Step\n\n<!-- result -->\n")
  assert text.endswith("\n\n| new |\n\n<!-- end -->\n\nafter\n")
  assert "old" not in text
  assert len((page.parent / "step.jsonl").read_text().splitlines()) == 1
  page.write_text("# Step\n")
  with pytest.raises(ValueError, match="no place for the table"):
    reporting.report("step", reporting.make_result({}, {}, None, 0.5), "| new |", record=True)
  assert "| new |" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["step", "accelerator", "maxtext", "scaling", "scaling-tpu", "input", "startup"])
def test_every_benchmark_has_a_page_for_its_table(name):
  text = (ROOT / "tools/bench/results" / f"{name}.md").read_text()
  assert text.count("<!-- result -->\n") == 1
  assert text.count("<!-- end -->\n") == 1
