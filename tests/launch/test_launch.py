# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx launch` and `lmx jobs`: what is shipped, what is refused, what a dry run says, and jobs on this machine."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmx.cli.main import run
from lmx.errors import LmxError
from lmx.launch.command import JobCommand, job_name, read_secrets
from lmx.launch.job import END, START, cost_before, parse_duration, read_job
from lmx.launch.launching import BACKENDS, DEFAULTS, new_job
from lmx.launch.local import ended
from lmx.launch.machines import accelerator_type, read_topology, shape_flags, workers
from lmx.launch.source import read_source

SECRET = "s3cr3t-value-of-a-token"
BUCKET = ["train", "--config=configs/cpu.py", "--workdir=gs://bucket/a"]
FLAGS = {
  "local": [],
  "slurm": ["--nodes=2", "--time=12h"],
  "tpu": ["--topology=2xv5e:4x4", "--zone=z", "--project=p", "--time=6h"],
  "gke": ["--topology=v6e:4x4", "--zone=z", "--project=p", "--cluster=c"],
  "sky": ["--topology=h100:16"],
}


def git(clone: Path, *words: str) -> str:
  author = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
  return subprocess.run(["git", *author, *words], cwd=clone, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def clone(tmp_path, monkeypatch):
  """A clone with a committed stand-in of lmx that prints its words, and the folder of jobs next to it."""
  clone = tmp_path / "clone"
  (clone / "lmx").mkdir(parents=True)
  (clone / "configs").mkdir()
  (clone / "lmx" / "__init__.py").write_text("")
  (clone / "lmx" / "__main__.py").write_text(STAND_IN)
  (clone / "configs" / "cpu.py").write_text("committed\n")
  (clone / "constraints.txt").write_text("")
  git(clone, "init", "-q")
  git(clone, "add", ".")
  git(clone, "commit", "-q", "-m", "first")
  monkeypatch.setenv("LMX_JOBS", str(tmp_path / "jobs"))
  monkeypatch.setattr("lmx.cli.launch.read_source", lambda: read_source(clone))
  monkeypatch.chdir(clone)
  return clone


STAND_IN = """
import pathlib, signal, sys, time
stop = []
signal.signal(signal.SIGTERM, lambda *args: stop.append(1))
config = [word.partition("=")[2] for word in sys.argv if word.startswith("--config=")]
print(sys.argv[1:], pathlib.Path(config[0]).read_text() if config else "", flush=True)
if "--long" in sys.argv:
  while not stop:
    time.sleep(0.05)
  sys.exit(85)
sys.exit(2 if "--mistake" in sys.argv else 0)
"""


def given(**flags: object) -> dict[str, object]:
  return {**dict.fromkeys(DEFAULTS), "time": None, "restarts": None, "engine": [], **flags}


def until(condition, seconds: float = 20.0) -> None:
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, "it did not happen in time"
    time.sleep(0.05)


# ---------------------------------------------------------------- what is shipped


def test_a_clean_clone_ships_its_commit(clone):
  source = read_source(clone)
  assert source.commit == git(clone, "rev-parse", "HEAD")
  assert source.tree == git(clone, "rev-parse", "HEAD^{tree}")
  assert not source.changed
  assert not source.untracked


def test_changed_files_are_shipped_and_kept_as_a_patch_and_untracked_ones_are_not(clone, tmp_path):
  (clone / "configs" / "cpu.py").write_text("changed\n")
  (clone / "configs" / "staged.py").write_text("staged\n")
  git(clone, "add", "configs/staged.py")
  (clone / ".env").write_text(f"TOKEN={SECRET}")
  before = git(clone, "status", "--porcelain")
  source = read_source(clone)
  source.write_code(tmp_path)
  assert (source.changed, source.untracked) == (("configs/cpu.py", "configs/staged.py"), (".env",))
  assert (tmp_path / "code" / "configs" / "cpu.py").read_text() == "changed\n"
  assert (tmp_path / "code" / "configs" / "staged.py").read_text() == "staged\n"
  assert not (tmp_path / "code" / ".env").exists()
  assert git(clone, "status", "--porcelain") == before
  git(clone, "stash")  # The patch makes what ran from the commit.
  subprocess.run(["git", "apply", "--index", str(tmp_path / "uncommitted.patch")], cwd=clone, check=True)
  assert git(clone, "write-tree") == source.tree


def test_code_that_is_shipped_again_leaves_nothing_of_the_old(clone, tmp_path):
  read_source(clone).write_code(tmp_path)
  (tmp_path / "code" / "stale.py").write_text("")
  read_source(clone).write_code(tmp_path)
  assert not (tmp_path / "code" / "stale.py").exists()


def test_a_folder_without_git_is_refused(tmp_path):
  with pytest.raises(LmxError, match="no git clone"):
    read_source(tmp_path)


def test_a_config_that_git_does_not_track_is_refused(clone):
  (clone / "configs" / "mine.py").write_text("")
  with pytest.raises(LmxError, match=r"git add configs/mine\.py"):
    JobCommand(["train", "--config=configs/mine.py:small"]).shipped(read_source(clone), "code")


def test_the_config_is_that_of_the_shipped_code(clone):
  source = read_source(clone)
  for words in (["train", "--config", "cpu.py:a=b"], ["lmx", "train", f"--config={clone}/configs/cpu.py:a=b"]):
    assert JobCommand(words).shipped(source, "code") == ["train", "--config=code/configs/cpu.py:a=b"]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
  ("words", "flags", "text"),
  [
    ([], ["--on=local"], "which command"),
    (["trian"], ["--on=local"], "Did you mean 'train'"),
    (["train", "--process-index=1"], ["--on=slurm"], "--process-index: the launcher gives"),
    (["train"], ["--on=local", "--zone=z"], "--zone: --on=local has no use for it"),
    (["train"], ["--on=tpu", "--topology=v5e:4x4"], "--zone: --on=tpu needs it"),
    (["train"], ["--on=slurm", "--time=12"], "--time: got '12'"),
    (["train"], ["--on=slurm", "--array=2"], "--array"),
    (["sweep", "--workdir=sweeps/a"], ["--on=slurm", "--nodes=2"], "only lmx train runs as several"),
    (["sweep"], ["--on=slurm", "--array=2"], "--workdir=sweeps/NAME"),
    (["train", "--workdir=runs/a"], ["--on=tpu", *FLAGS["tpu"]], "loses local folders"),
    (BUCKET, ["--on=tpu", *FLAGS["tpu"], "--topology=tpu7x:2x2x1"], "GKE only"),
    (BUCKET, ["--on=tpu", *FLAGS["tpu"], "--capacity=spott"], "Did you mean 'spot'"),
    (BUCKET, ["--on=gke", *FLAGS["gke"], "--secret=TOKEN"], "command line"),
    (["train"], ["--on=local", "--name=No_Name"], "--name: got 'No_Name'"),
    (["train"], ["--on=local", "--secret=ABSENT_TOKEN"], "not set here"),
    (["train", f"--config.name={SECRET}"], ["--on=local", "--secret=TOKEN"], "its value stands in the command"),
    (["train"], ["--on=local", f"--secret=TOKEN={SECRET}"], "never its value"),
  ],
)
def test_what_does_not_fit_is_refused_in_one_line_that_shows_no_secret(clone, monkeypatch, words, flags, text):
  monkeypatch.setenv("TOKEN", SECRET)
  with pytest.raises(LmxError) as error:
    run(["launch", "--dry-run", *flags, "--", *words])
  assert text in str(error.value)
  assert SECRET not in str(error.value)
  assert not (clone.parent / "jobs").exists()


def test_names_durations_and_costs():
  assert job_name(None, JobCommand(["train", "--workdir=gs://b/My_Run.v2"])) == "my-run-v2"
  assert job_name(None, JobCommand(["train", "--config=configs/cpu.py:small"])) == "cpu"
  assert job_name(None, JobCommand(["train", "--workdir=runs/3"])) == "job-3"
  assert parse_duration("--time", "1d12h") == 36 * 3600
  assert cost_before(1.2, 32, 6 * 3600).startswith("cost: at most 230.40: 38.40 per hour")
  assert "not known" in cost_before(None, 32, 60)
  read_secrets(["TOKEN"], ["train"], {"TOKEN": SECRET})


@pytest.mark.parametrize(
  ("text", "accelerator", "flags", "machines"),
  [
    ("v5e:4x4", "v5litepod-16", ["--accelerator-type=v5litepod-16"], 4),
    ("v5e:2x4", "v5litepod-8", ["--accelerator-type=v5litepod-8"], 1),
    ("v6e:4x4", "v6e-16", ["--accelerator-type=v6e-16"], 4),
    ("v5p:2x2x2", "v5p-16", ["--type=v5p", "--topology=2x2x2"], 2),
    ("v4:2x2x1", "v4-8", ["--type=v4", "--topology=2x2x1"], 1),
  ],
)
def test_slices_have_googles_names(text, accelerator, flags, machines):
  topology = read_topology(text, "tpu")
  assert (accelerator_type(topology), shape_flags(topology), workers(topology)) == (accelerator, flags, machines)


# ---------------------------------------------------------------- dry runs


@pytest.mark.parametrize("on", FLAGS)
def test_a_dry_run_prints_everything_and_does_nothing(clone, capsys, monkeypatch, on):
  monkeypatch.setenv("TOKEN", SECRET)
  secret = [] if on == "gke" else ["--secret=TOKEN"]
  assert run(["launch", f"--on={on}", "--price=2", "--dry-run", *FLAGS[on], *secret, "--", *BUCKET]) == 0
  printed = capsys.readouterr().out
  assert not (clone.parent / "jobs").exists()
  assert SECRET not in printed
  assert git(clone, "rev-parse", "HEAD")[:12] in printed
  assert "--workdir=gs://bucket/a" in printed
  words = {"local": ["run.sh"], "slurm": ["sbatch --parsable", "--signal=TERM@30", "--kill-on-bad-exit=1", "--requeue"],
           "tpu": ["queued-resources create", "--spot", "--node-count=2", "delete lmx-a", "startup-script="],
           "gke": ["xpk workload create", "--max-restarts=20", "--tpu-type=v6e-16"],
           "sky": ["sky jobs launch", "H100:8", "--secret TOKEN"]}  # fmt: skip
  for word in words[on]:
    assert word in printed


def test_scripts_are_valid_shell(clone, tmp_path):
  for on, settings in (("local", {}), ("slurm", {"nodes": 2}), ("slurm", {"array": 3}),
                       ("tpu", {"topology": "v5e:4x4", "zone": "z", "project": "p", "time": "1h"})):  # fmt: skip
    source = read_source(clone)
    words = ["sweep", "--workdir=sweeps/a"] if "array" in settings else BUCKET
    job = new_job(on, [*words, '--config.name=it\'s "quoted" $HOME'], given(**settings), source)
    for action in BACKENDS[on].actions(job, source):
      if hasattr(action, "path"):
        checked = subprocess.run(["bash", "-n"], input=action.text, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


# ---------------------------------------------------------------- this machine


def launch_here(*words: str, name: str = "here") -> None:
  assert run(["launch", "--on=local", f"--name={name}", "--price=36", "--", *words]) == 0


def test_a_job_on_this_machine_runs_the_shipped_code(clone, capsys, monkeypatch):
  monkeypatch.setenv("TOKEN", SECRET)
  launch_here("train", "--config=configs/cpu.py", "--config.name=it's")
  (clone / "configs" / "cpu.py").write_text("changed afterwards")
  job = read_job("here")
  until(lambda: BACKENDS["local"].state(job) == "finished")
  assert "it's" in job.log.read_text()
  assert "committed" in job.log.read_text()
  assert run(["jobs", "logs", "here"]) == 0
  capsys.readouterr()
  assert run(["jobs"]) == 0
  assert "finished" in capsys.readouterr().out
  assert run(["jobs", "status", "here"]) == 0
  assert job.commit[:12] in capsys.readouterr().out
  written = [file.read_text(errors="replace") for file in job.folder.rglob("*") if file.is_file()]
  assert not any(SECRET in text for text in written)


def test_a_job_on_this_machine_saves_when_it_is_stopped_and_its_name_is_free_again(clone, capsys):
  launch_here("train", "--long")
  job = read_job("here")
  until(lambda: job.log.exists() and "--long" in job.log.read_text())
  assert BACKENDS["local"].state(job) == "running"
  with pytest.raises(LmxError, match="this job is alive"):
    launch_here("train")
  assert run(["jobs", "stop", "here"]) == 0
  until(lambda: BACKENDS["local"].state(job) == "stopped")
  launch_here("train", "--mistake")
  until(lambda: BACKENDS["local"].state(read_job("here")) == "failed (exit code 2)")


def test_a_killed_job_on_this_machine_is_seen(clone):
  launch_here("train", "--long")
  job = read_job("here")
  until(lambda: job.log.exists() and "--long" in job.log.read_text())
  os.killpg(job.ids["process"], 9)
  until(lambda: BACKENDS["local"].state(job) == "unknown (killed)")


def test_cost_is_that_of_the_time_it_ran(clone):
  job = new_job("local", ["train"], given(), read_source(clone), price=36.0)
  job.folder.mkdir(parents=True)
  lines = [{"time": 100, "event": START, "key": "0"}, {"time": 150, "event": END, "key": "0", "code": 85},
           {"time": 300, "event": START, "key": "0"}, {"time": 310, "event": START, "key": "1"}]  # fmt: skip
  (job.folder / "events.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"cut')
  assert job.seconds(until=320) == 50 + 20 + 10
  assert job.cost(until=320) == pytest.approx(0.8)
  assert ended(job) == "unknown (killed)"


def test_what_does_not_exist_is_named(clone):
  with pytest.raises(LmxError, match="lmx jobs: name"):
    run(["jobs", "logs", "nothing"])
  with pytest.raises(LmxError, match="which job"):
    run(["jobs", "stop"])


@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="Slurm is installed here")
def test_a_missing_engine_is_named_with_how_to_get_it(clone):
  with pytest.raises(LmxError, match="sbatch is not installed here"):
    run(["launch", "--on=slurm", "--", "train"])


def test_help_needs_no_jax():
  text = "import sys; from lmx.cli.main import run; run(['jobs']); print('jax' in sys.modules)"
  done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
  assert done.stdout.splitlines()[-1] == "False"
