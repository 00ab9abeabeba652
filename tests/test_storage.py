# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Errors of disks are one message; errors of anything else stay what they are."""

import errno
import os
import sys
import threading

import pytest

from lmx.errors import LmxError, StorageError
from lmx.exits import STORAGE, code_of, say_what_is_saved_by
from lmx.storage import disk_problem, naming_disk_errors, quiet_background

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x/metrics.jsonl")
ARRAYS = ValueError(
  'RESOURCE_EXHAUSTED: Error writing local file "/r/3/_sharding": Failed to write 9 bytes to file 19: No space left on '
  "device [os_error_code='28'] [tensorstore_spec='{}']"
)


def after(first: Exception, second: Exception) -> Exception:
  """The second, raised while the first was being handled."""
  try:
    try:
      raise first
    finally:
      raise second
  except type(second) as error:
    return error


@pytest.mark.parametrize(
  ("error", "said"),
  [
    (FULL, "runs/x/metrics.jsonl: No space left on device"),
    (OSError(errno.EROFS, "Read-only file system"), "a file: Read-only file system"),
    (ARRAYS, 'RESOURCE_EXHAUSTED: Error writing local file "/r/3/_sharding": Failed to write 9 bytes to file 19: '
             "No space left on device [os_error_code='28']"),
    (after(FULL, RuntimeError("can't close")), "runs/x/metrics.jsonl: No space left on device"),
    (ConnectionResetError(errno.ECONNRESET, "reset"), None),
    (TimeoutError("x"), None),
    (ValueError("a bug"), None),
    (LmxError("said already"), None),
    (after(FULL, LmxError("said already")), None),
  ],
)  # fmt: skip
def test_what_an_error_says_about_a_disk(error, said):
  assert disk_problem(error) == said


def test_a_full_disk_is_one_message_with_the_free_space_and_the_step_that_is_safe(tmp_path):
  say_what_is_saved_by(lambda: "The run is safe up to step 30.")
  try:
    with pytest.raises(StorageError) as found, naming_disk_errors(tmp_path / "runs" / "x"):
      raise FULL
  finally:
    say_what_is_saved_by(lambda: "")
  assert f"free in {tmp_path})" in str(found.value)
  assert "safe up to step 30. Fix: free some space there" in str(found.value)
  assert code_of(found.value) == STORAGE == 74


def test_a_bug_keeps_its_traceback(tmp_path):
  with pytest.raises(KeyError), naming_disk_errors(tmp_path):
    raise KeyError("x")


def test_background_threads_do_not_repeat_what_the_main_thread_raises(monkeypatch):
  said = []
  monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: said.append(str(error)))
  quiet_background()
  for text in ("Event loop is closed", "something else"):
    thread = threading.Thread(target=lambda text=text: sys.excepthook(RuntimeError, RuntimeError(text), None))
    thread.start()
    thread.join()
  sys.excepthook(RuntimeError, RuntimeError("Event loop is closed"), None)
  assert said == ["something else", "Event loop is closed"]
