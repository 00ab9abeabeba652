# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The type of a disturbance, and the signals: processes that are killed, asked to stop, or stopped for a while."""

import dataclasses
import random
import signal
import time
from collections.abc import Callable

from tools.chaos.scene import Process, Scene, draw_moment

FRESH, HALF, FINISHED = "fresh", "half", "finished"


@dataclasses.dataclass(frozen=True)
class Disturbance:
  """One kind of trouble.

  Attributes:
    name: of the kind, for `--case name:seed`.
    what: a row of the table.
    act: does it: starts the run where it is to run, disturbs it, waits for its end, and heals what heals.
    processes: that make the run.
    begins: with a fresh folder, one of a run stopped half-way, or a finished one.
    heals: whether the same command must resume afterwards; else a message is right, too.
    weight: how often it is drawn, compared with others.
    namespace: whether it needs mounts or a network of its own (`unshare`).
  """

  name: str
  what: str
  act: Callable[[Scene, random.Random], None]
  processes: int = 1
  begins: str = FRESH
  heals: bool = True
  weight: int = 1
  namespace: bool = False


def kill(scene: Scene, pick: random.Random) -> None:
  """One to three starts, each killed; the last is left to the resume."""
  for _ in range(pick.randint(1, 3)):
    (process,) = scene.start()
    scene.wait_until(draw_moment(pick), process)
    process.send(signal.SIGKILL)
    scene.finish([process])


def terminate(scene: Scene, pick: random.Random) -> None:
  """SIGTERM; a third of the runs get SIGKILL while they save."""
  (process,) = scene.start()
  scene.wait_until(draw_moment(pick), process)
  process.send(signal.SIGTERM)
  if pick.random() < 1 / 3:
    time.sleep(pick.uniform(0.0, 0.5))
    process.send(signal.SIGKILL)
  begun = time.monotonic()
  scene.finish([process])
  scene.note(f"ended {time.monotonic() - begun:.1f} s after SIGTERM")


def pause(scene: Scene, pick: random.Random) -> None:
  """SIGSTOP and, after a while, SIGCONT."""
  (process,) = scene.start()
  scene.wait_until(draw_moment(pick), process)
  stopped(process, scene, pick.uniform(0.1, 3.0))
  scene.finish([process])


def stopped(process: Process, scene: Scene, seconds: float) -> None:
  """Stops a process for so long."""
  process.send(signal.SIGSTOP)
  time.sleep(seconds)
  process.send(signal.SIGCONT)
  scene.note(f"{process.name} stopped for {seconds:.1f} s")


def one_at_a_moment(scene: Scene, pick: random.Random) -> tuple[list[Process], Process]:
  """Starts the processes of a case and waits for a moment of one of them: (all of them, that one)."""
  processes = scene.start()
  chosen = pick.choice(processes)
  scene.wait_until(draw_moment(pick), chosen)
  return processes, chosen


def kill_one(scene: Scene, pick: random.Random) -> None:
  """One of two processes dies; the other must notice."""
  processes, chosen = one_at_a_moment(scene, pick)
  chosen.send(signal.SIGKILL)
  end_of_the_rest(scene, processes, f"{chosen.name} killed")


def end_of_the_rest(scene: Scene, processes: list[Process], what: str) -> None:
  """Waits for every process, and notes how long that took."""
  begun = time.monotonic()
  scene.finish(processes)
  scene.note(f"{what}; all had ended after {time.monotonic() - begun:.1f} s")


def kill_both(scene: Scene, pick: random.Random) -> None:
  """Both of two processes die, the second up to a second later."""
  processes = scene.start()
  pick.shuffle(processes)
  scene.wait_until(draw_moment(pick), processes[0])
  processes[0].send(signal.SIGKILL)
  time.sleep(pick.choice((0.0, pick.uniform(0.0, 1.0))))
  processes[1].send(signal.SIGKILL)
  end_of_the_rest(scene, processes, "both killed")


def terminate_one(scene: Scene, pick: random.Random) -> None:
  """One of two processes is asked to stop; both must, at one step."""
  processes, chosen = one_at_a_moment(scene, pick)
  chosen.send(signal.SIGTERM)
  end_of_the_rest(scene, processes, f"{chosen.name} got SIGTERM")


def pause_one(scene: Scene, pick: random.Random) -> None:
  """One of two processes is stopped for a while; the other waits for it."""
  processes, chosen = one_at_a_moment(scene, pick)
  stopped(chosen, scene, pick.uniform(0.1, 3.0))
  end_of_the_rest(scene, processes, "continued")


def hang_one(scene: Scene, pick: random.Random) -> None:
  """One of two processes is stopped for good; the other must give up with a message."""
  processes, chosen = one_at_a_moment(scene, pick)
  chosen.send(signal.SIGSTOP)
  begun = time.monotonic()
  scene.finish([process for process in processes if process is not chosen])
  scene.note(f"{chosen.name} stopped for good; the other had ended after {time.monotonic() - begun:.1f} s")
  chosen.send(signal.SIGKILL)
  scene.finish([chosen])


def start_one(scene: Scene, pick: random.Random) -> None:
  """One of two processes is never started."""
  chosen = pick.choice((0, 1))
  end_of_the_rest(scene, scene.start([chosen]), f"only process {chosen} was started")


def start_twice(scene: Scene, pick: random.Random) -> None:
  """The same command is started again while it runs; one of them must be refused."""
  (first,) = scene.start()
  scene.wait_until(draw_moment(pick), first)
  (second,) = scene.start()
  scene.finish([second, first])
  scene.note("the same command was started a second time")


SIGNALS = (
  Disturbance("kill", "SIGKILL, one to three times in a row", kill, weight=5),
  Disturbance("term", "SIGTERM, a third of them with SIGKILL while it saves", terminate, weight=4),
  Disturbance("pause", "SIGSTOP for 0.1 to 3 s", pause, weight=2),
  Disturbance("second", "the same command started again while it runs", start_twice),
  Disturbance("kill-one", "SIGKILL to one of two processes", kill_one, 2, weight=4),
  Disturbance("kill-both", "SIGKILL to both of two processes", kill_both, 2, weight=2),
  Disturbance("term-one", "SIGTERM to one of two processes", terminate_one, 2, weight=2),
  Disturbance("pause-one", "SIGSTOP to one of two processes for 0.1 to 3 s", pause_one, 2),
  Disturbance("hang-one", "SIGSTOP to one of two processes for good", hang_one, 2),
  Disturbance("start-one", "one of two processes never started", start_one, 2),
)
