# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Train a model, or go on with a run that was stopped.

A run is a folder; starting the same command again goes on where it stopped. Ctrl-C saves and stops; a second Ctrl-C
stops at once.
"""

import argparse
import importlib

from lmx.cli.arguments import add_config
from lmx.cli.given_config import checked_config, working_directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
  add_config(parser)
  parser.add_argument("--workdir", metavar="FOLDER", help="the run's folder (default: runs/<config.name>)")
  parser.add_argument(
    "--accept-changes",
    action="store_true",
    help="go on with an existing run although its config differs (a longer train.duration, for one)",
  )


def run(args: argparse.Namespace) -> int:
  config = checked_config(args)
  workdir, note = working_directory(config, args.workdir, accept_changes=args.accept_changes)
  print(f"lmx train: {note}", flush=True)
  build = importlib.import_module("lmx.build")  # jax and all that needs it, once the flags are known to be good.
  loop = importlib.import_module("lmx.loop")
  loop.train(build.build(config, workdir, accept_other_data=args.accept_changes))
  return 0
