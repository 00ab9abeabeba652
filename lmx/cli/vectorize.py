# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx sweep --vectorize`: trials that differ in numbers only, trained together in this process."""

import argparse
import shlex
from pathlib import Path

from lmx.cli.allocator import keep_freed_memory
from lmx.cli.given_config import working_directory
from lmx.cli.sweep import all_trials, check_numbers, conclude, definition, reset_failed
from lmx.cli.sweep import show as show_sweep
from lmx.console import console
from lmx.errors import LmxError
from lmx.exits import DONE
from lmx.parallel.signals import StopSignals, say_stopping
from lmx.storage import quiet_background
from lmx.sweep.folder import SweepFolder
from lmx.sweep.groups import grouped, train_group
from lmx.sweep.trial import check_trials, named


def run(args: argparse.Namespace) -> int:
  """Checks and groups the trials, then trains one group after another."""
  if args.show:
    return show_sweep(args)
  if args.search or args.jobs:
    flag = f"--search={args.search}" if args.search else f"--jobs={args.jobs}"
    raise LmxError(f"{flag}: --vectorize trains all trials of a list at once. Fix: leave one of the two out.")
  check_numbers(args)
  trials = named(all_trials(args))
  groups = grouped(trials, check_trials(args, trials))
  if args.dry_run:
    for number, group in enumerate(groups):
      print(f"program {number}: {' '.join(trial.name for trial in group.trials)}")
    return DONE
  keep_freed_memory()
  quiet_background()
  name = args.config_values.name
  folder = SweepFolder(Path(args.workdir).expanduser() if args.workdir else Path("sweeps") / name)
  new, out = folder.open(definition(args, trials)), console()
  for group in groups:
    for trial, config in zip(group.trials, group.configs, strict=True):
      working_directory(config, str(folder.run_dir(trial)), accept_changes=False)
  out.print(f"lmx sweep: {'new sweep' if new else 'resuming'} in {folder.path}, {len(trials)} trials", markup=False)
  if args.retry_failed:
    reset_failed(folder)
  command = shlex.join(["lmx", "train", f"--config={args.config}", *(f"--config.{text}" for text in args.overrides)])
  done = True
  with StopSignals(say_stopping) as stop:
    for group in groups:
      if stop.requested is None:
        done &= train_group(folder, group, args.metric, args.retries, stop, command,
                            lambda text: out.print(text, markup=False))  # fmt: skip
    done &= stop.requested is None
  return conclude(folder, done=done)
