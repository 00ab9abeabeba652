# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Jobs on a GKE cluster, by xpk workloads: https://github.com/AI-Hypercomputer/xpk."""

import shlex
from collections.abc import Sequence

from lmx.errors import LmxError
from lmx.launch.backend import UNKNOWN, needs_bucket, submit
from lmx.launch.command import JobCommand
from lmx.launch.engine import Action, Call, answer
from lmx.launch.job import Job
from lmx.launch.machines import accelerator_type, read_topology
from lmx.launch.source import CODE_DIR, ShippedCode

IMAGE = "python:3.12-slim"
# xpk copies the folder into the image, so the command finds the code where it starts.
_RUN = "pip install -q -c constraints.txt '.[tpu]' && exec python -m lmx"


class Gke:
  """A `Backend`. Kubernetes starts a lost workload again, `--restarts` times; xpk's own default is never."""

  flags: tuple[str, ...] = ("topology", "zone", "project", "cluster")
  needs: tuple[str, ...] = ("topology", "zone", "project", "cluster")

  def check(self, job: Job) -> None:
    read_topology(job.settings["topology"], "gke")
    needs_bucket(job)
    if job.secrets:
      raise LmxError("--secret: xpk takes values only on its command line, where they can be read. Fix: give the "
                     "cluster's service account access instead (Workload Identity), or --on=tpu.")  # fmt: skip
    if job.settings["time"]:
      raise LmxError("--time: xpk has no limit on a workload's time. Fix: leave it out.")

  def actions(self, job: Job, source: ShippedCode) -> Sequence[Action]:
    topology = read_topology(job.settings["topology"], "gke")
    words = JobCommand(job.words).shipped(source, ".")
    several = ["--coordinator=auto"] if words[0] == "train" else []
    quoted = f"{_RUN} {shlex.join([*words, *several])}"
    return [
      Call([
        "xpk", "workload", "create", f"--workload={job.name}", *self._where(job),
        f"--tpu-type={accelerator_type(topology)}", f"--num-slices={topology.slices}", f"--base-docker-image={IMAGE}",
        f"--script-dir={job.folder / CODE_DIR}", f"--max-restarts={job.settings['restarts']}", f"--command={quoted}",
        *job.settings["engine"],
      ])
    ]  # fmt: skip

  def start(self, job: Job, source: ShippedCode) -> int:
    return submit(job, source, self.actions(job, source))

  def state(self, job: Job) -> str:
    lines = answer(["xpk", "workload", "list", *self._where(job), f"--filter-by-job={job.name}"]).splitlines()
    rows = [" ".join(line.split()) for line in lines if job.name in line.split()]
    return rows[-1] if rows else UNKNOWN

  def logs(self, job: Job, follow: bool) -> list[str] | str:
    words = ["kubectl", "logs", f"--selector=jobset.sigs.k8s.io/jobset-name={job.name}", "--tail=-1"]
    return [*words, "--follow"] if follow else words

  def stop(self, job: Job) -> str:
    answer(["xpk", "workload", "delete", f"--workload={job.name}", *self._where(job), "--force"])
    return f"workload {job.name} deleted"

  def _where(self, job: Job) -> list[str]:
    given = job.settings
    return [f"--cluster={given['cluster']}", f"--zone={given['zone']}", f"--project={given['project']}"]
