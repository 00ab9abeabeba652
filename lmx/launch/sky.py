# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Jobs by SkyPilot, as managed jobs: https://docs.skypilot.co/en/latest/examples/managed-jobs.html.

SkyPilot finds the machines, recovers from preemptions and gives the machines back; lmx writes its task file.
"""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from lmx.exits import LOST_PROCESS, SAVED, STORAGE
from lmx.launch.backend import UNKNOWN, needs_bucket, submit
from lmx.launch.command import JobCommand
from lmx.launch.engine import Action, Call, Write, answer
from lmx.launch.job import Job
from lmx.launch.machines import accelerator_type, read_topology
from lmx.launch.source import CODE_DIR, ShippedCode
from lmx.plan.topology import TPUS

_GPU_HOST = 8  # GPUs of one machine.


class Sky:
  """A `Backend`."""

  flags: tuple[str, ...] = ("topology", "capacity")
  needs: tuple[str, ...] = ("topology",)

  def check(self, job: Job) -> None:
    read_topology(job.settings["topology"], "sky", gpus=True)
    needs_bucket(job)

  def actions(self, job: Job, source: ShippedCode) -> Sequence[Action]:
    file = job.folder / "task.yaml"  # JSON is YAML, and needs no care with quotes.
    secrets = [word for name in job.secrets for word in ("--secret", name)]  # SkyPilot reads the values itself.
    launch = ["sky", "jobs", "launch", f"--name={job.name}", *secrets, "--yes", "--async", *job.settings["engine"]]
    return [Write(file, json.dumps(self._task(job, source), indent=2) + "\n"), Call([*launch, str(file)])]

  def start(self, job: Job, source: ShippedCode) -> int:
    return submit(job, source, self.actions(job, source))

  def state(self, job: Job) -> str:
    rows = [line.split() for line in answer(["sky", "jobs", "queue", "--refresh"]).splitlines()]
    mine = [row for row in rows if job.name in row]
    return mine[0][-1].lower() if mine else UNKNOWN  # The newest comes first.

  def logs(self, job: Job, follow: bool) -> list[str] | str:
    return ["sky", "jobs", "logs", f"--name={job.name}", *([] if follow else ["--no-follow"])]

  def stop(self, job: Job) -> str:
    answer(["sky", "jobs", "cancel", f"--name={job.name}", "--yes"])
    return f"managed job {job.name} cancelled"

  def _task(self, job: Job, source: ShippedCode) -> dict[str, Any]:
    topology = read_topology(job.settings["topology"], "sky", gpus=True)
    tpu = topology.kind in TPUS
    count = 1 if tpu else int(topology.shape)
    nodes = topology.slices if tpu else -(-count // _GPU_HOST)
    accelerators = f"tpu-{accelerator_type(topology)}:1" if tpu else f"{topology.kind.upper()}:{-(-count // nodes)}"
    words = shlex.join(JobCommand(job.words).shipped(source, "."))
    several = (
      " --coordinator=$(echo \"$SKYPILOT_NODE_IPS\" | head -n 1):8476 --process-count=$SKYPILOT_NUM_NODES "
      "--process-index=$SKYPILOT_NODE_RANK" if nodes > 1 and not tpu else " --coordinator=auto" if tpu else ""
    )  # fmt: skip
    return {
      "name": job.name,
      "num_nodes": nodes,
      "workdir": str(job.folder / CODE_DIR),
      "resources": {
        "accelerators": accelerators,
        "use_spot": job.settings["capacity"] == "spot",
        "job_recovery": {
          "max_restarts_on_errors": job.settings["restarts"],
          "recover_on_exit_codes": [SAVED, LOST_PROCESS, STORAGE],
        },
      },
      "setup": f"pip install -q uv && uv venv -q --python 3.12 .venv && "
               f"uv pip install -q --python .venv/bin/python -c constraints.txt '.[{'tpu' if tpu else 'gpu'}]'",
      "run": f"exec .venv/bin/python -m lmx {words}{several}\n",
    }  # fmt: skip
