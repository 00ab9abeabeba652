# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Errors of disks are one message; errors of anything else stay what they are."""

import asyncio
import errno
import functools
import logging
import os
import sys
import types

import pytest

from lmx.errors import LmxError, StorageError
from lmx.exits import STORAGE, code_of, set_safe_step
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
  ("error", "expected"),
  [
    (FULL, "runs/x/metrics.jsonl: No space left on device"),
    (OSError(errno.EROFS, "Read-only file system"), "a file: Read-only file system"),
    (ARRAYS, 'RESOURCE_EXHAUSTED: Error writing local file "/r/3/_sharding": Failed to write 9 bytes to file 19: '
             "No space left on device [os_error_code='28']"),
    (after(FULL, RuntimeError("can't close")), "runs/x/metrics.jsonl: No space left on device"),
    (ConnectionResetError(errno.ECONNRESET, "reset"), None),
    (TimeoutError("x"), None),
    (ValueError("a bug"), None),
    (ValueError("No ArrayMetadata found for process_index=0 in runs/x"),
     "No ArrayMetadata found for process_index=0 in runs/x"),
    (FileNotFoundError("no folder runs/x"), "no folder runs/x"),
    (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), None),
    (OSError("no such model on the hub"), None),
    (LmxError("a message"), None),
    (after(FULL, LmxError("a message")), None),
  ],
)  # fmt: skip
def test_the_part_of_an_error_that_is_about_a_disk(error, expected):
  assert disk_problem(error) == expected


def test_a_full_disk_is_one_message_with_the_free_space_and_the_step_that_is_safe(tmp_path):
  set_safe_step(lambda: "The run is safe up to step 30.")
  try:
    with pytest.raises(StorageError) as found, naming_disk_errors(tmp_path / "runs" / "x"):
      raise FULL
  finally:
    set_safe_step(lambda: "")
  assert f"free in {tmp_path})" in str(found.value)
  assert "safe up to step 30. Fix: free some space there" in str(found.value)
  assert code_of(found.value) == STORAGE == 74


def test_a_bug_keeps_its_traceback(tmp_path):
  with pytest.raises(KeyError), naming_disk_errors(tmp_path):
    raise KeyError("x")


def test_background_saves_do_not_repeat_what_is_raised_for_them(monkeypatch, caplog):
  reported = []
  monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: reported.append(str(unraisable.exc_value)))
  logger = logging.getLogger("absl")
  monkeypatch.setattr(logger, "filters", [])
  monkeypatch.setattr(logger, "handlers", [])
  quiet_background()
  loop = asyncio.new_event_loop()
  loop.close()
  for call in (functools.partial(loop.call_soon_threadsafe, print), functools.partial(int, "x")):
    try:
      call()
    except (RuntimeError, ValueError) as error:
      trace = error.__traceback__  # Its first frame is this one; C++ has none.
      sys.unraisablehook(types.SimpleNamespace(exc_value=error, exc_traceback=trace.tb_next))
  assert reported == ["invalid literal for int() with base 10: 'x'"]
  logger.error("a save failed", exc_info=FULL)
  logger.error("something else")
  assert caplog.messages == ["something else"]
