# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""tools/chaos on a stand-in for `lmx train` that is fast, and can be broken: each way of being wrong is noticed."""

import random
import socket
import sys

import pytest

from tools.chaos import __main__ as chaos
from tools.chaos import cases, damage, disturbance, network, scene
from tools.chaos.verdict import (
  BAD,
  DIFFERENCE,
  WARNED,
  End,
  first_difference,
  first_difference_after,
  judge_end,
  verdict,
  warned_step,
)

# A program with the command line, files and signals of a run, whose every loss depends on all steps before it.
STAND_IN = """
import json, os, sys, time
from pathlib import Path

BROKEN = os.environ.get("STAND_IN", "")
run = Path("disk/run")
for folder in (run / "tokenizer", run / "checkpoints", Path("disk/cache"), Path("disk/compiled")):
  folder.mkdir(parents=True, exist_ok=True)
(run / "config.json").write_text("{}")
(run / "tokenizer" / "model").write_text("abc")
saved, metrics = run / "checkpoints" / "saved.json", run / "metrics.jsonl"
try:
  step, loss = json.loads(saved.read_text()) if saved.exists() else (0, 1.0)
except ValueError:
  sys.exit("error: a damaged checkpoint")
if sys.argv[1] == "evaluate":
  sys.exit(print(f"loss {loss}"))
print("lmx train:")
if step and BROKEN == "traceback":
  raise ValueError("broken on purpose")
if step and BROKEN == "hang":
  time.sleep(60)
if step and BROKEN == "silent":
  sys.exit(3)
if step and BROKEN == "forgetful":
  loss += 1e-9
lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
new = metrics.with_name("new")
new.write_text("".join(lines[:step]))
new.replace(metrics)
while step < 24:
  time.sleep(0.02)
  step, loss = step + 1, loss * 0.9 + 0.01
  with metrics.open("a") as file:
    file.write(json.dumps({"step": step, "time": time.time(), "loss": loss}) + "\\n")
  if step % 3 == 0:
    new = saved.with_name("new")
    new.write_text(json.dumps([step, loss]))
    new.replace(saved)
print("finished at step 24")
"""


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
  """Runs of the stand-in, which a test may break once they are ready; returns the tool's folder."""
  program = tmp_path / "stand_in.py"
  program.write_text(STAND_IN)
  monkeypatch.setattr(scene, "PROGRAM", (sys.executable, str(program)))
  monkeypatch.setitem(cases.LIMITS, 1, 3.0)
  monkeypatch.setattr(disturbance, "draw_moment", lambda pick: scene.Moment(None, pick.randint(6, 20)))
  cases.prepare(tmp_path, {1})
  return tmp_path


def test_a_run_that_is_killed_and_resumes_well_is_equal(stand_in):
  result = cases.run_case(cases.DISTURBANCES["kill"], 0, stand_in)
  assert (result.outcome, set(result.phases)) == ("equal", {"preparing"}), result


@pytest.mark.parametrize(
  ("broken", "outcome", "why"),
  [
    ("forgetful", "difference", "loss 0."),
    ("traceback", "traceback", "ValueError: broken on purpose"),
    ("hang", "hang", "did not end"),
    ("silent", "undocumented end", "code 3"),
  ],
)
def test_every_way_of_resuming_badly_is_noticed(stand_in, monkeypatch, broken, outcome, why):
  monkeypatch.setenv("STAND_IN", broken)
  result = cases.run_case(cases.DISTURBANCES["term"], 0, stand_in)
  assert result.outcome == outcome, result
  assert why in result.why


def test_a_finished_run_with_other_bytes_that_evaluates_otherwise_is_a_difference(stand_in, monkeypatch):
  def act(folder, pick):
    (folder.run / "checkpoints" / "saved.json").write_text("[24, 1.25]")

  kind = disturbance.Disturbance("x", "", act, begins=disturbance.FINISHED, heals=False)
  assert cases.run_case(kind, 0, stand_in).outcome == "difference"


@pytest.mark.parametrize(
  ("code", "output", "outcome"),
  [
    (0, "finished", "equal"),
    (-9, "", "equal"),
    (137, "", "equal"),
    (143, "", "undocumented end"),
    (143, "error: process 0 stopped: SIGTERM", "message"),
    (2, "error: no such file. Fix: ls", "message"),
    (75, "error: another process has ended", "message"),
    (2, "error: one\nerror: two", "undocumented end"),
    (2, "", "undocumented end"),
    (1, "error: one", "undocumented end"),
    (0, "error: one", "undocumented end"),
    (-15, "", "undocumented end"),
    (-6, "", "traceback"),
    (1, "Traceback (most recent call last):\n  File x\nKeyError: 1", "traceback"),
    (0, "Exception ignored in: <x>\nTraceback (most recent call last):", "traceback"),
    (75, "F1128 08:41:19.652511   15897 client.h:80] Terminating process\nerror: lost", "traceback"),
    (None, "", "hang"),
  ],
)
def test_an_end_is_judged_by_code_output_and_the_signals_sent(code, output, outcome):
  assert judge_end(End("process", code, output, (9,)))[0] == outcome


@pytest.mark.parametrize(
  ("disturbed", "last", "difference", "heals", "outcome"),
  [
    ((2, "error: full"), (0, ""), None, True, "message, then equal"),
    ((-9, ""), (2, "error: no"), None, True, "no resume"),
    ((-9, ""), (2, "error: no"), None, False, "message"),
    ((2, "error: full"), (0, ""), "step 3", True, "difference"),
    ((-9, ""), (1, "Traceback (most recent call last):"), "step 3", True, "traceback"),
  ],
)
def test_a_verdict_takes_the_worst_of_both_parts(disturbed, last, difference, heals, outcome):
  first, second = End("first", *disturbed, (9,)), End("second", *last)
  assert verdict([first], second, difference, heals=heals)[0] == outcome


def write_run(folder, losses, config="{}"):
  (folder / "tokenizer").mkdir(parents=True)
  (folder / "config.json").write_text(config)
  lines = (f'{{"step": {step}, "time": {random.random()}, "loss": {loss}}}' for step, loss in enumerate(losses, 1))
  (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
  return folder


@pytest.mark.parametrize(
  ("losses", "config", "whole", "expected"),
  [
    ([3.0, 2.0, 1.0], "{}", True, None),
    ([3.0, 2.0], "{}", False, None),
    ([3.0, 2.0], "{}", True, "2 whole lines instead of 3"),
    ([3.0, 2.0, 1.0, 0.5], "{}", False, "4 whole lines instead of 3"),
    ([3.0, 2.0000000000000004, 1.0], "{}", False, "line 2 (step 2): loss 2.0000000000000004 instead of 2.0"),
    ([3.0, 2.0, 1.0], '{"a": 1}', True, "config.json has other bytes"),
  ],
)
def test_the_first_number_or_file_that_differs_is_named(tmp_path, losses, config, whole, expected):
  reference = write_run(tmp_path / "reference", [3.0, 2.0, 1.0])
  found = first_difference(write_run(tmp_path / "run", losses, config), reference, whole=whole)
  assert found is expected is None or expected in found


def test_a_warning_about_metrics_counts_where_every_later_line_is_right(tmp_path):
  reference = write_run(tmp_path / "reference", [3.0, 2.0, 1.0])
  run = write_run(tmp_path / "run", [9.0, 2.0, 1.0])
  warning = "warning: metrics.jsonl was edited or damaged: its 1 records up to step 1 are not what was written\n"
  assert warned_step("resumed\n" + warning) == 1
  assert warned_step("resumed\n") is None
  assert first_difference_after(run, reference, 1) is None
  assert "after step 0" in (first_difference_after(run, reference, 0) or "")
  last = End("process", 0, warning)
  assert verdict([], last, None, heals=False, warned="line 1") == (WARNED, "line 1")
  assert verdict([], last, "line 2", heals=False, warned="line 1")[0] == DIFFERENCE


def test_a_seed_repeats_what_is_spoiled_and_every_way_changes_the_file(tmp_path):
  data = bytes(range(256)) * 8
  for seed in range(40):
    results = []
    for name in ("a", "b"):
      file = tmp_path / name
      file.write_bytes(data)
      damage.spoil(file, random.Random(seed))
      results.append(file.read_bytes() if file.exists() else None)
    assert results[0] == results[1] != data


def test_each_kind_of_file_has_its_area():
  for path, area in {
    "disk/run/checkpoints/12/parameters/d/0a1b": "arrays",
    "disk/run/checkpoints/12/ema/ocdbt.process_0/d/0a1b": "arrays",
    "disk/run/checkpoints/12/training/manifest.ocdbt": "checkpoint",
    "disk/run/loss.png": "other",
    "disk/cache/text/train/tokens.bin": "cache",
    "text/00.txt": "source",
  }.items():
    assert damage.area_of(path) == area


def test_a_plan_has_every_kind_as_often_as_its_weight_and_seeds_of_its_own():
  plan = chaos.planned("", 2, 5, short=False, namespaces=True)
  assert len(plan) == len(set(plan)) == 2 * sum(kind.weight for kind in cases.DISTURBANCES.values())
  assert min(seed for _, seed in plan) == 5
  assert not {"disk-fills", "net-unplug"} & {name for name, _ in chaos.planned("", 1, 1, short=True, namespaces=False)}
  with pytest.raises(cases.ChaosError, match=r"--kinds: got nothing. Allowed: kill"):
    chaos.planned("nothing", 1, 1, short=True, namespaces=False)


def test_the_proxy_passes_on_cuts_and_swallows():
  with socket.create_server(("127.0.0.1", 0)) as server:
    proxy = network.Proxy(server.getsockname()[1])
    near = socket.create_connection(("127.0.0.1", proxy.port))
    far, _ = server.accept()
    near.sendall(b"one")
    assert far.recv(3) == b"one"
    proxy.swallows = True
    near.sendall(b"two")
    far.settimeout(0.2)
    with pytest.raises(TimeoutError):
      far.recv(3)
    proxy.swallows = False
    far.settimeout(5)
    assert far.recv(3) == b"two"
    proxy.cut()
    assert far.recv(3) == b""
    proxy.close()
    near.close()
    far.close()


def test_every_outcome_that_counts_as_a_failure_makes_the_exit_code_1(stand_in, monkeypatch, capsys):
  for outcome, code in (("equal", 0), *((outcome, 1) for outcome in BAD)):
    result = cases.Result("kill", 1, outcome, "why", (), ("saving",), 1.0)
    monkeypatch.setattr(chaos, "spawn", lambda kind, seed, work, result=result: result)
    assert chaos.main(["--short", "--kinds=kill", f"--output={stand_in}"]) == code
    assert f"kill:1: {outcome}" in capsys.readouterr().out


@pytest.mark.slow
def test_real_runs_that_are_killed_or_damaged_resume_or_report_why(tmp_path):
  assert chaos.main(["--short", "--kinds=kill,term,damage-metrics", f"--output={tmp_path}"]) == 0
