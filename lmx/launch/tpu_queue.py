# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Google Cloud's queued resources, by gcloud: the commands, and what their answers mean.

States: https://docs.cloud.google.com/tpu/docs/queued-resources.
"""

import dataclasses
import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lmx.errors import LmxError
from lmx.launch.engine import call, last_lines
from lmx.launch.machines import shape_flags
from lmx.launch.tpu_scripts import delete_words
from lmx.plan.topology import Topology

ACTIVE, FAILED, SUSPENDED, SUSPENDING, DELETING = "ACTIVE", "FAILED", "SUSPENDED", "SUSPENDING", "DELETING"
LOST = (FAILED, SUSPENDED, SUSPENDING)  # Never active again: delete and recreate.
CAPACITIES = {"on-demand": [], "spot": ["--spot"], "reserved": ["--reserved"]}
FLEX_START = "flex-start"
LABEL = "lmx-launch"
_NOT_FOUND = re.compile(r"NOT_FOUND|not found|was not found", re.IGNORECASE)
_EXISTS = re.compile(r"ALREADY_EXISTS|already exists", re.IGNORECASE)
_HOPELESS = re.compile(r"quota|PERMISSION_DENIED|permission|INVALID_ARGUMENT|invalid", re.IGNORECASE)


class HopelessError(LmxError):
  """Google Cloud refuses what was asked for, such as for lack of quota: asking again does not help."""


@dataclasses.dataclass(frozen=True)
class Patience:
  """Seconds. `create`: for gcloud's answer; `appears`: until a resource whose creation was not answered is listed."""

  poll: float = 15.0
  create: float = 600.0
  appears: float = 120.0
  ssh: float = 1800.0
  gone: float = 1800.0
  stop: float = 90.0
  errors: int = 20  # Answers of gcloud in a row that are errors of its own.


@dataclasses.dataclass(frozen=True)
class Resource:
  """What `describe` says: a state, the message of a failure, and the launch that it belongs to."""

  state: str
  message: str
  launch: str


@dataclasses.dataclass
class Queue:
  """One queued resource.

  Attributes:
    name: of it, and of its node; nodes of several slices are NAME-0, NAME-1, ...
    topology: its slices.
    launch: the label by which it is told from another of the same name.
    capacity: on-demand | spot | reserved | flex-start.
    seconds: longest time that it may exist.
    extra: flags for `create`.
  """

  name: str
  zone: str
  project: str
  topology: Topology
  runtime: str
  launch: str
  capacity: str
  seconds: int
  extra: Sequence[str] = ()
  patience: Patience = Patience()
  say: Callable[[str], None] = print

  @property
  def nodes(self) -> list[str]:
    count = self.topology.slices
    return [self.name] if count == 1 else [f"{self.name}-{number}" for number in range(count)]

  # ---------------------------------------------------------------- commands

  @property
  def where(self) -> list[str]:
    return [f"--zone={self.zone}", f"--project={self.project}"]

  def create_words(self, startup: Path) -> list[str]:
    flex = self.capacity == FLEX_START
    nodes = (
      [f"--node-id={self.name}"] if len(self.nodes) == 1
      else [f"--node-count={len(self.nodes)}", f"--node-prefix={self.name}"]
    )  # fmt: skip
    return [
      "gcloud", *(["alpha"] if flex else []), "compute", "tpus", "queued-resources", "create", self.name, *self.where,
      *nodes, *shape_flags(self.topology), f"--runtime-version={self.runtime}",
      *([f"--provisioning-model={FLEX_START}", f"--max-run-duration={self.seconds}s"] if flex
        else CAPACITIES[self.capacity]),
      f"--metadata-from-file=startup-script={startup}", f"--labels={LABEL}={self.launch}",
      "--scopes=https://www.googleapis.com/auth/cloud-platform", *self.extra, "--async",
    ]  # fmt: skip

  def describe_words(self) -> list[str]:
    return ["gcloud", "compute", "tpus", "queued-resources", "describe", self.name, *self.where, "--format=json"]

  def delete_words(self) -> list[str]:
    return delete_words(self.name, self.zone, self.project)

  def ssh_words(self, node: str, command: str, worker: str = "all") -> list[str]:
    return ["gcloud", "compute", "tpus", "tpu-vm", "ssh", node, *self.where, f"--worker={worker}", "--quiet",
            f"--command={command}"]  # fmt: skip

  def scp_words(self, node: str, files: Sequence[Path], folder: str) -> list[str]:
    return ["gcloud", "compute", "tpus", "tpu-vm", "scp", *map(str, files), f"{node}:{folder}/", *self.where,
            "--worker=all", "--quiet"]  # fmt: skip

  # ---------------------------------------------------------------- what they do

  def describe(self) -> Resource | None:
    """The resource; None: there is none of this name.

    Raises:
      LmxError: gcloud failed again and again; or the resource is another launch's.
    """
    for attempt in range(self.patience.errors):
      try:
        done = call(self.describe_words(), seconds=self.patience.create)
      except subprocess.TimeoutExpired:
        continue
      if done.returncode == 0:
        return self._resource(json.loads(done.stdout))
      if _NOT_FOUND.search(done.stderr):
        return None
      if attempt == 0 and _HOPELESS.search(done.stderr):
        raise HopelessError(f"gcloud: {last_lines(done.stderr)}")
      time.sleep(self.patience.poll)
    raise LmxError(f"gcloud does not answer: {shlex.join(self.describe_words())}")

  def _resource(self, values: dict[str, Any]) -> Resource:
    state = values.get("state", {})
    failed = state.get("failedData", {}).get("error", {})
    specs = values.get("tpu", {}).get("nodeSpec", [])
    labels = [spec.get("node", {}).get("labels", {}) for spec in specs]
    launches = {label[LABEL] for label in labels if LABEL in label}
    resource = Resource(state.get("state", "UNKNOWN"), failed.get("message", ""), "".join(launches))
    if resource.launch != self.launch:
      raise LmxError(
        f"--name: the project {self.project} has a queued resource {self.name} in {self.zone} already, which this "
        f"launch did not create; it is left alone. Fix: --name={self.name}-2"
      )
    return resource

  def create(self, startup: Path) -> None:
    """Asks for the resource, and returns when it is listed.

    Raises:
      HopelessError: it is refused.
      LmxError: gcloud failed and there is no resource.
    """
    try:
      done = call(self.create_words(startup), seconds=self.patience.create)
      error = "" if done.returncode == 0 or _EXISTS.search(done.stderr) else last_lines(done.stderr)
    except subprocess.TimeoutExpired:
      error = f"no answer within {self.patience.create:.0f} s"
    if error and _HOPELESS.search(error):
      raise HopelessError(f"queued resource {self.name}: {error}")
    until = time.monotonic() + self.patience.appears
    while self.describe() is None:  # An answer that never came doesn't mean that nothing was created.
      if time.monotonic() > until:
        raise LmxError(f"queued resource {self.name} was not created: {error or 'it is not listed'}")
      time.sleep(self.patience.poll)

  def delete(self) -> None:
    """Gives the resource back, and returns when it is gone.

    Raises:
      LmxError: it is still there; the message has the command to type.
    """
    until, error = time.monotonic() + self.patience.gone, ""
    while True:
      resource = self.describe()
      if resource is None:
        return
      if time.monotonic() > until:
        raise LmxError(f"{self.name} is still there and still costs ({resource.state}). {error} "
                       f"Fix: {shlex.join(self.delete_words())}")  # fmt: skip
      if resource.state != DELETING:
        try:
          done = call(self.delete_words(), seconds=self.patience.gone)
          error = last_lines(done.stderr) if done.returncode else ""
        except subprocess.TimeoutExpired:
          error = "delete did not answer."
      time.sleep(self.patience.poll if error or resource.state == DELETING else 0)

  def on_all(self, make: Callable[[str], list[str]]) -> list[subprocess.CompletedProcess[str]]:
    """Runs a command for every node at once; a node that does not answer in time has code 124."""

    def one(node: str) -> subprocess.CompletedProcess[str]:
      try:
        return call(make(node), seconds=self.patience.ssh)
      except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess([], 124, "", f"{node}: no answer within {self.patience.ssh:.0f} s")

    with ThreadPoolExecutor(len(self.nodes)) as threads:
      return list(threads.map(one, self.nodes))
