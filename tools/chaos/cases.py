# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""One case: its folder made ready, the disturbance, the resume and the verdict; and the undisturbed runs it needs."""

import dataclasses
import hashlib
import json
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tools.chaos.damage import DAMAGE
from tools.chaos.disks import DISKS
from tools.chaos.disturbance import FINISHED, FRESH, HALF, SIGNALS, Disturbance
from tools.chaos.network import NETWORK, loopback
from tools.chaos.scene import ROOT, STEPS, Moment, Scene, copy_ready, open_scene, write_text
from tools.chaos.verdict import (
  EQUAL,
  End,
  first_difference,
  first_difference_after,
  judge_end,
  verdict,
  warned_step,
)

DISTURBANCES = {kind.name: kind for kind in (*SIGNALS, *DISKS, *DAMAGE, *NETWORK)}
LIMITS = {1: 120.0, 2: 240.0}  # Seconds after which a process hangs, by the number of processes.
COLD = 0.25  # Share of fresh runs that find no tokens and no compiled programs.
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "--net", "--uts")


@dataclasses.dataclass(frozen=True)
class Result:
  """The result of a case.

  Attributes:
    kind, seed: identify it.
    outcome: one of verdict.GOOD or verdict.BAD.
    why: the reason for it, in a line.
    notes: what was done.
    phases: what the processes were doing then.
    seconds: it took.
  """

  kind: str
  seed: int
  outcome: str
  why: str
  notes: tuple[str, ...]
  phases: tuple[str, ...]
  seconds: float

  @property
  def name(self) -> str:
    return f"{self.kind}:{self.seed}"


def read_result(file: Path) -> Result:
  """A result that `run_and_record` wrote."""
  values = json.loads(file.read_text())
  return Result(**{**values, "notes": tuple(values["notes"]), "phases": tuple(values["phases"])})


class ChaosError(Exception):
  """The tool itself can't work here."""


# ---------------------------------------------------------------- undisturbed runs


def code_digest() -> str:
  """A digest of everything that the undisturbed runs depend on."""
  files = [*sorted((ROOT / "lmx").rglob("*.py")), ROOT / "configs" / "base.py", Path(__file__).with_name("scene.py")]
  return hashlib.blake2b(b"\0".join(file.read_bytes() for file in files), digest_size=8).hexdigest()


def undisturbed(scene: Scene) -> float:
  """Seconds that a whole run takes.

  Raises:
    ChaosError: it did not end well.
  """
  begun = time.monotonic()
  check_ends(scene.finish(scene.start()))
  return time.monotonic() - begun


def check_ends(ends: list[End]) -> None:
  for end in ends:
    if judge_end(end)[0] != EQUAL:
      raise ChaosError(f"an undisturbed run failed: {judge_end(end)[1]}\n{end.output[-3000:]}")


def prepare(work: Path, processes: Collection[int]) -> dict[str, Any]:
  """Makes the undisturbed runs in work/ready, unless the same code has made them before.

  Args:
    work: the tool's folder.
    processes: that the runs are made by; 1 is always among them.

  Returns:
    {"cold", "1", "2": seconds of a run without caches, with them, and in two processes; "evaluated": output}.
  """
  ready, file = work / "ready", work / "ready" / "prepared.json"
  prepared = json.loads(file.read_text()) if file.exists() else {}
  if prepared.get("code") != code_digest():
    shutil.rmtree(ready, ignore_errors=True)
    shutil.rmtree(work / "results", ignore_errors=True)  # Of other code. Failures stay.
    prepared = {"code": code_digest(), **prepare_one(ready)}
  if 2 in processes and "2" not in prepared:
    copy_ready(ready / "1", ready / "2", ("text", "disk/cache", "disk/compiled"))
    with open_scene(ready / "2", 2, 0.0, 600.0) as scene:
      undisturbed(scene)  # Compiles.
      shutil.rmtree(scene.run)
      prepared["2"] = undisturbed(scene)
  file.write_text(json.dumps(prepared))
  return prepared


def prepare_one(ready: Path) -> dict[str, Any]:
  """The undisturbed run of one process, with and without caches, and a run that was stopped half-way."""
  write_text(ready / "1" / "text")
  with open_scene(ready / "1", 1, 0.0, 600.0) as scene:
    cold = undisturbed(scene)
    shutil.rmtree(scene.run)
    warm = undisturbed(scene)
    end = scene.evaluate()
    check_ends([end])
  copy_ready(ready / "1", ready / "half", ("text", "disk/cache", "disk/compiled"))
  with open_scene(ready / "half", 1, 0.0, 600.0) as scene:
    (process,) = scene.start()
    scene.wait_until(Moment(None, STEPS // 2, 0.0), process)
    process.send(signal.SIGTERM)
    check_ends(scene.finish([process]))
  return {"cold": cold, "1": warm, "evaluated": end.output}


# ---------------------------------------------------------------- a case


def can_make_namespaces() -> bool:
  """Whether `unshare` gives this user mounts and a network of its own."""
  try:
    trial = subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, timeout=20)
  except (OSError, subprocess.TimeoutExpired):
    return False
  return trial.returncode == 0


def enter_namespace() -> None:
  """Inside of a new network namespace: switches its loopback on, and lets Gloo find this machine by its name."""
  socket.sethostname("localhost")
  loopback(True)


def fill_folder(kind: Disturbance, ready: Path, folder: Path, pick: random.Random) -> bool:
  """Makes a case's folder, and returns whether it is without caches."""
  if kind.begins != FRESH:
    copy_ready(ready / ("half" if kind.begins == HALF else "1"), folder, ("text", "disk"))
    return False
  cold = pick.random() < COLD
  copy_ready(ready / str(kind.processes), folder, ("text",) if cold else ("text", "disk/cache", "disk/compiled"))
  (folder / "disk").mkdir(exist_ok=True)
  return cold


def run_case(kind: Disturbance, seed: int, work: Path) -> Result:
  """Runs one case in this process, leaving its folder in work/cases."""
  prepared, begun = prepare(work, {kind.processes}), time.monotonic()
  pick, name = random.Random(f"{kind.name} {seed}"), f"{kind.name}-{seed}"
  folder, ready = work / "cases" / name, work / "ready"
  shutil.rmtree(folder, ignore_errors=True)
  cold = fill_folder(kind, ready, folder, pick)
  life = prepared["cold"] if cold else prepared[str(kind.processes)]
  limit = max(LIMITS[kind.processes], 10 * life)  # A machine that is busy with something else is no hang.
  with open_scene(folder, kind.processes, life, limit) as scene:
    scene.note("no caches" if cold else "with caches")
    kind.act(scene, pick)
    if kind.begins == FINISHED:
      outcome, why = evaluated(scene, prepared["evaluated"])
    else:
      outcome, why = resumed(scene, ready / str(kind.processes) / "disk" / "run", kind.heals)
    return Result(
      kind.name, seed, outcome, why, tuple(scene.notes), tuple(scene.phases), round(time.monotonic() - begun, 1)
    )


def resumed(scene: Scene, reference: Path, heals: bool) -> tuple[str, str]:
  """The verdict on a run that is started again after its disturbance."""
  disturbed, again = list(scene.ends), []
  difference = first_difference(scene.run, reference, whole=False) if heals else None
  if difference is None:
    again = scene.finish(scene.start())
    if all(judge_end(end)[0] == EQUAL for end in again):
      difference = first_difference(scene.run, reference, whole=True)
  step = warned_step(again[0].output) if again else None  # Process 0 alone prints.
  warned = ""
  if difference is not None and step is not None and not heals:
    warned, difference = difference, first_difference_after(scene.run, reference, step)
  worst = next((end for end in again if judge_end(end)[0] != EQUAL), again[0] if again else None)
  return verdict(disturbed, worst, difference, heals=heals, warned=warned)


def evaluated(scene: Scene, expected: str) -> tuple[str, str]:
  """The verdict on a finished run that is loaded and evaluated."""
  end = scene.evaluate()
  other = end.code == 0 and end.output != expected
  difference = f"evaluate printed {end.output!r} instead of {expected!r}" if other else None
  return verdict([], end, difference, heals=False)


def run_and_record(kind: Disturbance, seed: int, work: Path) -> Result:
  """Runs one case, and writes its result to work/results."""
  result = run_case(kind, seed, work)
  results = work / "results"
  results.mkdir(exist_ok=True)
  (results / f"{kind.name}-{seed}.json").write_text(json.dumps(dataclasses.asdict(result)))
  return result
