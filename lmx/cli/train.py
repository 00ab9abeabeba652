# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx train`: train a model, or resume a run."""

import argparse
import shlex
from contextlib import nullcontext

from lmx.cli.given_config import working_directory
from lmx.exits import DONE, SAVED
from lmx.experiment.build import build
from lmx.parallel.processes import ending_together, is_first_process, start_processes
from lmx.run import loop
from lmx.storage import naming_disk_errors, quiet_background
from lmx.training.bucket_lock import lock_run


def run(args: argparse.Namespace) -> int:
  """Starts or joins the run's processes and trains; `args.stop` handles Ctrl-C and SIGTERM already."""
  config = args.config_values
  workdir, note = working_directory(config, args.workdir, accept_changes=args.accept_changes)
  start_processes(args.coordinator, args.process_count, args.process_index,
                  start_seconds=config.processes.start_seconds, lost_seconds=config.processes.lost_seconds)  # fmt: skip
  quiet_background()
  first = is_first_process()
  with ending_together() as ending, naming_disk_errors(workdir), lock_run(workdir) if first else nullcontext() as lock:
    if first:
      print(f"lmx train: {note}", flush=True)
    overrides = (f"--config.{text}" for text in args.overrides)
    command = shlex.join(["lmx", "train", f"--config={args.config}", *overrides])
    experiment = build(config, workdir, accept_other_data=args.accept_changes, command=command)
    result = loop.train(experiment, args.stop, strict=args.strict, lock=lock)
    ending.code = DONE if result.finished else SAVED
  return ending.code
