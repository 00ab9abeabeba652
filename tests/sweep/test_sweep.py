# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Sweeps over stand-ins for `lmx train` that are fast and can be killed: nothing is run twice, nothing is lost."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmx.errors import LmxError
from lmx.sweep import search as search_module
from lmx.sweep.folder import FAILED, FINISHED, PRUNED, RESET, RUNNING, STOPPED, SweepFolder
from lmx.sweep.page import importances, write_page
from lmx.sweep.results import as_csv, as_text, closing, read_results, rows, sorted_rows
from lmx.sweep.runner import ListSource, Runner, slots, train_command
from lmx.sweep.search import Search, pruning_note, suggest_from
from lmx.sweep.space import choices, log_uniform
from lmx.sweep.trial import Trial, named

# A run of ten steps that keeps its step when it gets SIGTERM, whose loss is (x - 3)^2 and falls to that.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path

run, x, mode, pause = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], float(sys.argv[4])
run.mkdir(parents=True, exist_ok=True)
metrics, stop = run / "metrics.jsonl", []
signal.signal(signal.SIGTERM, lambda *args: stop.append(1))
done = len(metrics.read_text().splitlines()) if metrics.exists() else 0
with (run / "starts").open("a") as file:
  file.write(f"{done}\\n")
if mode == "fails":
  sys.exit(print("error: broken on purpose") or 1)
if mode == "mistake":
  sys.exit(print("error: a mistake") or 2)
if mode == "killed once" and not done:
  metrics.write_text(json.dumps({"step": 1, "time": 0.0, "heldout_loss": 50.0}) + "\\n")
  os.kill(os.getpid(), signal.SIGKILL)
for step in range(done + 1, 11):
  time.sleep(pause)
  with metrics.open("a") as file:
    file.write(json.dumps({"step": step, "time": 0.0, "heldout_loss": (x - 3) ** 2 + 10 - step}) + "\\n")
  if stop:
    sys.exit(85)
(run / "status.json").write_text(json.dumps({"state": "finished", "step": 10, "total_steps": 10}))
"""
DEFINITION = {"same": {"command": "lmx sweep"}, "metric": "heldout_loss", "mode": "min"}


def open_folder(path: Path, trials: list[Trial], **changes: object) -> SweepFolder:
  folder = SweepFolder(path)
  folder.open({**DEFINITION, **changes, "trials": {trial.name: dict(trial.overrides) for trial in trials}})
  return folder


def command_of(folder: SweepFolder, mode: str = "", pause: float = 0.0):
  return lambda trial: [sys.executable, "-c", STAND_IN, str(folder.run_dir(trial)), trial.overrides["x"],
                        trial.overrides.get("mode", mode), str(pause)]  # fmt: skip


def runner_of(folder, source, *, mode="", pause=0.0, jobs=2, retries=1, preemptions=3) -> Runner:
  return Runner(folder, source, command_of(folder, mode, pause), metric="heldout_loss", jobs=jobs, retries=retries,
                preemptions=preemptions, report=lambda text: None)  # fmt: skip


def starts(folder: SweepFolder, trial: Trial) -> list[int]:
  return [int(line) for line in (folder.run_dir(trial) / "starts").read_text().split()]


def test_commands_that_begin_at_once_open_one_sweep(tmp_path):
  """As the tasks of a Slurm array do."""
  text = (
    "import sys, time; from pathlib import Path; from lmx.sweep.folder import SweepFolder\n"
    "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
    "D = {'same': {}, 'metric': 'loss', 'mode': 'min'}\n"
    "for number in range(50): SweepFolder(Path(sys.argv[1]) / str(number)).open({**D, 'trials': {'a': {}}})"
  )
  words = [sys.executable, "-c", text, str(tmp_path), str(time.time() + 2)]
  processes = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(4)]
  errors = [process.communicate()[1] for process in processes]
  assert [process.returncode for process in processes] == [0] * 4, errors


def test_every_trial_runs_once_and_the_best_is_found(tmp_path):
  trials = named([{"x": str(x)} for x in (1, 2, 3, 4, 5)])
  folder = open_folder(tmp_path / "sweep", trials)
  assert runner_of(folder, ListSource(trials)).run()
  results = read_results(folder)
  assert results.best is not None
  assert (results.best.trial.name, results.best.value) == ("x=3", 0.0)
  assert {one.state for one in results.states} == {FINISHED}
  assert runner_of(folder, ListSource(trials)).run()
  assert all(starts(folder, trial) == [0] for trial in trials)  # The second sweep found nothing to do.


def test_a_trial_that_is_killed_resumes_and_one_that_fails_is_retried_within_its_own_budget(tmp_path):
  trials = named([{"x": "1", "mode": mode} for mode in ("killed once", "fails", "mistake", "well")])
  folder = open_folder(tmp_path / "sweep", trials)
  runner_of(folder, ListSource(trials), retries=2, preemptions=1).run()
  states = {one.trial.overrides["mode"]: one for one in read_results(folder).states}
  assert {mode: one.state for mode, one in states.items()} == {
    "killed once": FINISHED, "fails": FAILED, "mistake": FAILED, "well": FINISHED,
  }  # fmt: skip
  assert starts(folder, trials[0]) == [0, 1]
  assert len(starts(folder, trials[1])) == 3
  assert len(starts(folder, trials[2])) == 1  # Starting it again would not help.
  assert (states["killed once"].preemptions, states["killed once"].failures) == (1, 0)
  with pytest.raises(LmxError, match=r"2 of 4 trials failed:\n.*broken on purpose|a mistake"):
    closing(read_results(folder), folder)
  folder.note(trials[1], RESET)
  assert folder.state(trials[1], folder.attempts(), "heldout_loss").failures == 0


def test_preemptions_have_an_end_too(tmp_path):
  trials = named([{"x": "1", "mode": "killed once"}])
  folder = open_folder(tmp_path / "sweep", trials)
  runner_of(folder, ListSource(trials), preemptions=0).run()
  assert read_results(folder).states[0].state == FAILED


def wait_for(condition, seconds=30.0) -> None:
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, "it took too long"
    time.sleep(0.02)


SWEEPER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_sweep import *
folder = SweepFolder(Path(sys.argv[1]))
from lmx.parallel.signals import StopSignals
runner = runner_of(folder, ListSource(folder.trials()), pause=0.1, preemptions=50)
with StopSignals(lambda name: runner.stop()):
  sys.exit(0 if runner.run() else 85)
"""


def sweeper(folder: SweepFolder) -> subprocess.Popen:
  code = SWEEPER.format(tests=str(Path(__file__).parent))
  return subprocess.Popen([sys.executable, "-c", code, str(folder.path)], start_new_session=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a process that is killed")
def test_a_sweep_that_is_killed_leaves_no_trial_behind_and_resumes(tmp_path):
  trials = named([{"x": str(x)} for x in range(6)])
  folder = open_folder(tmp_path / "sweep", trials)
  for number in range(2):
    process = sweeper(folder)
    wait_for(lambda number=number: sum((folder.run_dir(t) / "metrics.jsonl").exists() for t in trials) > 2 * number)
    time.sleep(0.25)
    assert [one.state for one in read_results(folder).states].count(RUNNING) == 2
    process.kill()
    process.wait()
    wait_for(lambda: not any(folder.is_claimed(trial) for trial in trials))
    wait_for(lambda: not running_stand_ins(folder))
  assert sweeper(folder).wait(60) == 0
  assert {one.state for one in read_results(folder).states} == {FINISHED}
  for trial in trials:
    steps = [json.loads(line)["step"] for line in (folder.run_dir(trial) / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 11))


def running_stand_ins(folder: SweepFolder) -> list[str]:
  found = []
  for process in Path("/proc").glob("[0-9]*/cmdline"):
    try:
      words = process.read_bytes().split(b"\0")
    except OSError:
      continue
    found += [word.decode() for word in words if str(folder.path / "trials").encode() in word]
  return found


def test_sigterm_stops_the_trials_saved_and_the_sweep_reports_it(tmp_path):
  trials = named([{"x": str(x)} for x in range(4)])
  folder = open_folder(tmp_path / "sweep", trials)
  process = sweeper(folder)
  wait_for(lambda: (folder.run_dir(trials[1]) / "metrics.jsonl").exists())
  process.send_signal(signal.SIGTERM)
  assert process.wait(30) == 85
  states = [one.state for one in read_results(folder).states]
  assert states.count(STOPPED) == 2
  assert RUNNING not in states


def test_two_sweeps_in_one_folder_divide_the_trials(tmp_path):
  trials = named([{"x": str(x)} for x in range(6)])
  folder = open_folder(tmp_path / "sweep", trials)
  both = [sweeper(folder), sweeper(folder)]
  codes = {process.wait(60) for process in both}
  assert codes <= {0, 85}  # One may end while the other still has a trial.
  assert {one.state for one in read_results(folder).states} == {FINISHED}
  assert all(len(starts(folder, trial)) == 1 for trial in trials)


def test_a_folder_of_another_sweep_is_refused_and_an_extended_one_is_not(tmp_path):
  trials = named([{"x": "1"}])
  folder = open_folder(tmp_path / "sweep", trials)
  assert not folder.open({**DEFINITION, "trials": {"x=2": {"x": "2"}}})
  assert [trial.name for trial in folder.trials()] == ["x=1", "x=2"]
  with pytest.raises(LmxError, match=r"holds another sweep:\n  command: 'lmx sweep' there, 'other' now"):
    open_folder(tmp_path / "sweep", trials, same={"command": "other"})
  (tmp_path / "full").mkdir()
  (tmp_path / "full" / "file").touch()
  with pytest.raises(LmxError, match=r"neither empty nor a sweep"):
    open_folder(tmp_path / "full", trials)
  with pytest.raises(LmxError, match=r"no sweep.json there"):
    read_results(SweepFolder(tmp_path / "nothing"))


# ---------------------------------------------------------------- searches


def search_of(folder: SweepFolder, kind: str, trials: int) -> Search:
  args = argparse.Namespace(config="configs/base.py", overrides=[])
  axes = [log_uniform("x", 0.1, 10.0)]
  return Search(folder, kind, suggest_from(axes), args, trials=trials, maximize=False, seed=0, keys=["x"])


@pytest.fixture
def any_config(monkeypatch):
  """The stand-in's key is none of lmx's."""
  monkeypatch.setattr(search_module, "config_of", lambda args, trial: (None, []))


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_a_search_draws_as_many_trials_as_asked_for_and_a_second_command_draws_no_more(tmp_path, kind, any_config):
  folder = open_folder(tmp_path / "sweep", [])
  search = search_of(folder, kind, 5)
  assert runner_of(folder, search).run()
  first = {one.trial.name: one.value for one in read_results(folder).states}
  assert len(first) == 5
  again = search_of(folder, kind, 5)
  assert runner_of(folder, again).run()
  assert {one.trial.name: one.value for one in read_results(folder).states} == first
  assert [trial.value for trial in again._study.get_trials()] == [
    first[again._trial(trial.number, trial.user_attrs["overrides"]).name] for trial in again._study.get_trials()
  ]


def test_a_trial_that_the_journal_calls_running_and_nobody_runs_is_resumed(tmp_path, any_config):
  folder = open_folder(tmp_path / "sweep", [])
  lost = search_of(folder, "random", 2).next()  # Its command dies here: the journal says running for ever.
  assert lost is not None
  search = search_of(folder, "random", 2)
  found = search.next()
  assert found == lost
  assert runner_of(folder, search_of(folder, "random", 2)).run()
  assert len(read_results(folder).states) == 2
  claim = folder.claim(lost)
  assert claim is not None
  assert search_of(folder, "random", 2).next() is None
  claim.__exit__(None, None, None)


def test_asha_stops_trials_that_are_behind_and_reports_what_it_compares(tmp_path, any_config):
  folder = open_folder(tmp_path / "sweep", [])
  search = search_of(folder, "asha", 8)
  runner_of(folder, search, pause=0.15).run()
  states = [one.state for one in read_results(folder).states]
  assert states.count(PRUNED) >= 1
  assert states.count(FINISHED) >= 1
  assert states.count(PRUNED) + states.count(FINISHED) == 8
  assert "rate is still high" in pruning_note("cosine")
  assert pruning_note("constant") == ""


# ---------------------------------------------------------------- results


def test_results_are_a_table_csv_and_one_page_that_needs_nothing_else(tmp_path):
  trials = named([{"x": str(x), "mode": "well" if x < 4 else "fails"} for x in (1, 2, 3, 4, 5, 6)])
  folder = open_folder(tmp_path / "sweep", trials)
  runner_of(folder, ListSource(trials), retries=0).run()
  results = read_results(folder)
  text = as_text(results, rows(results))
  assert text.splitlines()[1].split()[:3] == [FINISHED, "0", "3"]
  assert "broken on purpose" in text
  assert as_csv(results).splitlines()[0] == "trial,state,heldout_loss,x,mode,step,seconds,attempts,why"
  assert [row[3] for row in sorted_rows(results, "x")] == ["1", "2", "3", "4", "5", "6"]
  with pytest.raises(LmxError, match=r"--sort: got 'heldout_los'.*heldout_loss"):
    sorted_rows(results, "heldout_los")
  page = write_page(folder, results).read_text()
  assert page.count("<svg") >= 3
  assert "src=" not in page
  assert "http-equiv" not in page
  assert "x=3" in page


def test_importance_finds_the_parameter_that_matters(tmp_path):
  trials = named([{"x": str(x), "other": str(y)} for x in (1, 3, 7, 9) for y in (1, 2, 3)])
  folder = open_folder(tmp_path / "sweep", trials)
  runner_of(folder, ListSource(trials), jobs=4).run()
  found = importances(read_results(folder))
  assert found["x"] > 0.8
  assert importances(read_results(open_folder(tmp_path / "none", trials))) == {}


def test_each_command_sees_its_share_of_the_gpus():
  assert slots(None, []) == (1, [{}])
  assert slots(None, ["0", "1"]) == (2, [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}])
  assert slots(2, ["0", "1", "2", "3"])[1] == [{"CUDA_VISIBLE_DEVICES": "0,2"}, {"CUDA_VISIBLE_DEVICES": "1,3"}]
  assert slots(3, ["0"])[1] == [{"CUDA_VISIBLE_DEVICES": "0"}] * 3


def test_a_trial_is_the_train_command_that_a_person_would_type(tmp_path):
  words = train_command("configs/cpu.py", ["train.seed=1"], Trial("x", {"model.layers": "2"}), tmp_path)
  assert words[1:] == ["-m", "lmx", "train", "--config=configs/cpu.py", f"--workdir={tmp_path}",
                       "--config.train.seed=1", "--config.model.layers=2"]  # fmt: skip
  assert os.access(words[0], os.X_OK)
  assert choices("a", 1, None).values == (("1",), ("none",))
