# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Jobs on queued resources of a stand-in cloud: whatever ends them, nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stand_in_cloud import GRANTED, Cloud

from lmx.errors import LmxError
from lmx.launch.job import Job, read_job
from lmx.launch.launching import BACKENDS, DEFAULTS, launch, new_job
from lmx.launch.source import read_source
from lmx.launch.tpu import Tpu
from lmx.launch.tpu_queue import HopelessError, Patience
from lmx.launch.tpu_scripts import startup_script

FAST = Patience(poll=0.05, create=5.0, appears=1.0, ssh=20.0, gone=10.0, stop=10.0, errors=3)
SECRET = "s3cr3t-value-of-a-token"
DONE = "echo trained"
# Trains until it is asked to stop, and then needs a moment to save.
LONG = "trap 'sleep 0.2; echo saved; exit 85' TERM\necho training\nwhile true; do sleep 0.05; done"
# The first start is LONG, later ones finish.
LONG_AT_FIRST = f"[[ $(wc -l < $STARTS) -gt 1 ]] && {{ echo resumed; exit 0; }}\n{LONG}"


@pytest.fixture
def clone(tmp_path):
  clone = tmp_path / "clone"
  clone.mkdir()
  (clone / "constraints.txt").write_text("")
  words = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
  for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
    subprocess.run(["git", *words, *command], cwd=clone, check=True)
  return clone


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  """Makes a stand-in, which takes the place of gcloud."""
  made: list[Cloud] = []

  def make(train: str = DONE, patience: Patience = FAST, **settings: object) -> Cloud:
    made.append(Cloud(tmp_path / "cloud", train, **settings))
    monkeypatch.setenv("PATH", made[0].path)
    monkeypatch.setenv("LMX_JOBS", str(tmp_path / "jobs"))
    monkeypatch.setitem(BACKENDS, "tpu", Tpu(patience))
    return made[0]

  yield make
  for one in made:
    one.end()


def job_of(clone: Path, *secrets: str, **flags: object) -> Job:
  given = {**dict.fromkeys(DEFAULTS), "time": "1h", "restarts": 2, "engine": [], "topology": "v5e:2x4", "zone": "z",
           "project": "p", **flags}  # fmt: skip
  return new_job("tpu", ["train", "--workdir=gs://b/a"], given, read_source(clone), hidden=secrets, price=1.0)


def start(clone: Path, *secrets: str, **flags: object) -> int:
  return launch(job_of(clone, *secrets, **flags), read_source(clone))


def test_a_run_is_waited_for_installed_started_shown_and_given_back(cloud, clone, capsys):
  there = cloud()
  assert start(clone) == 0
  assert there.resources == {}
  assert there.starts() == 1
  assert "trained" in capsys.readouterr().out
  verbs = there.verbs()
  assert verbs[0] == "create"
  assert verbs[-1] == "delete"
  assert verbs.count("create") == verbs.count("delete") == 1
  create = there.calls("create")[0]
  for word in ("--spot", "--accelerator-type=v5litepod-8", "--runtime-version=v2-alpha-tpuv5-lite", "--node-id=lmx-a"):
    assert word in create
  job = read_job("a")
  assert BACKENDS["tpu"].state(job) == "finished"
  assert job.cost(time.time()) is not None


def test_slices_and_workers_all_run_the_command(cloud, clone):
  there = cloud(workers=4)
  assert start(clone, topology="2xv5e:4x4") == 0
  assert there.starts() == 8
  assert "--node-count=2" in there.calls("create")[0]
  assert there.resources == {}


def test_flex_start_is_gclouds_alpha(cloud, clone):
  there = cloud()
  assert start(clone, capacity="flex-start") == 0
  words = there.calls("create")[0]
  assert "--provisioning-model=flex-start" in words
  assert "--max-run-duration=3600s" in words


@pytest.mark.parametrize(
  "lost",
  [
    {"states": ["PROVISIONING", "FAILED"], "message": "the zone has no more resources"},
    {"states": ["WAITING_FOR_RESOURCES", "SUSPENDING", "SUSPENDED"]},
    {"states": ["ACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "SUSPENDED"]},
  ],
)
def test_lost_machines_are_deleted_waited_for_and_asked_for_again(cloud, clone, capsys, lost):
  there = cloud(LONG_AT_FIRST if lost["states"][0] == "ACTIVE" else DONE, creates=[lost, {"states": [*GRANTED]}])
  assert start(clone) == 0
  verbs = [verb for verb in there.verbs() if verb in ("create", "delete")]
  assert verbs == ["create", "delete", "create", "delete"]
  assert there.resources == {}
  assert lost.get("message", "") in capsys.readouterr().out


@pytest.mark.parametrize(
  "create",
  [
    {"refused": "RESOURCE_EXHAUSTED: Quota limit 'TPUV5sLitepodPerProjectPerZone' has been exceeded."},
    {"states": ["FAILED"], "message": "Quota limit has been exceeded"},
  ],
)
def test_a_quota_ends_the_launch_with_its_message(cloud, clone, create):
  there = cloud(creates=[create] * 5)
  with pytest.raises(HopelessError, match="Quota limit"):
    start(clone)
  assert there.verbs().count("create") == 1
  assert there.resources == {}


def test_failures_are_limited(cloud, clone):
  there = cloud(creates=[{"states": ["FAILED"], "message": "broken"}] * 9)
  with pytest.raises(LmxError, match="failed 3 times, the last time with: FAILED: broken"):
    start(clone)
  assert there.resources == {}


def test_a_resource_of_the_same_name_that_is_anothers_is_left_alone(cloud, clone):
  there = cloud()
  there.put("lmx-a", owner="somebody")
  with pytest.raises(LmxError, match="which this launch did not create"):
    start(clone)
  assert there.verbs() == []
  assert "lmx-a" in there.resources


def test_a_worker_that_fails_has_all_started_again_and_then_ends_the_launch(cloud, clone):
  all_started = "until (( $(wc -l < $STARTS) % 4 == 0 )); do sleep 0.05; done"
  there = cloud(f"{all_started}\n[[ $WORKER == 1 ]] && exit 1\nsleep 0.3\nexit 75", workers=4)
  with pytest.raises(LmxError, match="failed 3 times"):
    start(clone, topology="v5e:4x4")
  assert there.starts() == 4 * 3
  assert there.verbs().count("create") == 1
  assert there.resources == {}


def test_an_installation_that_fails_is_tried_again_and_then_ends_the_launch(cloud, clone):
  there = cloud()
  (there.root / "installs-fail").write_text("1\n")
  assert start(clone) == 0
  (there.root / "installs-fail").write_text("1\n" * 9)
  plan = there.root / "plan.json"
  plan.write_text(plan.read_text().replace('"creates": []', '"creates": [{"states": ["ACTIVE"]}]'))
  with pytest.raises(LmxError, match="installing failed 3 times: no network"):
    start(clone)
  assert there.resources == {}


def test_a_mistake_is_not_repeated(cloud, clone):
  there = cloud("exit 2")
  assert start(clone) == 2
  assert there.starts() == 1
  assert there.resources == {}


def test_a_create_that_does_not_answer_is_alive_and_not_repeated(cloud, clone):
  there = cloud(creates=[{"states": [*GRANTED], "hangs": 60}], patience=Patience(
    poll=0.05, create=1.0, appears=5.0, ssh=20.0, gone=10.0, stop=10.0, errors=3))  # fmt: skip
  assert start(clone) == 0
  assert there.verbs().count("create") == 1
  assert there.resources == {}


def test_a_delete_that_fails_is_repeated_until_it_works(cloud, clone):
  there = cloud(deletes_fail=3)
  assert start(clone) == 0
  assert there.resources == {}
  assert all("--force" in words for words in there.calls("delete"))


def test_a_delete_that_never_works_says_what_to_type(cloud, clone):
  patience = Patience(poll=0.05, create=5.0, appears=1.0, ssh=20.0, gone=1.0, stop=10.0, errors=3)
  there = cloud(deletes_fail=10**6, patience=patience)
  with pytest.raises(
    LmxError, match=r"still costs .* Fix: gcloud compute tpus queued-resources delete lmx-a .*--force"
  ):
    start(clone)
  assert "lmx-a" in there.resources


def test_secrets_reach_the_command_and_nothing_else(cloud, clone, monkeypatch, capsys):
  monkeypatch.setenv("TOKEN", SECRET)
  there = cloud('[[ "$TOKEN" == "s3cr3t-"* ]] || exit 2\nexit 0')
  assert start(clone, "TOKEN") == 0
  files = [*there.root.rglob("*"), *(clone.parent / "jobs").rglob("*")]
  texts = [file.read_text(errors="replace") for file in files if file.is_file()]
  assert not any(SECRET in text for text in texts)
  assert SECRET not in capsys.readouterr().out
  assert not Path("/dev/shm/lmx-a.env").exists()


# ---------------------------------------------------------------- Ctrl-C, a lost laptop


PROGRAM = """
import sys
from pathlib import Path
sys.path[:0] = {tests!r}
from test_tpu import FAST, start
from lmx.launch.launching import BACKENDS
from lmx.launch.tpu import Tpu
BACKENDS["tpu"] = Tpu(FAST)
sys.exit(start(Path({clone!r})))
"""


def begin(clone: Path, there: Cloud) -> subprocess.Popen:
  """A launch in a process of its own, once its command runs."""
  tests = [str(folder) for folder in Path(__file__).parents[:3]]
  process = subprocess.Popen([sys.executable, "-c", PROGRAM.format(tests=tests, clone=str(clone))],
                             stdout=subprocess.PIPE, text=True)  # fmt: skip
  end = time.monotonic() + 60
  while there.starts() == 0:
    assert process.poll() is None
    assert time.monotonic() < end
    time.sleep(0.05)
  time.sleep(0.3)
  return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_has_the_run_save_and_gives_the_machines_back(cloud, clone, number):
  there = cloud(LONG)
  process = begin(clone, there)
  process.send_signal(number)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 85
  assert "saved" in output
  assert there.resources == {}


def test_the_same_command_takes_up_what_a_killed_one_has_left(cloud, clone, capsys):
  there = cloud("trap 'exit 85' TERM\nfor i in {1..80}; do sleep 0.05; done\necho trained")
  process = begin(clone, there)
  process.kill()
  process.communicate()
  assert "lmx-a" in there.resources
  assert start(clone) == 0
  assert there.starts() == 1
  assert there.verbs().count("create") == 1
  assert there.resources == {}
  assert "trained" in capsys.readouterr().out


def test_jobs_stop_gives_back_what_a_killed_launch_has_left(cloud, clone):
  there = cloud(LONG)
  process = begin(clone, there)
  process.kill()
  process.communicate()
  job = read_job("a")
  assert BACKENDS["tpu"].state(job).startswith("running")
  assert "given back" in BACKENDS["tpu"].stop(job)
  assert there.resources == {}


@pytest.mark.parametrize(
  ("made", "limits", "first", "last"),
  [
    ([], {"seconds": 3, "idle": 100}, 2, 12),  # The longest time.
    (["started"], {"seconds": 100, "idle": 1, "end": 2}, None, 4),  # It trains.
    ([], {"seconds": 100, "idle": 2}, 1, 12),  # Nobody came.
    (["started", "ended"], {"seconds": 100, "idle": 1, "end": 2}, 1, 12),  # Nobody took it back.
  ],
)
def test_a_machine_gives_itself_back(cloud, tmp_path, made, limits, first, last):
  there = cloud()
  there.put("lmx-a")
  folder = tmp_path / "home" / "user" / "lmx-a"
  folder.mkdir(parents=True)
  for name in made:
    (folder / name).write_text("")
  (tmp_path / "state").mkdir()
  delete = ["gcloud", "compute", "tpus", "queued-resources", "delete", "lmx-a", "--force", "--quiet"]
  script = startup_script(delete, "lmx-a", poll=1, state=str(tmp_path / "state"), **limits)
  process = subprocess.Popen(["bash", "-c", f"{script}\nwait"], env=os.environ | {"LMX_HOMES": str(tmp_path)},
                             start_new_session=True)  # fmt: skip
  try:
    began = time.monotonic()
    while not there.calls("delete") and time.monotonic() < began + last:
      time.sleep(0.1)
    taken = time.monotonic() - began
    assert bool(there.calls("delete")) == (first is not None)
    assert first is None or taken >= first
  finally:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
