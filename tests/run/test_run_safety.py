# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A run whose folder is damaged, deleted, full or taken: reported in one message, and nothing is lost."""

import dataclasses
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_runs import assert_same_run, experiment, lines, once

from lmx.api.loading import load
from lmx.errors import LmxWarning
from lmx.experiment.build import Experiment
from lmx.models.spec import TransformerSpec
from lmx.parallel.compilation_cache import use_compilation_cache
from lmx.run import loop
from lmx.run.saving import RunSaver
from lmx.storage import WriteError
from lmx.training import checkpoint, run_lock
from lmx.training.checkpoint_choice import committed_steps
from lmx.training.checkpoint_digests import CheckpointDamageError, check_checkpoint
from lmx.training.checkpoint_reading import read_extra
from lmx.training.metrics import MetricsWriter
from lmx.training.run_directory import finished_step
from lmx.training.run_lock import LOCK_FILE, RunLock, RunLockedError


@pytest.fixture(autouse=True, scope="module")
def one_compilation():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, "make_train_step", once(loop.make_train_step))
    patch.setattr(loop, "make_eval_step", once(loop.make_eval_step))
    patch.setattr(loop, "write_plot", lambda x, baseline: None)
    patch.setattr(TransformerSpec, "check_attention", lambda spec, backend: "not checked in this test")
    yield


@pytest.fixture(scope="module")
def whole(tiny_text, tmp_path_factory) -> Experiment:
  """A run of ten steps with checkpoints at 5 and 10, in its folder."""
  x = experiment(tiny_text, tmp_path_factory.mktemp("safety") / "whole", evaluation__prompts="()")
  assert loop.train(x).finished
  return x


@pytest.fixture
def copy(whole, tmp_path) -> Experiment:
  """Its copy, to be spoilt."""
  return dataclasses.replace(whole, run_dir=Path(shutil.copytree(whole.run_dir, tmp_path / "run")))


def fresh(whole: Experiment, tmp_path: Path) -> Experiment:
  return dataclasses.replace(whole, run_dir=tmp_path / "run")


def flip(run: Path, step: int, part: str = "parameters") -> Path:
  """Flips one bit in the middle of the largest file of a checkpoint's part."""
  files = [path for path in (run / "checkpoints" / str(step) / part).rglob("*") if path.is_file()]
  file = max(files, key=lambda path: path.stat().st_size)
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 4
  file.write_bytes(data)
  return file


def before_step(patch: pytest.MonkeyPatch, step: int, work) -> None:
  """Calls `work` when the loop has done the step before `step`."""
  save = loop.Run.save

  def saved(run: loop.Run) -> None:
    save(run)
    if run.step == step - 1:
      run._checkpointer.wait()
      work()

  patch.setattr(loop.Run, "save", saved)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("part", ["parameters", "training", "extra"])
def test_one_flipped_bit_is_found_at_reading_and_its_file_and_the_newest_good_checkpoint_named(copy, part):
  file = flip(copy.run_dir, 10, part)
  read = {
    "parameters": lambda: load(copy.run_dir),
    "training": lambda: check_checkpoint(copy.run_dir / "checkpoints" / "10"),
    "extra": lambda: read_extra(copy.run_dir / "checkpoints", 10),
  }[part]
  with pytest.raises(CheckpointDamageError) as caught:
    read()
  assert file.name in str(caught.value)
  assert ("Fix: --step=5" in str(caught.value)) == (part != "training")
  assert (" in " in str(caught.value)) == (part != "extra")  # The array.
  assert load(copy.run_dir, step=5).step == 5


def test_a_resume_passes_over_a_damaged_checkpoint_by_name_and_ends_in_the_same_run(whole, copy, capsys):
  flip(copy.run_dir, 10, "training")
  assert finished_step(copy.run_dir, 10, sampled=False) is None
  with pytest.raises(CheckpointDamageError, match=r"remove it to resume from step 5, or leave out --strict"):
    loop.train(copy, strict=True)
  assert loop.train(copy).finished
  output = "".join(capsys.readouterr().out.split())
  assert "passedovercheckpoint" in output
  assert "resumedatstep5" in output
  assert (copy.run_dir / "damaged_checkpoints" / "10").is_dir()
  assert_same_run(whole, copy.run_dir, whole.run_dir)
  assert finished_step(copy.run_dir, 10, sampled=False) == 10


def test_a_half_copied_checkpoint_is_reported_as_one(copy, capsys):
  shutil.rmtree(copy.run_dir / "checkpoints" / "10" / "training" / "ocdbt.process_0")
  with pytest.raises(CheckpointDamageError, match=r"files are missing .* it was copied in part"):
    loop.train(copy, strict=True)


def test_a_folder_named_like_a_step_counts_only_if_it_was_committed(copy):
  (copy.run_dir / "checkpoints" / "99").mkdir()
  assert committed_steps(copy.run_dir / "checkpoints")[-1] == 10
  assert load(copy.run_dir).step == 10
  assert finished_step(copy.run_dir, 10, sampled=False) == 10


def test_a_run_without_an_intact_checkpoint_does_not_start_from_scratch(copy):
  for step in committed_steps(copy.run_dir / "checkpoints"):
    flip(copy.run_dir, step)
  with pytest.raises(CheckpointDamageError, match=r"no checkpoint in .* is intact"):
    loop.train(copy)


def test_a_checkpoint_without_digests_loads_and_resumes_and_is_reported_as_one(copy, capsys):
  for file in (copy.run_dir / "checkpoints").glob("*/digests.json"):
    file.unlink()
  shutil.rmtree(copy.run_dir / "checkpoints" / "10")
  note = r"checkpoints/5 has no digests\.json \(an older lmx wrote it\): damage to its files can't be found"
  with pytest.warns(LmxWarning, match=note) as warned:
    assert load(copy.run_dir).step == 5
  assert len(warned) == 1
  assert loop.train(copy).finished
  assert len(re.findall(note, capsys.readouterr().out.replace("\n", ""))) == 1


# ---------------------------------------------------------------- a folder that goes away


@pytest.mark.parametrize("gone", ["run", "metrics.jsonl", "config.json", "tokenizer", "checkpoints"])
def test_what_is_deleted_while_a_run_trains_is_written_again(whole, tmp_path, monkeypatch, gone, capsys):
  x = fresh(whole, tmp_path)
  target = x.run_dir if gone == "run" else x.run_dir / gone

  def delete() -> None:
    shutil.rmtree(target) if target.is_dir() else target.unlink()

  before_step(monkeypatch, 8, delete)
  assert loop.train(x).finished
  assert load(x.run_dir).step == 10
  assert lines(x.run_dir) == lines(whole.run_dir)
  if gone != "checkpoints":
    assert "disappearedfrom" in "".join(capsys.readouterr().out.split())


# ---------------------------------------------------------------- full disks


class Disk:
  """Stands for a disk that is full while `full`: nothing is written before a checkpoint is committed."""

  def __init__(self, patch: pytest.MonkeyPatch):
    self.full, self._write = False, checkpoint.write_digests
    patch.setattr(checkpoint, "write_digests", self.write_digests)

  def write_digests(self, folder: Path) -> None:
    if self.full:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    self._write(folder)


def test_a_failed_save_is_tried_again_at_the_next_step(whole, tmp_path, monkeypatch, capsys):
  x, disk, saves = fresh(whole, tmp_path), Disk(monkeypatch), []
  start = RunSaver.save

  def save(saving: RunSaver, step: int, *args) -> None:
    disk.full = step < 7
    start(saving, step, *args)
    saves.append(step)
    if step == 5:
      time.sleep(1.0)  # It fails in the background.

  monkeypatch.setattr(RunSaver, "save", save)
  assert loop.train(x).finished
  assert saves == [5, 6, 7, 10]
  output = " ".join(capsys.readouterr().out.split())
  for part in ("No space left on device", "retried at every step", "step 7 is saved"):
    assert part in output
  assert output.count("warning") == 1
  assert_same_run(whole, x.run_dir, whole.run_dir)


def test_a_run_that_can_not_be_saved_at_its_end_fails_with_one_message(whole, tmp_path, monkeypatch):
  x, disk = fresh(whole, tmp_path), Disk(monkeypatch)

  def fill() -> None:
    disk.full = True

  with monkeypatch.context() as patch:
    before_step(patch, 8, fill)
    with pytest.raises(WriteError, match=r"can't be written: No space left.* free in .*safe up to step 5"):
      loop.train(x)
  disk.full = False
  assert loop.train(x).finished  # With space again, the same command resumes.
  assert_same_run(whole, x.run_dir, whole.run_dir)


def test_a_full_disk_under_the_metrics_ends_in_one_message(tmp_path, monkeypatch):
  def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with MetricsWriter(tmp_path) as writer:
    monkeypatch.setattr("lmx.training.metrics.json.dumps", full)
    with pytest.raises(WriteError, match=r"metrics.jsonl can't be written: No space left on device \(.* free in "):
      writer.write(1, {"loss": 1.0})


@pytest.mark.parametrize("what", ["compilation_cache", "run_dir"])
def test_a_folder_that_can_not_be_made_ends_in_one_message(whole, tmp_path, what):
  (tmp_path / "file").write_text("")
  if what == "compilation_cache":
    with pytest.raises(WriteError, match=r"config.compute.compilation_cache: .*Not a directory"):
      use_compilation_cache(str(tmp_path / "file" / "cache"))
  else:
    with pytest.raises(WriteError, match="Not a directory"):
      loop.train(dataclasses.replace(whole, run_dir=tmp_path / "file" / "run"))


# ---------------------------------------------------------------- the lock


def test_a_second_command_in_a_run_folder_is_refused_by_host_process_and_time(whole, tmp_path):
  x = fresh(whole, tmp_path)
  with RunLock(x.run_dir), pytest.raises(RunLockedError, match=rf"process {os.getpid()} on .* since 20"):
    loop.train(x)
  assert loop.train(x).finished


def test_a_lock_is_not_kept_by_a_dead_process(tmp_path):
  hold = "import sys, time, pathlib, lmx.training.run_lock as lock\nwith lock.RunLock(pathlib.Path(sys.argv[1])): "
  hold += "print(1, flush=True), time.sleep(60)"
  with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE) as process:
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(RunLockedError, match=f"process {process.pid}"), RunLock(tmp_path):
      pass
    process.kill()
    process.wait()
  with RunLock(tmp_path):
    pass


@pytest.mark.parametrize("system", [True, False])
def test_a_lock_of_another_machine_lapses_with_its_heartbeat(tmp_path, monkeypatch, system):
  if not system:
    monkeypatch.setattr(run_lock, "fcntl", None)
  (tmp_path / LOCK_FILE).write_text(json.dumps({"host": "elsewhere", "process": 1, "since": time.time()}))
  with pytest.raises(RunLockedError, match=r"process 1 on elsewhere .* the lock lapses 30 s after"), RunLock(tmp_path):
    pass
  long_ago = time.time() - 31
  os.utime(tmp_path / LOCK_FILE, (long_ago, long_ago))
  with RunLock(tmp_path):
    pass


def test_a_resume_reports_that_metrics_are_missing(whole, copy, capsys):
  shutil.rmtree(copy.run_dir / "checkpoints" / "10")
  file = copy.run_dir / "metrics.jsonl"
  lines = file.read_text().splitlines(keepends=True)
  before = sum(json.loads(line)["step"] <= 5 for line in lines)
  file.write_text("".join(lines[2:]))
  assert loop.train(copy).finished
  output = " ".join(capsys.readouterr().out.split())
  assert f"metrics.jsonl has {before - 2} of the {before} records up to step 5" in output
  shutil.copytree(whole.run_dir, copy.run_dir, dirs_exist_ok=True)
  shutil.rmtree(copy.run_dir / "checkpoints" / "10")
  assert loop.train(copy).finished
  assert "records up to step" not in capsys.readouterr().out


def test_a_resume_reports_that_metrics_were_altered(copy, capsys):
  shutil.rmtree(copy.run_dir / "checkpoints" / "10")
  file = copy.run_dir / "metrics.jsonl"
  original = file.read_text()
  file.write_text(original.replace('"time"', '"tame"', 1))
  assert loop.train(copy).finished
  output = " ".join(capsys.readouterr().out.split())
  assert "warning: metrics.jsonl was edited or damaged" in output
  assert "records up to step 5 are not what was" in output


def test_the_digest_of_metrics_is_that_of_the_file_however_it_came_about(tmp_path):
  with MetricsWriter(tmp_path) as writer:
    digests = [writer.digest]
    for step in range(1, 5):
      writer.write(step, {"loss": 1 / step})
      digests.append(writer.digest)
    assert [writer.digest_of(count) for count in range(5)] == digests
    assert len(set(digests)) == 5
    writer.truncate_after(2)
    assert writer.digest == digests[2] == writer.digest_of(2)
  with MetricsWriter(tmp_path) as writer:
    assert (writer.records, writer.digest) == (2, digests[2])
