# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Jobs on a Slurm cluster, by one sbatch script; the job's folder must be on a file system that its nodes share.

Slurm itself requeues a job when a node dies. When the command ends with anything but success or a mistake (exit code
2), the script requeues it, at most `--restarts` times; the same command then resumes the run. A time limit is announced
by SIGTERM 30 s ahead, so that the run is saved before it. What each option is there for:

- `--kill-on-bad-exit=1`: without it, srun waits for the other nodes of a run that has lost one.
- `--open-mode=append`: a requeued job would overwrite its log.
- the coordinator's address from Slurm's own table: the first node's name may resolve nowhere, and every process would
  wait for it.
- a file for mistakes: srun's exit code is that of any task, or of its kill.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from lmx.errors import LmxError, message
from lmx.exits import DONE, MISTAKE
from lmx.launch.backend import RUNNING, UNKNOWN, WAITING
from lmx.launch.command import JobCommand
from lmx.launch.engine import Action, Call, Write, answer, call, write_all
from lmx.launch.job import END, START, Job
from lmx.launch.local import ended, log_command
from lmx.launch.script import LICENCE, environment, lmx_words, replace_code
from lmx.launch.source import ShippedCode

NOTICE_SECONDS = 30
_QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "SUSPENDED")
_COORDINATOR = """\
if [[ $SLURM_NTASKS -gt 1 ]]; then
  first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  address=$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
  export LMX_COORDINATOR="${address:-$first}:$((20000 + SLURM_JOB_ID % 10000))"
fi"""
# The trap makes bash outlive a signal that the command receives too: it saves, and its code is looked at.
_TASK = """\
trap : TERM
flags=()
if [[ -n "${LMX_COORDINATOR:-}" ]]; then
  flags=(--coordinator="$LMX_COORDINATOR" --process-count="$SLURM_NTASKS" --process-index="$SLURM_PROCID")
fi"""


class Slurm:
  """A `Backend`."""

  flags: tuple[str, ...] = ("nodes", "tasks_per_node", "array")
  needs: tuple[str, ...] = ()

  def check(self, job: Job) -> None:
    command = JobCommand(job.words)
    if self._tasks(job) > 1 and command.kind != "train":
      raise LmxError(f"lmx launch: only lmx train runs as several processes, lmx {command.kind} as one. "
                     "Fix: leave out --nodes and --tasks-per-node; --array=4 divides a sweep.")  # fmt: skip
    if job.settings["array"] and command.kind != "sweep":
      raise LmxError(message("--array", got=job.settings["array"], allowed="with lmx sweep, whose trials it divides",
                             fix="--nodes, for several nodes of one run"))  # fmt: skip
    if command.kind == "sweep" and command.workdir is None:
      raise LmxError("lmx launch: the tasks of a sweep share its folder. Fix: --workdir=sweeps/NAME")

  def actions(self, job: Job, source: ShippedCode) -> Sequence[Action]:
    return [
      Write(job.folder / "task.sh", self._task(job, source)),
      Write(job.folder / "job.sbatch", self._batch(job)),
      Call(["sbatch", "--parsable", str(job.folder / "job.sbatch")]),
    ]

  def start(self, job: Job, source: ShippedCode) -> int:
    replace_code(job, source)
    actions = self.actions(job, source)
    write_all(actions)
    for mistake in job.folder.glob("mistake.*"):
      mistake.unlink()
    job.ids["slurm"] = answer(actions[-1].words).strip().partition(";")[0]  # type: ignore[union-attr]
    job.save()
    return DONE

  def state(self, job: Job) -> str:
    number = job.ids.get("slurm")
    if number is None:
      return UNKNOWN
    done = call(["squeue", "--noheader", "--array", f"--jobs={number}", "--states=all", "--format=%T %r"])
    states = [line.partition(" ")[::2] for line in done.stdout.splitlines() if line.strip()]
    active = [state for state, _ in states if state in ("RUNNING", "COMPLETING")]
    queued = [f"{state.lower()}: {reason}" for state, reason in states if state in _QUEUED]
    if active:
      return f"{RUNNING} ({len(active)} of {len(states)} tasks)" if len(states) > 1 else RUNNING
    if queued:
      return f"{WAITING} ({queued[0]})"
    return ended(job)

  def logs(self, job: Job, follow: bool) -> list[str] | str:
    return log_command(sorted(job.folder.glob(f"{job.log.name}*"), key=_natural), follow)

  def stop(self, job: Job) -> str:
    answer(["scancel", job.ids["slurm"]])  # SIGTERM, and SIGKILL after the cluster's KillWait.
    return f"scancel {job.ids['slurm']}: it saves and stops"

  def _tasks(self, job: Job) -> int:
    return int(job.settings["nodes"]) * int(job.settings["tasks_per_node"])

  def _batch(self, job: Job) -> str:
    array = job.settings["array"]
    seconds = job.settings["time"]
    options = [
      f"--job-name=lmx-{job.name}",
      f"--nodes={job.settings['nodes']}",
      f"--ntasks-per-node={job.settings['tasks_per_node']}",
      f"--output={job.log}{'.%a' if array else ''}",
      "--open-mode=append",
      "--requeue",
      f"--signal=TERM@{NOTICE_SECONDS}",
      *([f"--time={-(-seconds // 60)}"] if seconds else []),
      *([f"--array=0-{array - 1}"] if array else []),
      *job.settings["engine"],
    ]
    mistake = f"{shlex.quote(str(job.folder / 'mistake'))}.$key"
    return "\n".join([
      "#!/bin/bash", *(f"#SBATCH {option}" for option in options), LICENCE, environment(job),
      "key=${SLURM_ARRAY_TASK_ID:-0}", f"rm -f {mistake}", f"note {START} null", _COORDINATOR,
      f"srun --kill-on-bad-exit=1 bash {shlex.quote(str(job.folder / 'task.sh'))}", "code=$?",
      f"[[ -e {mistake} ]] && code={MISTAKE}", f"note {END} $code",
      f"restarts=${{SLURM_RESTART_COUNT:-0}} most={job.settings['restarts']}",
      f"if [[ $code != {DONE} && $code != {MISTAKE} && $restarts -lt $most ]]; then",
      '  echo "lmx launch: exit code $code; restart $((restarts + 1)) of at most $most"',
      '  scontrol requeue "$SLURM_JOB_ID" && sleep 60  # Slurm ends this script.',
      "fi", "exit $code", "",
    ])  # fmt: skip

  def _task(self, job: Job, source: ShippedCode) -> str:
    mistake = f"{shlex.quote(str(job.folder / 'mistake'))}.$key"
    return "\n".join([
      "#!/bin/bash", LICENCE, environment(job), "key=${SLURM_ARRAY_TASK_ID:-0}", _TASK,
      f'{lmx_words(job, source)} "${{flags[@]}}"', "code=$?", f"[[ $code == {MISTAKE} ]] && touch {mistake}",
      "exit $code", "",
    ])  # fmt: skip


def _natural(path: Path) -> list[int]:
  return [int(number) for number in re.findall(r"\d+", path.suffix)]
