# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Jobs on Cloud TPUs, by queued resources."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from lmx.console import console
from lmx.errors import choose
from lmx.exits import DONE
from lmx.launch.backend import FINISHED, RUNNING, UNKNOWN, WAITING, needs_bucket
from lmx.launch.command import JobCommand
from lmx.launch.engine import Action, Call, Write, write_all
from lmx.launch.job import END, Job
from lmx.launch.machines import RENTED, read_topology, workers
from lmx.launch.source import ARCHIVE, ShippedCode
from lmx.launch.tpu_queue import ACTIVE, CAPACITIES, FLEX_START, Patience, Queue
from lmx.launch.tpu_scripts import machine_script, remote_folder, startup_script
from lmx.launch.tpu_watch import TpuWatch
from lmx.parallel.signals import StopSignals

PATIENCE = Patience()
CODE = "."  # The command runs in the shipped code.


class Tpu:
  """A `Backend`; `start` stays until the run has ended."""

  flags: tuple[str, ...] = ("topology", "zone", "project", "capacity", "runtime")
  needs: tuple[str, ...] = ("topology", "zone", "project", "time")

  def __init__(self, patience: Patience = PATIENCE):
    self._patience = patience

  def check(self, job: Job) -> None:
    choose("--capacity", job.settings["capacity"], dict.fromkeys([*CAPACITIES, FLEX_START]))
    read_topology(job.settings["topology"], "tpu")
    needs_bucket(job)

  def actions(self, job: Job, source: ShippedCode) -> Sequence[Action]:
    queue, (startup, archive, machine) = self._queue(job), self._files(job)
    words = JobCommand(job.words).shipped(source, CODE)
    several = workers(queue.topology) * len(queue.nodes) > 1
    folder, node = remote_folder(job.name), queue.nodes[0]
    verb = f"bash {folder}/machine.sh "
    secrets = [
      Call(queue.ssh_words(node, f"umask 077 && cat > {self._secrets_file(job)}", "0"),
           f"secrets {', '.join(job.secrets)} by standard input, for each worker")
    ] if job.secrets else []  # fmt: skip
    return [
      Write(startup, startup_script(queue.delete_words(), folder, job.settings["time"])),
      Write(machine, machine_script(words, self._secrets_file(job), several)),
      Call(["git", "-C", str(source.clone), "archive", "--format=tar.gz", f"--output={archive}", source.tree]),
      Call(queue.create_words(startup)),
      Call(queue.describe_words(), "until it is ACTIVE; what follows is done for every node"),
      Call(queue.ssh_words(node, f"mkdir -p {folder}")),
      Call(queue.scp_words(node, [archive, machine], folder)),
      Call(queue.ssh_words(node, f"{verb}install && touch {folder}/{job.tree}.ready")),
      *secrets,
      Call(queue.ssh_words(node, f"{verb}start")),
      Call(queue.ssh_words(node, f"tail -c +1 {folder}/log", "0"), "again and again, from where it was"),
      Call(queue.ssh_words(node, f"{verb}code"), "again and again, until all have ended"),
      Call(queue.delete_words(), "at the end; and after FAILED or SUSPENDED, and then from `create` on"),
    ]

  def start(self, job: Job, source: ShippedCode) -> int:
    source.write_archive(job.folder)
    write_all(self.actions(job, source))
    queue = self._queue(job)
    watch = TpuWatch(job, queue, self._files(job), job.secrets, self._secrets_file(job), workers(queue.topology))
    with StopSignals() as stop:
      code = watch.run(lambda: stop.requested)
    job.note(END, key="code", code=code)
    return code

  def state(self, job: Job) -> str:
    resource = self._queue(job).describe()
    if resource is None:
      codes = [event["code"] for event in job.events() if event.get("key") == "code"]
      return UNKNOWN if not codes else FINISHED if codes[-1] == DONE else f"ended (exit code {codes[-1]})"
    state = RUNNING if resource.state == ACTIVE else WAITING
    return f"{state} ({resource.state}{f': {resource.message}' if resource.message else ''})"

  def logs(self, job: Job, follow: bool) -> list[str] | str:
    queue = self._queue(job)
    if queue.describe() is None:
      return f"{queue.name} has been given back, and its log with it; the run's metrics are in its folder\n"
    command = f"tail -n +1 {'-F ' if follow else ''}{remote_folder(job.name)}/log"
    return queue.ssh_words(queue.nodes[0], command, "0")

  def stop(self, job: Job) -> str:
    queue = self._queue(job)
    resource = queue.describe()
    if resource is None:
      return "nothing runs"
    if resource.state == ACTIVE:
      queue.on_all(lambda node: queue.ssh_words(node, f"bash {remote_folder(job.name)}/machine.sh stop-and-wait"))
    queue.delete()
    return f"{queue.name} was stopped and given back"

  def _queue(self, job: Job) -> Queue:
    given = job.settings
    topology = read_topology(given["topology"], "tpu")
    return Queue(
      name=f"lmx-{job.name}", zone=given["zone"], project=given["project"], topology=topology,
      runtime=given["runtime"] or RENTED[topology.kind].runtime, launch=job.launch, capacity=given["capacity"],
      seconds=given["time"], extra=given["engine"], patience=self._patience,
      say=lambda text: console().print(text, markup=False),
    )  # fmt: skip

  def _files(self, job: Job) -> tuple[Path, Path, Path]:
    return job.folder / "startup.sh", job.folder / ARCHIVE, job.folder / "machine.sh"

  def _secrets_file(self, job: Job) -> str:
    return f"/dev/shm/{shlex.quote(remote_folder(job.name))}.env"
