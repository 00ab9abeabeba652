# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A case's folder, and the real `python -m lmx train` in it: tiny, in one process or two, watched from outside.

    case/text/*.txt            what it is trained on
    case/disk/run              the run
    case/disk/cache, compiled  its token cache and compiled programs
    case/*.log                 what each process printed

Every path in the config is relative to the case's folder, so that the config of all cases is the same.
"""

import contextlib
import dataclasses
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.chaos.verdict import End

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("a", "batch", "of", "text", "is", "in", "the", "loss", "and", "step", "to", "run", "with", "data", "model")
PROGRAM = (sys.executable, "-m", "lmx")
STEPS = 24
# Cadences that share no divisor, and checkpoints so often that most moments of training find one being written.
SETTINGS = {
  "name": "chaos",
  "tokenizer.vocab_size": 64,
  "tokenizer.model_type": "char",
  "model.layers": 1,
  "model.width": 16,
  "model.heads": 2,
  "model.context": 32,
  "model.dropout": 0.1,
  "compute.dtype": "float32",
  "compute.attention": "einsum",
  "compute.compilation_cache": "disk/compiled",
  "data.sources": "text/*.txt",
  "data.length": 32,
  "data.cache_dir": "disk/cache",
  "data.heldout_split": "tail",
  "data.heldout_fraction": 0.2,
  "train.duration": f"{STEPS} steps",
  "train.batch_size": 8,
  "optimizer.peak_lr": 1e-2,
  "optimizer.ema": 0.9,
  "log.every": "1 steps",
  "evaluation.every": "7 steps",
  "evaluation.prompts": '("a",)',
  "evaluation.sample_tokens": 4,
  "checkpoint.every": "3 steps",
  "processes.start_seconds": 30,
  "processes.lost_seconds": 20,
}
PHASES = ("importing", "preparing", "compiling", "training", "saving", "ending", "ended")


def write_text(folder: Path) -> None:
  """A dozen documents of a few hundred letters."""
  pick = random.Random(0)
  folder.mkdir(parents=True)
  for number in range(12):
    (folder / f"{number:02d}.txt").write_text(" ".join(pick.choices(WORDS, k=60 + 5 * number)))


def free_port() -> int:
  """A TCP port of this machine that nobody listens at."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return int(probe.getsockname()[1])


def inode(file: Path) -> int | None:
  """Which file a path names now; None: none."""
  try:
    return file.stat().st_ino
  except OSError:
    return None


def read_bytes(file: Path) -> bytes:
  """A file's bytes; none where it has just gone."""
  try:
    return file.read_bytes()
  except OSError:
    return b""


class Process:
  """One started command: its output goes to a file, which stays."""

  def __init__(self, name: str, command: Sequence[str], folder: Path):
    self.name, self.log, self._folder = name, folder / f"{name}.log", folder
    self.signals: list[int] = []
    places = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "MPLBACKEND": "Agg"}
    settings = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    self.started, self.metrics_before = time.monotonic(), inode(folder / "disk" / "run" / "metrics.jsonl")
    self._popen = subprocess.Popen(
      command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
      env=os.environ | places | settings, start_new_session=True,
    )  # fmt: skip
    self._copier = threading.Thread(target=self._copy_output, daemon=True)
    self._copier.start()

  def _copy_output(self) -> None:
    """Through a pipe, so that no full disk and no limit of the process's files keeps its message from the log."""
    assert self._popen.stdout is not None
    with self.log.open("wb", buffering=0) as log, self._popen.stdout as output:
      while data := os.read(output.fileno(), 1 << 16):
        log.write(data)

  @property
  def pid(self) -> int:
    return self._popen.pid

  @property
  def running(self) -> bool:
    return self._popen.poll() is None

  def send(self, number: signal.Signals) -> None:
    """Sends a signal, unless the process has ended."""
    if self.running:
      self.signals.append(number)
      self._popen.send_signal(number)

  def output(self) -> str:
    return read_bytes(self.log).decode(errors="replace")

  def ended(self, seconds: float) -> End:
    """How it ended, after waiting so long; one that does not end leaves its stacks in the log and is killed."""
    code: int | None
    try:
      code = self._popen.wait(seconds)
    except subprocess.TimeoutExpired:
      code = None
      self._popen.send_signal(signal.SIGCONT)
      self._popen.send_signal(signal.SIGABRT)  # Python's fault handler prints every thread's stack.
      with contextlib.suppress(subprocess.TimeoutExpired):
        self._popen.wait(5)
    self.kill()
    self._copier.join(10)
    return End(self.name, code, self.output(), tuple(self.signals))

  def kill(self) -> None:
    """Ends it and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.pid, signal.SIGKILL)
    self._popen.wait()

  def phase(self, output: str) -> str:
    """What it is doing, one of PHASES, as far as files and what process 0 of its run has printed show it."""
    run = self._folder / "disk" / "run"
    if not self.running:
      return "ended"
    if next((run / "checkpoints").glob("*tmp*"), None):
      return "saving"
    if f'{{"step": {STEPS}, '.encode() in read_bytes(run / "metrics.jsonl") or "stopped at step" in output:
      return "ending"
    if "lmx train:" not in output:
      return "importing"
    if "\n  folder " not in output:
      return "preparing"
    return "training" if "\nstep " in output else "compiling"


@dataclasses.dataclass(frozen=True)
class Moment:
  """When something is done: at a share of a run's whole life, or some seconds after a step was logged.

  Attributes:
    share: of the time that an undisturbed run takes from its start to its end; None: see step.
    step: whose line in metrics.jsonl is waited for.
    delay: seconds after that line.
  """

  share: float | None
  step: int = 0
  delay: float = 0.0

  def __str__(self) -> str:
    return f"at {self.share:.1%} of a run's life" if self.share is not None else (
      f"{self.delay * 1e3:.0f} ms after step {self.step}"
    )  # fmt: skip


def draw_moment(pick: random.Random) -> Moment:
  """Half of them uniform over the life of a process, from its first import to its last instruction. Of the others,
  most come up to 0.15 s after a step, where checkpoints are being written, and some in the seconds after the last."""
  kind = pick.random()
  if kind < 0.5:
    return Moment(pick.uniform(0.0, 1.0))
  if kind < 0.85:
    return Moment(None, pick.randint(1, STEPS), pick.uniform(0.0, 0.15))
  return Moment(None, STEPS, pick.uniform(0.0, 2.5))


class Scene:
  """The surroundings of a disturbance: a case's folder, its processes, and the life of an undisturbed run.

  Attributes:
    folder: of the case.
    count: processes that make the run.
    life: seconds that an undisturbed run takes.
    limit: seconds after which a process hangs.
    ends: how every process of the disturbed part ended.
    notes: what was done, for people.
    phases: what the processes were doing then.
    coordinator: where process 1 and later look for process 0; None: at its address.
  """

  def __init__(self, folder: Path, count: int, life: float, limit: float):
    self.folder, self.count, self.life, self.limit = folder, count, life, limit
    self.ends: list[End] = []
    self.notes: list[str] = []
    self.phases: list[str] = []
    self.port = self.coordinator = 0
    self._alive: list[Process] = []
    self._starts = 0

  @property
  def disk(self) -> Path:
    return self.folder / "disk"

  @property
  def run(self) -> Path:
    return self.disk / "run"

  def command(self, index: int) -> list[str]:
    """`lmx train` of the tiny config, as process `index`."""
    flags = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    if self.count > 1:
      port = self.coordinator if index and self.coordinator else self.port
      flags += ["--config.mesh.fsdp=2", f"--coordinator=127.0.0.1:{port}"]
      flags += [f"--process-count={self.count}", f"--process-index={index}"]
    config = ROOT / "configs" / "base.py"
    return [*PROGRAM, "train", f"--config={config}", "--workdir=disk/run", *flags]

  def start(self, only: Sequence[int] | None = None) -> list[Process]:
    """Starts the run: every process of it, or only some."""
    self._starts += 1
    if self.count > 1:
      self.port = self.port or free_port()
    indices = range(self.count) if only is None else only
    return [self.launch(f"{self._starts}_process_{index}", self.command(index)) for index in indices]

  def launch(self, name: str, command: Sequence[str]) -> Process:
    """Starts any command in the case's folder; it is ended with the case."""
    process = Process(name, command, self.folder)
    self._alive.append(process)
    return process

  def wait_until(self, moment: Moment, process: Process) -> str:
    """Waits for a moment in the life of a process, or for its end, and returns the phase that it was in."""
    metrics, mark = self.run / "metrics.jsonl", f'{{"step": {moment.step}, '.encode()
    while process.running and time.monotonic() - process.started < self.limit:
      # A run that resumes replaces the file once it has cut off the lines that it is to write again.
      if moment.share is None and inode(metrics) != process.metrics_before and mark in read_bytes(metrics):
        time.sleep(moment.delay)
        break
      if moment.share is not None and time.monotonic() - process.started >= moment.share * self.life:
        break
      time.sleep(0.002)
    first = self.folder / f"{process.name.rpartition('_')[0]}_0.log"  # Process 0 alone prints.
    phase = process.phase(read_bytes(first).decode(errors="replace"))
    self.phases.append(phase)
    self.notes.append(f"{moment}, {time.monotonic() - process.started:.2f} s after its start, while {phase}")
    return phase

  def evaluate(self) -> End:
    """`lmx evaluate` of the run: how it ended, which is not among `ends`."""
    return self.launch("evaluate", [*PROGRAM, "evaluate", "disk/run"]).ended(self.limit)

  def finish(self, processes: Sequence[Process]) -> list[End]:
    """Waits for the end of processes, keeps how they ended for the verdict, and returns it too."""
    deadline = time.monotonic() + self.limit
    ends = [process.ended(max(1.0, deadline - time.monotonic())) for process in processes]
    self.ends += ends
    self.port = 0  # Another start gets another port: the old one may linger.
    return ends

  def note(self, text: str) -> None:
    self.notes.append(text)

  def close(self) -> None:
    """Ends whatever is left."""
    for process in self._alive:
      process.kill()


@contextlib.contextmanager
def open_scene(folder: Path, count: int, life: float, limit: float) -> Iterator[Scene]:
  """A scene that leaves no process behind."""
  scene = Scene(folder, count, life, limit)
  try:
    yield scene
  finally:
    scene.close()


def copy_ready(ready: Path, folder: Path, parts: Sequence[str]) -> None:
  """Copies parts of a prepared folder (text, disk/cache, ...) into a case's, modification times included."""
  for part in parts:
    target = folder / part
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ready / part, target, symlinks=True)
