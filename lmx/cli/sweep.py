# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx sweep`: many runs that differ in some keys of the config, and what came of them."""

import argparse
import importlib.metadata
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmx.console import console
from lmx.errors import LmxError, choose
from lmx.exits import DONE, SAVED
from lmx.parallel.signals import StopSignals
from lmx.paths import local_path
from lmx.storage import write_atomically
from lmx.sweep.file import sweep_of_file
from lmx.sweep.folder import FAILED, RESET, SweepFolder
from lmx.sweep.page import write_page
from lmx.sweep.results import as_csv, as_text, closing, read_results, rows, sorted_rows
from lmx.sweep.runner import ListSource, Runner, TrialSource, slots, train_command
from lmx.sweep.search import Search, Suggest, pruning_note, suggest_from
from lmx.sweep.space import Axis, all_keys, keys_of, listed, parse_axis, product
from lmx.sweep.trial import check_trials, named
from lmx.versions import version_problems

_LOCAL = "its trials and their claims are locked by the file system; a single run may be in a bucket"


def run(args: argparse.Namespace) -> int:
  if args.show:
    return show(args)
  config = args.config_values
  folder = SweepFolder(local_path(args.workdir, "--workdir", _LOCAL) if args.workdir else Path("sweeps") / config.name)
  check_numbers(args)
  out = console()
  if args.search is None:
    trials = named(all_trials(args))
    check_trials(args, trials)
    if args.dry_run:
      for trial in trials:
        print(shlex.join(train_command(args.config, args.overrides, trial, folder.run_dir(trial))))
      return DONE
    new = folder.open(definition(args, [*trials]))
    source: TrialSource = ListSource(trials)
    count = len(trials)
  else:
    axes, suggest = searched(args)
    new = folder.open(definition(args, []))
    source = Search(folder, args.search, suggest, args, trials=args.trials, maximize=args.mode == "max", seed=args.seed,
                    keys=[key for axis in axes for key in keys_of(axis)])  # fmt: skip
    count = args.trials
    note = pruning_note(config.optimizer.schedule) if args.search == "asha" else ""
    if note:
      out.print(note, markup=False)
  out.print(f"lmx sweep: {'new sweep' if new else 'resuming'} in {folder.path}, {count} trials", markup=False)
  if args.retry_failed:
    reset_failed(folder)
  return run_trials(args, folder, source)


def check_numbers(args: argparse.Namespace) -> None:
  """Raises LmxError for flags that don't fit each other."""
  if args.search and args.trials is None:
    raise LmxError("--search: how many trials? Fix: --trials=20")
  if args.trials is not None and not args.search:
    raise LmxError(f"--trials={args.trials}: only a search draws trials. Fix: --search=tpe")
  problems = version_problems()
  if problems:
    raise LmxError("; ".join(problems))


def all_trials(args: argparse.Namespace) -> list[dict[str, str]]:
  """The overrides of every trial, from the flags or from a file's sweep()."""
  axes = [parse_axis(flag) for flag in args.axes]
  if axes and args.sweep:
    raise LmxError("--sweep: both a file and --sweep.KEY flags. Fix: one of the two.")
  if axes:
    return product(axes)
  function, where = sweep_of_file(args.sweep or args.config)
  if takes_trial(function):
    raise LmxError(f"{where}: sweep(trial) draws its trials. Fix: --search=tpe --trials=20")
  return listed(function(), where)


def takes_trial(function: Any) -> bool:
  return bool(function.__code__.co_argcount)


def searched(args: argparse.Namespace) -> tuple[list[Axis], Suggest]:
  """The axes of a search (none for a sweep(trial) of a file), and what draws a trial."""
  axes = [parse_axis(flag) for flag in args.axes]
  if axes:
    all_keys(axes)  # Raises for a key that is given twice.
    return axes, suggest_from(axes)
  function, where = sweep_of_file(args.sweep or args.config)
  if not takes_trial(function):
    raise LmxError(f"{where}: sweep() lists its trials, and --search draws them. Fix: leave --search out.")
  return [], function


def definition(args: argparse.Namespace, trials: Sequence[Any]) -> dict[str, Any]:
  """What sweep.json holds."""
  command = shlex.join(["lmx", "sweep", f"--config={args.config}", *(f"--config.{text}" for text in args.overrides)])
  same = {"config": args.config, "overrides": args.overrides, "search": args.search, "command": command}
  if args.search:
    same |= {"space": args.axes, "file": args.sweep, "seed": args.seed}
  return {"same": same, "metric": args.metric, "mode": args.mode, "lmx": importlib.metadata.version("lmx"),
          "trials": {trial.name: dict(trial.overrides) for trial in trials}}  # fmt: skip


def reset_failed(folder: SweepFolder) -> None:
  """Forgets the failures of failed trials."""
  attempts = folder.attempts()
  for trial in folder.trials():
    if folder.state(trial, attempts, "").state == FAILED:
      folder.note(trial, RESET)


def visible_gpus() -> list[str]:
  """The indices of this machine's NVIDIA GPUs."""
  if shutil.which("nvidia-smi") is None:
    return []
  found = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
  return found.stdout.split() if found.returncode == 0 else []


def run_trials(args: argparse.Namespace, folder: SweepFolder, source: TrialSource) -> int:
  out = console()
  jobs, environments = slots(args.jobs, visible_gpus())
  runner = Runner(
    folder, source, lambda trial: train_command(args.config, args.overrides, trial, folder.run_dir(trial)),
    metric=args.metric, jobs=jobs, retries=args.retries, preemptions=args.preemptions, environments=environments,
    report=lambda text: out.print(text, markup=False),
  )  # fmt: skip

  def stop(name: str) -> None:
    os.write(2, f"\n{name}: the trials save and stop; a second one stops at once\n".encode())
    runner.stop()

  with StopSignals(stop):
    done = runner.run()
  return conclude(folder, done=done)


def conclude(folder: SweepFolder, *, done: bool) -> int:
  """Prints the table of a sweep and writes its page; returns the exit code.

  Args:
    folder: of the sweep.
    done: whether every trial has ended.

  Raises:
    LmxError: trials have failed.
  """
  out = console()
  results = read_results(folder)
  write_page(folder, results)
  write_atomically(folder.path / "sweep.csv", as_csv(results))
  out.print("\n" + as_text(results, rows(results)) + "\n", markup=False)
  for line in closing(results, folder):
    out.print(line, markup=False)
  return DONE if done else SAVED


def show(args: argparse.Namespace) -> int:
  """`lmx sweep show FOLDER`: the table or CSV; rewrites the page."""
  word, *folders = args.show
  choose("lmx sweep", word, {"show": None})
  if len(folders) != 1:
    raise LmxError("lmx sweep show: which sweep? Fix: lmx sweep show sweeps/cpu")
  folder = SweepFolder(local_path(folders[0], "show", _LOCAL))
  results = read_results(folder)
  if args.csv:
    print(as_csv(results), end="")
    return DONE
  table = sorted_rows(results, args.sort) if args.sort else rows(results)
  print(as_text(results, table))
  print(f"\n{len(results.states)} trials: {results.counts()}")
  print(f"page: {write_page(folder, results)}")
  return DONE
