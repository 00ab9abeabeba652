# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Lock of a run in a bucket: an object that is only written if nobody else has written it meanwhile.

Its generation, which changes with every write, is the condition of the next one, so two commands can't both take it.
The holder writes it again every few seconds; a lock without such a heartbeat counts as dead.
"""

import contextlib
import datetime
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from lmx.paths import age_of, delete_if_unchanged, generation_of, in_bucket, write_if_unchanged
from lmx.training.run_lock import DEAD_AFTER_SECONDS, HEARTBEAT_SECONDS, RunLock, RunLockedError, in_use, is_alive

_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")
_held: set[str] = set()  # Tokens of the locks that this process holds.


def lock_run(run_dir: Path) -> RunLock:
  """The lock of a run's folder, on a disk or in a bucket."""
  return BucketLock(run_dir) if in_bucket(run_dir) else RunLock(run_dir)


class BucketLock(RunLock):
  """The lock of one run in a bucket; as `RunLock`."""

  def __init__(self, run_dir: Path):
    super().__init__(run_dir)
    self._generation, self._token = 0, uuid.uuid4().hex
    self._since, self._changing = time.time(), threading.Lock()

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    self._over.set()
    _held.discard(self._token)
    with self._changing, contextlib.suppress(Exception):  # What can't be deleted now lapses.
      delete_if_unchanged(self._path, self._generation)

  def take_again(self) -> None:
    with self._changing:
      if generation_of(self._path) != self._generation:
        self._take_now()

  def _take(self) -> None:
    with self._changing:
      self._take_now()

  def _take_now(self) -> None:
    generation, written = age_of(self._path)
    holder = self._holder() if generation else {}
    if holder and holder.get("token") != self._token and not _is_dead(holder, written):
      raise RunLockedError(in_use(self._path.parent, holder))
    try:
      self._generation = write_if_unchanged(self._path, self._record(), generation)
    except FileExistsError as error:
      raise RunLockedError(in_use(self._path.parent, self._holder())) from error
    _held.add(self._token)

  def _record(self) -> str:
    record = {"host": socket.gethostname(), "process": os.getpid(), "since": self._since, "boot": _boot()}
    return json.dumps({**record, "token": self._token, "beat": time.time()})

  def _holder(self) -> dict[str, Any]:
    try:
      record = json.loads(self._path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
      return {}
    return record if isinstance(record, dict) else {}

  def _beat(self) -> None:
    while not self._over.wait(HEARTBEAT_SECONDS):
      with self._changing, contextlib.suppress(Exception):
        try:
          self._generation = write_if_unchanged(self._path, self._record(), self._generation)
        except FileExistsError:  # Our own write, whose answer was lost; or another's, which `take_again` finds.
          generation = generation_of(self._path)
          if self._holder().get("token") == self._token:
            self._generation = generation


def _is_dead(holder: dict[str, Any], written: str) -> bool:
  """Whether the holder is dead: no such process on this machine, or no heartbeat for a while."""
  if holder.get("token") in _held:
    return False
  if holder.get("host") == socket.gethostname() and holder.get("boot") == _boot():
    return not is_alive(holder.get("process"))
  now = datetime.datetime.now(datetime.UTC)
  return (now - datetime.datetime.fromisoformat(written)).total_seconds() > DEAD_AFTER_SECONDS


def _boot() -> str:
  """An id of this machine since it was started: names of hosts may repeat among the machines that share a bucket."""
  with contextlib.suppress(OSError):
    return _BOOT_FILE.read_text().strip()
  return ""
