# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Whole runs in a bucket: they compute what local runs compute, also after kills and while the bucket fails."""

import itertools
import json
import os
import signal
import subprocess
import time

import pytest
from tiny_runs import assert_same_run, end, experiment, heldout_losses, start

import lmx
from lmx.cli.main import main
from lmx.data.sources.bucket_files import fetched
from lmx.exits import SAVED, STORAGE
from lmx.paths import any_path, in_bucket
from lmx.run import loop
from lmx.training.checkpoint_choice import committed_steps
from lmx.training.metrics import read_metrics
from lmx.training.status import FINISHED, STOPPED, read_status

RUN = {
  "train__duration": "12 steps",
  "checkpoint__every": "4 steps",
  "evaluation__prompts": "()",
  "optimizer__ema": 0.9,
}


@pytest.fixture(scope="module")
def whole(tiny_text, tmp_path_factory):
  """The undisturbed local run."""
  run = tmp_path_factory.mktemp("bucket") / "whole"
  end(start(tiny_text, run, **RUN))
  return run


def reference(tiny_text, tmp_path):
  return experiment(tiny_text, tmp_path / "unused", **RUN)


@pytest.mark.slow
def test_a_run_in_a_bucket_is_trained_resumed_used_and_exported(tiny_text, bucket_server, bucket, tmp_path, capsys):
  run = any_path(bucket) / "run"
  x = experiment(tiny_text, run)
  assert loop.train(x).finished
  local = experiment(tiny_text, tmp_path / "local")
  assert loop.train(local).finished
  assert_same_run(x, run, tmp_path / "local")
  assert loop.train(x).finished  # There is nothing left to do.
  assert not (run / ".lock").exists()
  status = read_status(str(run))
  assert status is not None
  assert status.state == FINISHED
  loaded, other = lmx.load(str(run)), lmx.load(tmp_path / "local")
  assert loaded.generate("a batch", max_new_tokens=4, seed=1) == other.generate("a batch", max_new_tokens=4, seed=1)
  assert loaded.folder is not None
  assert in_bucket(loaded.folder)
  assert main(["evaluate", str(run), "--json"]) == 0
  assert json.loads(capsys.readouterr().out.splitlines()[-1])["loss"] == pytest.approx(
    heldout_losses(run)[10], rel=1e-5
  )
  assert main(["plot", str(run), "--out", f"{bucket}/curve.png"]) == 0
  assert (any_path(bucket) / "curve.png").read_bytes().startswith(b"\x89PNG")
  assert main(["export", str(run), "--output", f"{bucket}/exported"]) == 0
  assert main(["import", f"{bucket}/exported", "--workdir", f"{bucket}/imported"]) == 0
  again = lmx.load(f"{bucket}/imported")
  ours, theirs = (one.loss("a batch of text", framing="document").nats for one in (again, loaded))
  assert ours == pytest.approx(theirs, rel=1e-5)
  assert again.carried is not None
  assert (again.carried / "config.json").exists()
  start_of_another = experiment(tiny_text, any_path(bucket) / "tuned", checkpoint__start_from=f"{bucket}/imported")
  assert loop.train(start_of_another).finished


@pytest.mark.slow
@pytest.mark.parametrize("uploads", [30])
def test_a_run_killed_in_the_middle_of_an_upload_equals_an_undisturbed_local_one(
  tiny_text, whole, bucket_server, bucket, tmp_path, monkeypatch, uploads
):
  run = any_path(bucket)
  process: subprocess.Popen | None = None
  counter = itertools.count(1)

  def kill(method: str, path: str) -> int | None:
    if process is not None and "/upload/" in path and method in ("POST", "PUT") and next(counter) >= uploads:
      process.kill()
      return 503
    return None

  with monkeypatch.context() as patch:
    patch.setattr(bucket_server.proxy, "answer", kill)
    process = start(tiny_text, bucket, **RUN)
    process.communicate(timeout=300)
  assert process.returncode == -signal.SIGKILL
  print(f"killed at upload {uploads}: checkpoints {committed_steps(run / 'checkpoints')}")
  end(start(tiny_text, bucket, **RUN))
  assert_same_run(reference(tiny_text, tmp_path), run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [10])
def test_a_run_survives_a_bucket_that_fails_for_a_while(
  tiny_text, whole, bucket_server, bucket, tmp_path, monkeypatch, seconds
):
  first: list[float] = []

  def fail(method: str, path: str) -> int | None:
    if "checkpoints" in path and "upload" in path and not first:
      first.append(time.monotonic())
    return 503 if first and time.monotonic() - first[0] < seconds else None

  monkeypatch.setattr(bucket_server.proxy, "answer", fail)
  output = end(start(tiny_text, bucket, **RUN))
  assert first
  assert "Traceback" not in output
  assert_same_run(reference(tiny_text, tmp_path), any_path(bucket), whole)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("LMX_BUCKETS"), reason="minutes long; set LMX_BUCKETS=1")
def test_a_slow_bucket_changes_no_number(tiny_text, whole, bucket_server, bucket, tmp_path, monkeypatch):
  monkeypatch.setattr(bucket_server.proxy, "latency", 0.05)
  end(start(tiny_text, bucket, **RUN))
  assert_same_run(reference(tiny_text, tmp_path), any_path(bucket), whole)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("LMX_BUCKETS"), reason="minutes long; set LMX_BUCKETS=1")
def test_a_run_in_a_bucket_is_saved_on_a_signal_and_resumes(tiny_text, whole, bucket_server, bucket, tmp_path):
  run, long = any_path(bucket), {**RUN, "log__every": "1 steps"}
  process = start(tiny_text, bucket, **{**long, "train__duration": "100000 steps"})
  deadline = time.monotonic() + 120
  while not read_metrics(run) and time.monotonic() < deadline:
    time.sleep(0.2)
  process.send_signal(signal.SIGTERM)
  end(process, SAVED)
  status = read_status(run)
  assert status is not None
  assert (status.state, status.exit_code) == (STOPPED, SAVED)
  assert committed_steps(run / "checkpoints")[-1] == status.step


@pytest.mark.slow
def test_a_bucket_that_takes_no_more_writes_ends_the_run_with_one_message(
  tiny_text, bucket_server, bucket, monkeypatch
):
  run = any_path(bucket)
  saved: list[str] = []

  def refuse(method: str, path: str) -> int | None:
    if method == "DELETE" or "upload" not in path:
      return None
    saved.extend(str(step) for step in committed_steps(run / "checkpoints")[:1] if not saved)
    return 403 if saved else None

  monkeypatch.setattr(bucket_server.proxy, "answer", refuse)
  output = end(start(tiny_text, bucket, **RUN), STORAGE)
  assert "Traceback" not in output
  assert "safe up to step 4" in output
  monkeypatch.undo()
  assert committed_steps(run / "checkpoints")[:1] == [4]
  status = read_status(run)
  assert status is None or status.state != FINISHED


def test_sources_in_a_bucket_are_read_from_local_copies(tiny_text, bucket_server, bucket, tmp_path):
  for file in sorted(tiny_text.glob("*.txt")):
    (any_path(bucket) / "text" / file.name).write_bytes(file.read_bytes())
  folder, files = fetched(f"{bucket}/text", tmp_path)
  assert [file.read_bytes() for file in files] == [file.read_bytes() for file in sorted(tiny_text.glob("*.txt"))]
  before = [file.stat().st_mtime_ns for file in files]
  requests = bucket_server.proxy.requests
  assert [file.stat().st_mtime_ns for file in fetched(f"{bucket}/text/*.txt", tmp_path)[1]] == before
  assert bucket_server.proxy.requests - requests < 5  # Nothing is copied again.
  (any_path(bucket) / "text" / files[0].name).write_text("other")
  (any_path(bucket) / "text" / files[1].name).unlink()
  folder, files = fetched(f"{bucket}/text", tmp_path)
  assert files[0].read_text() == "other"
  assert sorted(folder.rglob("*.txt")) == files
