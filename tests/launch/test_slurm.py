# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Jobs on a real Slurm of two nodes on this machine: losses after kills, time limits, arrays, mistakes.

They run where Slurm and munge are installed (Debian: slurmd slurmctld munge slurm-client) and the tests run as root.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import tiny_runs

from lmx.cli.main import run
from lmx.launch.job import Job, read_job
from lmx.launch.launching import BACKENDS
from lmx.training.metrics import read_metrics
from lmx.training.status import read_status

SCRIPT = Path(__file__).with_name("slurm_on_loopback.sh")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
HERE = bool(os.environ.get("LMX_SLURM")) and all(map(shutil.which, PROGRAMS)) and os.geteuid() == 0
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not HERE, reason="needs LMX_SLURM=1, Slurm and root"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
  """A Slurm with the nodes n1 and n2."""
  folder = tmp_path_factory.mktemp("slurm")
  before = dict(os.environ)
  subprocess.run([str(SCRIPT), "start", str(folder)], check=True, timeout=60)
  os.environ |= {"SLURM_CONF": str(folder / "slurm.conf"), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
  yield folder
  subprocess.run(["scancel", "--user=root"], check=False, timeout=30)
  time.sleep(2)
  subprocess.run([str(SCRIPT), "stop", str(folder)], check=True, timeout=60)
  os.environ.clear()
  os.environ.update(before)


@pytest.fixture
def jobs(tmp_path, monkeypatch):
  monkeypatch.setenv("LMX_JOBS", str(tmp_path / "jobs"))
  monkeypatch.chdir(tiny_runs.ROOT)
  return tmp_path


def words(text: Path, workdir: Path, **changes: object) -> list[str]:
  cache = {"compute__compilation_cache": str(tiny_runs.COMPILED / "slurm")}
  flags = [f"--config.{line}" for line in tiny_runs.overrides(text, **(cache | changes))]
  return ["train", "--config=configs/base.py", f"--workdir={workdir}", *flags]


def launch(name: str, flags: list[str], command: list[str]) -> Job:
  assert run(["launch", "--on=slurm", f"--name={name}", *flags, "--", *command]) == 0
  return read_job(name)


def wait(job: Job, *states: str, seconds: float = 900.0) -> str:
  """The state of a job, once it is one of some."""
  end = time.monotonic() + seconds
  while True:
    state = BACKENDS["slurm"].state(job)
    if state.startswith(states):
      return state
    log = job.log.read_text() if job.log.exists() else ""
    assert time.monotonic() < end, f"{state}\n{log[-3000:]}"
    time.sleep(0.5)


def kill_at(run_dir: Path, step: int) -> None:
  """Kills the command that trains in a folder with SIGKILL, once it has done some steps."""
  end = time.monotonic() + 900
  while True:
    status = read_status(run_dir)
    if status is not None and status.state == "running" and status.step >= step:
      with contextlib.suppress(ProcessLookupError):
        os.kill(status.process, signal.SIGKILL)
      return
    assert time.monotonic() < end, status
    time.sleep(0.05)


LONG = {"train__duration": "40 steps", "checkpoint__every": "10 steps", "evaluation__every": "40 steps"}


def test_two_nodes_train_one_run_and_a_killed_one_is_requeued_with_the_same_losses(cluster, jobs, tiny_text):
  flags = ["--nodes=2", "--engine=--exclusive"]
  plain = launch("plain", flags, words(tiny_text, jobs / "plain", **LONG))
  assert wait(plain, "finished", "failed") == "finished"
  killed = launch("killed", flags, words(tiny_text, jobs / "killed", **LONG))
  kill_at(jobs / "killed", 12)
  assert wait(killed, "finished", "failed") == "finished"
  status = read_status(jobs / "killed")
  assert status is not None
  assert status.starts > 1
  assert "restart 1 of at most 20" in killed.log.read_text()
  losses = [{line["step"]: line["loss"] for line in read_metrics(jobs / name) if "loss" in line}
            for name in ("plain", "killed")]  # fmt: skip
  assert losses[0] == losses[1]
  assert max(losses[0]) == 40


def test_a_run_is_saved_before_the_time_limit_and_resumed_by_slurm(cluster, jobs, tiny_text):
  # Slurm's limits are whole minutes, and the signal comes 30 s before: the run must last longer than that.
  changes = LONG | {"train__duration": "200000 steps", "checkpoint__every": "100000 steps", "log__every": "500 steps",
                    "evaluation__every": "100000 steps"}  # fmt: skip
  job = launch("limited", ["--time=3m", "--restarts=1"], words(tiny_text, jobs / "limited", **changes))
  end = time.monotonic() + 400
  while "restart 1 of at most 1" not in (job.log.read_text() if job.log.exists() else ""):
    assert time.monotonic() < end, job.log.read_text()
    time.sleep(0.5)
  status = read_status(jobs / "limited")
  assert status is not None
  assert (status.state, status.exit_code) == ("stopped", 85)
  saved = status.step
  end = time.monotonic() + 60
  while (status := read_status(jobs / "limited")) is None or status.step <= saved:
    assert time.monotonic() < end, status
    time.sleep(0.5)
  assert status.starts == 2
  assert run(["jobs", "stop", "limited"]) == 0
  wait(job, "stopped", "unknown", "failed")


def test_a_mistake_is_not_requeued(cluster, jobs, tiny_text):
  job = launch("wrong", ["--nodes=2"], words(tiny_text, jobs / "wrong", model__heads=3))
  assert wait(job, "finished", "failed") == "failed (exit code 2)"
  assert "restart" not in job.log.read_text()


def test_an_array_divides_the_trials_of_a_sweep(cluster, jobs, tiny_text):
  train = words(tiny_text, jobs / "sweep")
  command = ["sweep", *train[1:], "--sweep.optimizer.peak_lr=1e-3,2e-3,4e-3,8e-3"]
  job = launch("array", ["--array=2", "--restarts=5"], command)
  assert wait(job, "finished", "failed") == "finished"
  trials = list((jobs / "sweep" / "trials").iterdir())
  assert len(trials) == 4
  for trial in trials:
    status = read_status(trial)
    assert status is not None
    assert (status.state, status.starts) == ("finished", 1)
