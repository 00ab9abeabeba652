# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Disks that fill and empty, are too small, read-only or limited, and run folders that vanish under a run.

Where `unshare` may mount, a case's disk is a tmpfs of a few megabytes. The kind "limit" needs no rights: it lowers the
running process's RLIMIT_FSIZE, so that writing beyond it fails (EFBIG) as it does over a quota.
"""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

from tools.chaos.disturbance import Disturbance
from tools.chaos.scene import Process, Scene, draw_moment

DISK_BYTES = 64 << 20
FILLER = "filler"


def mounted(scene: Scene, size: int) -> None:
  """Makes the case's disk a tmpfs of that size, with what was in the folder."""
  aside = scene.folder / "aside"
  if scene.disk.exists():
    scene.disk.rename(aside)
  scene.disk.mkdir()
  subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(scene.disk)], check=True)
  if aside.exists():
    shutil.copytree(aside, scene.disk, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(aside)


def remount(scene: Scene, option: str) -> None:
  """Mounts the disk again, as "ro" or "rw"."""
  subprocess.run(["mount", "-o", f"remount,{option}", str(scene.disk)], check=True)


def fill(scene: Scene, leave: int) -> None:
  """Fills the disk up to a number of bytes."""
  with (scene.disk / FILLER).open("wb", buffering=0) as file, contextlib.suppress(OSError):
    while True:
      file.write(b"\0" * (1 << 16))
  size = (scene.disk / FILLER).stat().st_size
  os.truncate(scene.disk / FILLER, max(0, size - leave))


def few_bytes(pick: random.Random) -> int:
  """None, or something between a page and a megabyte."""
  return pick.choice((0, int(2 ** pick.uniform(12, 20))))


def heal_and_finish(scene: Scene, process: Process, pick: random.Random, what: str, heal: Callable[[], object]) -> None:
  """Undoes a disturbance after some seconds, or only when the process has ended."""
  seconds = pick.choice((None, pick.uniform(0.2, 4.0)))
  scene.note(f"{what}, {'until the end' if seconds is None else f'for {seconds:.1f} s'}")
  if seconds is not None:
    time.sleep(seconds)
    heal()
  scene.finish([process])
  if seconds is None:
    heal()


def disk_fills(scene: Scene, pick: random.Random) -> None:
  """The disk fills at a moment, and empties while the run tries again, or after its end."""
  mounted(scene, DISK_BYTES)
  (process,) = scene.start()
  scene.wait_until(draw_moment(pick), process)
  leave = few_bytes(pick)
  fill(scene, leave)
  heal_and_finish(scene, process, pick, f"disk filled up to {leave} bytes", (scene.disk / FILLER).unlink)


def disk_small(scene: Scene, pick: random.Random) -> None:
  """The disk is too small from the start; afterwards it is large enough."""
  mounted(scene, DISK_BYTES)
  leave = int(2 ** pick.uniform(13, 21))
  fill(scene, leave)
  scene.note(f"a disk with {leave} bytes left")
  scene.finish(scene.start())
  (scene.disk / FILLER).unlink()


def read_only(scene: Scene, pick: random.Random) -> None:
  """A killed run is started again while its disk is read-only."""
  mounted(scene, DISK_BYTES)
  (process,) = scene.start()
  scene.wait_until(draw_moment(pick), process)
  process.send(signal.SIGKILL)
  scene.finish([process])
  remount(scene, "ro")
  scene.finish(scene.start())
  remount(scene, "rw")
  scene.note("killed, then started on a read-only disk")


def limit(scene: Scene, pick: random.Random) -> None:
  """No file may grow beyond some bytes, from a moment on."""
  (process,) = scene.start()
  scene.wait_until(draw_moment(pick), process)
  size = few_bytes(pick)
  set_limit(process, size)
  heal_and_finish(scene, process, pick, f"files limited to {size} bytes", lambda: set_limit(process, None))


def set_limit(process: Process, size: int | None) -> None:
  """Limits the files that a running process writes, or lifts that."""
  with contextlib.suppress(ProcessLookupError):
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


def moved_away(scene: Scene, pick: random.Random) -> None:
  """The run's folder is moved elsewhere while it runs, and brought back after its end."""
  (process,) = scene.start()
  scene.wait_until(draw_moment(pick), process)
  away = scene.disk / "away"
  if scene.run.exists():
    scene.run.rename(away)
  scene.finish([process])
  scene.note("run folder moved away" if away.exists() else "no run folder yet")
  if away.exists():
    shutil.rmtree(scene.run, ignore_errors=True)
    away.rename(scene.run)


def removed(scene: Scene, pick: random.Random) -> None:
  """The run's folder, its checkpoints or its metrics are removed while it runs."""
  (process,) = scene.start()
  scene.wait_until(draw_moment(pick), process)
  name = pick.choice(("", "checkpoints", "metrics.jsonl"))
  target = scene.run / name
  if target.is_dir():
    shutil.rmtree(target, ignore_errors=True)
  else:
    target.unlink(missing_ok=True)
  scene.note(f"removed: {name or 'the run folder'}")
  scene.finish([process])


DISKS = (
  Disturbance(
    "disk-fills", "tmpfs of the run and its caches filled, then emptied", disk_fills, weight=4, namespace=True
  ),
  Disturbance("disk-small", "tmpfs with 8 KB to 2 MB left from the start", disk_small, weight=2, namespace=True),
  Disturbance("read-only", "killed, then started on a read-only tmpfs", read_only, namespace=True),
  Disturbance("limit", "RLIMIT_FSIZE of a running process lowered, then lifted", limit, weight=2),
  Disturbance("moved", "run folder moved away while it runs, then back", moved_away),
  Disturbance("removed", "run folder, checkpoints or metrics.jsonl removed while it runs", removed, heals=False),
)  # fmt: skip
