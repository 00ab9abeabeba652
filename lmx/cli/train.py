# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Train a model, or resume a run.

A run is a folder; starting the same command again resumes where it stopped. Ctrl-C and SIGTERM save and stop; where
there is nothing new to save (before the first step), and the second time, they stop at once.

Exit codes: 0 the run is finished; 85 a signal stopped it and it was saved (the same command resumes it); 2 a mistake
in the input; 74 a disk is full, read-only or lost files (the run resumes once that is cured); 75 another process of the
run was lost, stopped or never started (start all again); 78 the processes were started with different configs, code or
data; 130 and 143 stopped at once by Ctrl-C, by SIGTERM; 1 anything unexpected.

Several processes on one or many machines make one run: start the same command in each, with the same --coordinator
and --process-count and its own --process-index, and a --workdir that all of them see. Process 0 prints. When one
fails, all end with its exit code; config.processes says how long one is waited for.
"""

import argparse
import importlib
import os
import shlex
from contextlib import nullcontext

from lmx.cli.arguments import add_config
from lmx.cli.given_config import checked_config, working_directory
from lmx.exits import DONE, SAVED, SIGNALLED, leave, safe
from lmx.parallel.signals import StopSignals, say_stopping
from lmx.storage import naming_disk_errors, quiet_background
from lmx.training.run_lock import RunLock

NOTHING_DONE = "Nothing had started."


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add_config(parser)
  parser.add_argument("--workdir", metavar="FOLDER", help="the run's folder (default: runs/<config.name>)")
  parser.add_argument(
    "--accept-changes",
    action="store_true",
    help="go on with an existing run although its config differs (a longer train.duration, for one)",
  )
  parser.add_argument(
    "--strict",
    action="store_true",
    help="refuse to resume where the newest checkpoint is damaged, instead of from an older one",
  )
  parser.add_argument(
    "--coordinator",
    metavar="HOST:PORT",
    help="where process 0 of several is found by the others, or auto: the cluster says (TPU pods, Slurm)",
  )
  parser.add_argument("--process-count", type=int, metavar="N", help="how many processes make the run")
  parser.add_argument("--process-index", type=int, metavar="I", help="which of them this one is, from 0")


def run(args: argparse.Namespace) -> int:
  with StopSignals(say_stopping, stop_at_once) as stop:
    config = checked_config(args)
    workdir, note = working_directory(config, args.workdir, accept_changes=args.accept_changes)
    if args.coordinator is not None:
      # C++ would log what is lost before lmx says it. The variable is read once, when jax is imported.
      os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    processes = importlib.import_module(
      "lmx.parallel.processes"
    )  # jax and all that needs it, once the flags are known to be good.
    limits = config.processes
    processes.start_processes(args.coordinator, args.process_count, args.process_index,
                              start_seconds=limits.start_seconds, lost_seconds=limits.lost_seconds)  # fmt: skip
    quiet_background()
    first = processes.is_first_process()
    with (
      processes.ending_together(),
      naming_disk_errors(workdir),
      RunLock(workdir) if first else nullcontext() as lock,
    ):
      if first:
        print(f"lmx train: {note}", flush=True)
      build = importlib.import_module("lmx.experiment.build")
      loop = importlib.import_module("lmx.run.loop")
      overrides = (f"--config.{text}" for text in args.overrides)
      command = shlex.join(["lmx", "train", f"--config={args.config}", *overrides])
      result = loop.train(build.build(config, workdir, accept_other_data=args.accept_changes, command=command), stop,
                          strict=args.strict, lock=lock)  # fmt: skip
  return DONE if result.finished else SAVED


def stop_at_once(number: int, name: str) -> None:
  """Ends the process after a signal that leaves nothing to be saved, or after the second one."""
  leave(SIGNALLED + number, f"{name}: stopped at once. {safe() or NOTHING_DONE}")
