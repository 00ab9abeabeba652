# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Two commands in one run's folder: the second is refused, and a dead holder holds nothing."""

import os
import re
import subprocess
import sys

import pytest

from lmx.cli.given_config import working_directory
from lmx.config.loading import base_config
from lmx.errors import LmxError
from lmx.training.run_lock import alone_in

HOLD = """
import sys, time
from pathlib import Path
from lmx.training.run_lock import alone_in
with alone_in(Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
  """Another process that holds tmp_path/run."""
  process = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(tmp_path / "run")],
    stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
  )  # fmt: skip
  assert process.stdout is not None
  assert process.stdout.readline() == "held\n"
  yield process
  process.kill()
  process.wait()
  process.stdout.close()


def test_a_second_process_is_refused_and_told_who_holds_the_folder(holder, tmp_path):
  said = f"is in use: process {holder.pid} on {os.uname().nodename} has trained there since 20"
  with pytest.raises(LmxError, match=re.escape(said)), alone_in(tmp_path / "run"):
    pass


def test_a_killed_holder_holds_nothing_and_its_folder_is_a_new_run(holder, tmp_path):
  holder.kill()
  holder.wait()
  assert [file.name for file in (tmp_path / "run").iterdir()] == ["lock.json"]
  assert working_directory(base_config(), str(tmp_path / "run"), accept_changes=False)[1].startswith("new run")
  with alone_in(tmp_path / "run"):
    pass


def test_the_folder_is_held_once_and_given_back_and_an_empty_new_one_is_removed(tmp_path):
  with alone_in(tmp_path / "run"), alone_in(tmp_path / "run"):
    assert (tmp_path / "run" / "lock.json").exists()
  assert not (tmp_path / "run").exists()
  with alone_in(tmp_path / "run"):
    (tmp_path / "run" / "config.json").write_text("{}")
  assert [file.name for file in (tmp_path / "run").iterdir()] == ["config.json"]
