# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Files of a run in a bucket: metrics lose no line, one command holds the lock, damage is found."""

import json
import os
import subprocess
import sys
import time

import pytest
from buckets import environment_of

from lmx.paths import any_path, generation_of
from lmx.training import bucket_lock
from lmx.training.bucket_lock import BucketLock, lock_run
from lmx.training.metrics import MetricsWriter, read_metrics
from lmx.training.run_lock import RunLock, RunLockedError
from lmx.training.status import FINISHED, StatusFile, read_status


def steps(folder) -> list[int]:
  return [record["step"] for record in read_metrics(folder)]


def test_metrics_reopened_in_a_bucket_keep_every_line(bucket):
  for start in (0, 3, 6):
    with MetricsWriter(bucket) as writer:
      for step in range(start, start + 3):
        writer.write(step, {"loss": 1.0})
    assert steps(bucket) == list(range(start + 3))


def test_a_flush_makes_lines_safe_and_they_come_up_by_themselves_too(bucket, monkeypatch):
  with MetricsWriter(bucket) as writer:
    writer.write(1, {"loss": 1.0})
    writer.flush()
    assert steps(bucket) == [1]
    digest = writer.digest
    assert writer.digest_of(1) == digest
    writer._file._upload._every = 0.01
    writer.write(2, {"loss": 1.0})
    end = time.monotonic() + 20
    while steps(bucket) != [1, 2] and time.monotonic() < end:
      time.sleep(0.05)
    assert steps(bucket) == [1, 2]
    assert writer.truncate_after(1) == 1
    assert steps(bucket) == [1]


def test_many_lines_take_few_uploads(bucket_server, bucket):
  with MetricsWriter(bucket) as writer:
    before = bucket_server.proxy.requests
    for step in range(500):
      writer.write(step, {"loss": 1.0})
    writer.flush()
    assert bucket_server.proxy.requests - before < 10
  assert steps(bucket) == list(range(500))


def test_metrics_deleted_during_a_run_are_written_again(bucket):
  with MetricsWriter(bucket) as writer:
    writer.write(1, {"loss": 1.0})
    assert writer.keep() is False
    (any_path(bucket) / "metrics.jsonl").unlink()
    assert writer.keep() is True
    assert steps(bucket) == [1]


def test_a_line_cut_off_in_the_object_is_dropped(bucket):
  (any_path(bucket) / "metrics.jsonl").write_text('{"step": 1}\n{"st')
  with MetricsWriter(bucket) as writer:
    writer.write(2, {"loss": 1.0})
  assert steps(bucket) == [1, 2]


def test_the_status_of_a_run_in_a_bucket_is_that_of_its_end(bucket):
  file = StatusFile(any_path(bucket))
  file.running(3, 10, 1.0)
  file.end(FINISHED)
  status = read_status(bucket)
  assert status is not None
  assert (status.state, status.step, status.starts) == (FINISHED, 3, 1)
  assert StatusFile(any_path(bucket)).status.starts == 2


# ---------------------------------------------------------------- the lock


def test_the_lock_follows_the_path(bucket, tmp_path):
  assert type(lock_run(tmp_path)) is RunLock
  assert type(lock_run(any_path(bucket))) is BucketLock


def test_a_second_command_in_a_bucket_is_refused_and_the_lock_is_given_back(bucket):
  folder = any_path(bucket)
  with lock_run(folder) as lock, pytest.raises(RunLockedError, match=f"process {os.getpid()} on"), lock_run(folder):
    lock.take_again()
  assert not (folder / ".lock").exists()
  with lock_run(folder):
    pass


def test_a_lock_in_a_bucket_is_not_kept_by_a_dead_process(bucket_server, bucket):
  hold = "import sys, time\nfrom lmx.paths import any_path\nfrom lmx.training.bucket_lock import lock_run\n"
  hold += "with lock_run(any_path(sys.argv[1])): print(1, flush=True), time.sleep(60)"
  environment = environment_of(bucket_server)
  command = [sys.executable, "-c", hold, bucket]
  with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(RunLockedError, match=f"process {process.pid}"), lock_run(any_path(bucket)):
      pass
    process.kill()
    process.wait()
  with lock_run(any_path(bucket)):
    pass


def of_another_machine(bucket: str) -> None:
  record = {"host": "elsewhere", "process": 1, "since": time.time(), "token": "x"}
  (any_path(bucket) / ".lock").write_text(json.dumps(record))


def test_a_lock_of_another_machine_in_a_bucket_lapses_with_its_heartbeat(bucket, monkeypatch):
  of_another_machine(bucket)
  with pytest.raises(RunLockedError, match=r"process 1 on elsewhere .* lapses 30 s after"), lock_run(any_path(bucket)):
    pass
  monkeypatch.setattr(bucket_lock, "DEAD_AFTER_SECONDS", 0.0)
  with lock_run(any_path(bucket)):
    pass


def test_the_holder_in_a_bucket_shows_that_it_is_alive(bucket, monkeypatch):
  monkeypatch.setattr(bucket_lock, "HEARTBEAT_SECONDS", 0.05)
  with lock_run(any_path(bucket)) as lock:
    first, end = generation_of(any_path(bucket) / ".lock"), time.monotonic() + 20
    while generation_of(any_path(bucket) / ".lock") == first and time.monotonic() < end:
      time.sleep(0.05)
    assert generation_of(any_path(bucket) / ".lock") != first
    lock.take_again()


def test_a_lock_that_another_machine_took_meanwhile_is_noticed(bucket):
  with lock_run(any_path(bucket)) as lock:
    of_another_machine(bucket)
    with pytest.raises(RunLockedError, match="process 1 on elsewhere"):
      lock.take_again()
  assert (any_path(bucket) / ".lock").exists()  # It is not ours to delete.
