# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Watches a job on rented TPUs: waits, installs, starts, prints the log, and starts over when the machines are lost.

Whatever ends it (the run's end, an error, Ctrl-C), the machines are given back. If this process is killed, they give
themselves back (`tpu_scripts.startup_script`); the same `lmx launch` command picks up those that are still there.
"""

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lmx.errors import LmxError
from lmx.exits import DONE, FAILED, INTERRUPTED, MISTAKE, SAVED
from lmx.launch.engine import call, last_lines
from lmx.launch.job import END, START, Job
from lmx.launch.tpu_queue import ACTIVE, DELETING, LOST, SUSPENDED, SUSPENDING, HopelessError, Queue
from lmx.launch.tpu_scripts import DEAD, RUNNING, remote_folder

_INSTALL_TRIES = 3
_SECRETS = "umask 077 && cat > {file}"
_GONE = 255  # ssh's code when there is no connection.


class TpuWatch:
  """One job on one queued resource.

  Args:
    job: whose start and end are noted.
    queue: the resource.
    files: startup script, archive of the code, machine.sh.
    secrets: names of the environment's variables to hand over; () for none.
    secrets_file: where they are kept on a machine, in memory.
    workers: machines of one slice.
  """

  def __init__(
    self,
    job: Job,
    queue: Queue,
    files: tuple[Path, Path, Path],
    secrets: Sequence[str],
    secrets_file: str,
    workers: int,
  ):
    self._job, self._queue = job, queue
    self._startup, self._archive, self._script = files
    self._secrets, self._secrets_file, self._workers = secrets, secrets_file, workers
    self._folder = remote_folder(job.name)
    self._printed = 0  # Bytes of the first worker's log.
    self._restarts = 0
    self._owned = False  # The resource was seen, or asked for, by this launch.
    self._stop: Callable[[], str | None] = lambda: None

  def run(self, stop: Callable[[], str | None]) -> int:
    """Watches until the run has ended, and returns its exit code.

    Args:
      stop: returns the name of a signal once there was one.

    Raises:
      LmxError: the run can't be had; what was rented is given back, or the message says what wasn't.
    """
    self._stop = stop
    try:
      return self._until_done()
    finally:
      if self._owned:
        self._queue.say(f"giving {self._queue.name} back")
        self._queue.delete()
        self._note_end()

  def _until_done(self) -> int:
    last = ""
    while True:
      if self._stop():
        return self._stopped()
      resource = self._queue.describe()
      if resource is None:
        self._note_end()
        self._owned = True
        self._queue.say(f"{self._queue.name}: creating")
        self._queue.create(self._startup)
        continue
      self._owned = True
      if resource.state != last:
        last = resource.state
        self._queue.say(f"{self._queue.name}: {last}{f': {resource.message}' if resource.message else ''}")
      if resource.state in LOST:
        self._lost(resource.state, resource.message)
      elif resource.state == ACTIVE:
        code = self._train()
        if code is not None:
          return code
      elif resource.state == DELETING:
        self._queue.delete()
      else:
        time.sleep(self._queue.patience.poll)

  def _lost(self, state: str, text: str) -> None:
    """Gives lost machines back, so that the loop asks for others."""
    if "quota" in text.lower():
      raise HopelessError(f"queued resource {self._queue.name}: {text}")
    self._again(f"{state}: {text}" if text else state, counts=state not in (SUSPENDED, SUSPENDING))
    self._queue.delete()
    self._note_end()

  def _again(self, why: str, *, counts: bool = True) -> None:
    """Allows one more start; preemptions don't count.

    Raises:
      LmxError: there were too many.
    """
    self._restarts += counts
    if self._restarts > self._job.settings["restarts"]:
      raise LmxError(f"lmx launch: {self._job.name} failed {self._restarts} times, the last time with: {why}. "
                     "Fix: cure that; --restarts allows more.")  # fmt: skip

  # ---------------------------------------------------------------- on the machines

  def _train(self) -> int | None:
    """Installs, starts and watches on active machines; returns the exit code, or None: look at the resource again."""
    self._note_start()
    if not self._prepare():
      return None
    while not self._stop():
      self._print_log()
      codes = self._codes()
      code = first_bad(codes)
      if code is None and any(one == _GONE for one in codes):
        return None  # No connection: the resource's state says why.
      if code is None:
        time.sleep(self._queue.patience.poll)
        resource = self._queue.describe()
        if resource is None or resource.state != ACTIVE:
          return None
        continue
      self._print_log()
      if code in (DONE, MISTAKE):
        return code
      self._again(f"exit code {code}")
      self._queue.say(f"{self._job.name}: exit code {code}; starting it again on all machines")
      self._verb("stop-and-wait")  # One that still saves would be taken for one that runs.
      return None
    return None

  def _prepare(self) -> bool:
    """Installs the code where it isn't, and starts the command where it doesn't run; False: a machine is gone.

    Raises:
      LmxError: the installation failed again and again.
    """
    ready = f"{self._folder}/{self._job.tree}.ready"
    for attempt in range(_INSTALL_TRIES):
      done = self._all(f"test -e {ready}")
      if all(one.returncode == 0 for one in done):
        break
      self._queue.say(f"{self._job.name}: installing on {len(self._queue.nodes) * self._workers} machines")
      done = self._all(f"mkdir -p {self._folder}")
      done += self._queue.on_all(lambda node: self._queue.scp_words(node, [self._archive, self._script], self._folder))
      done += self._all(f"bash {self._folder}/machine.sh install && touch {ready}")
      bad = [one for one in done if one.returncode]
      if not bad:
        break
      resource = self._queue.describe()
      if resource is None or resource.state != ACTIVE:
        return False
      if attempt + 1 == _INSTALL_TRIES:
        raise LmxError(f"lmx launch: installing failed {_INSTALL_TRIES} times: {last_lines(bad[-1].stderr)}")
      time.sleep(self._queue.patience.poll)
    if self._secrets and any(code != RUNNING for code in self._codes()):
      self._hand_over_secrets()
    return all(one.returncode == 0 for one in self._verb("start"))

  def _hand_over_secrets(self) -> None:
    """Sends the secrets to each machine by ssh's standard input, into a file in memory."""
    text = "".join(f"{name}={shlex.quote(os.environ[name])}\n" for name in self._secrets)
    for node in self._queue.nodes:
      for worker in range(self._workers):
        words = self._queue.ssh_words(node, _SECRETS.format(file=shlex.quote(self._secrets_file)), str(worker))
        done = call(words, text=text, seconds=self._queue.patience.ssh)
        if done.returncode:
          raise LmxError(f"lmx launch: {node}, worker {worker}, did not take the secrets (code {done.returncode})")

  def _print_log(self) -> None:
    """Prints what the first worker's log has more since the last time."""
    command = f"tail -c +{self._printed + 1} {self._folder}/log"
    done = call(self._queue.ssh_words(self._queue.nodes[0], command, "0"), seconds=self._queue.patience.ssh)
    if done.returncode == 0 and done.stdout:
      self._printed += len(done.stdout.encode())
      sys.stdout.write(done.stdout)
      sys.stdout.flush()

  def _codes(self) -> list[int | str]:
    """What each machine's command came to: an exit code, or that it runs."""
    found: list[int | str] = []
    for one in self._verb("code"):
      words = one.stdout.split()
      found += [int(word) if word.isdigit() else word for word in words]
      if one.returncode and not words:
        found.append(_GONE)
    return found

  def _verb(self, verb: str) -> list:
    return self._all(f"bash {self._folder}/machine.sh {verb}")

  def _all(self, command: str) -> list:
    return self._queue.on_all(lambda node: self._queue.ssh_words(node, command))

  def _stopped(self) -> int:
    """Has the run save, within a limit, after a signal."""
    if not self._job_runs():
      return INTERRUPTED
    self._queue.say(f"{self._stop()}: the run saves and stops; a second one leaves the machines to their own end")
    self._verb("stop")
    until = time.monotonic() + self._queue.patience.stop
    while time.monotonic() < until:
      if all(isinstance(code, int) or code == DEAD for code in self._codes()):
        break
      time.sleep(self._queue.patience.poll / 5)
    self._print_log()
    return SAVED

  # ---------------------------------------------------------------- when it ran

  def _job_runs(self) -> bool:
    events = self._job.events()
    return bool(events) and events[-1]["event"] == START

  def _note_start(self) -> None:
    if not self._job_runs():
      self._printed = 0
      self._job.note(START, key="0")

  def _note_end(self) -> None:
    if self._job_runs():
      self._job.note(END, key="0", code=None)


def first_bad(codes: Sequence[int | str]) -> int | None:
  """What the codes of a run's machines come to: None while it runs, 0 when all have finished, else what went wrong."""
  ended = [code for code in codes if isinstance(code, int) and code != _GONE]
  if MISTAKE in ended:
    return MISTAKE
  bad = [code for code in ended if code != DONE] + [FAILED for code in codes if code == DEAD]
  if bad:
    return bad[0]
  return DONE if codes and len(ended) == len(codes) else None


__all__ = ["DEAD", "RUNNING", "TpuWatch", "first_bad"]
