# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx launch`: runs an lmx command on other machines, or on this one in the background."""

import argparse

from lmx.console import console
from lmx.exits import DONE
from lmx.launch.job import cost_before
from lmx.launch.launching import BACKENDS, DEFAULTS, launch, new_job
from lmx.launch.source import PATCH_FILE, read_source


def run(args: argparse.Namespace) -> int:
  given = {key: getattr(args, key) for key in (*DEFAULTS, "time", "restarts", "engine")}
  source = read_source()
  job = new_job(args.on, args.words, given, source, name=args.name, hidden=args.secret, price=args.price)
  out = console()
  for line in (f"job {job.name} on {job.on}, in {job.folder}", source.summary,
               cost_before(job.price, job.devices, job.settings["time"])):  # fmt: skip
    out.print(f"# {line}" if args.dry_run else line, markup=False)
  if args.dry_run:
    if source.changed:
      out.print(f"# {PATCH_FILE} of: {' '.join(source.changed)}", markup=False)
    for action in BACKENDS[job.on].actions(job, source):
      out.print(f"\n{action}", markup=False)
    return DONE
  code = launch(job, source)
  out.print(f"lmx jobs logs {job.name}", markup=False)
  return code
