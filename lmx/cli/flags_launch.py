# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The flags of `lmx launch` and `lmx jobs`; see `lmx.cli.flags`."""

import argparse

from lmx.cli.arguments import COUNT, INDEX, Number


def launch(parser: argparse.ArgumentParser) -> None:
  """Run an lmx command on other machines, or on this one in the background.

  lmx launch --on=local -- train --config=configs/cpu.py --workdir=runs/cpu
  lmx launch --on=slurm --nodes=2 --time=12h -- train --config=configs/gpt2.py:small --workdir=runs/gpt2
  lmx launch --on=slurm --array=4 -- sweep --sweep.optimizer.peak_lr=1e-3,2e-3,4e-3 --workdir=sweeps/lr
  lmx launch --on=tpu --topology=v5e:4x4 --zone=Z --project=P --time=12h -- train --workdir=gs://bucket/a

  The code that runs is the last commit with the changes to tracked files, which are kept as a patch. --dry-run prints
  every file and command, and does nothing. tpu stays until the run has ended, and gives the machines back; the others
  return at once, and `lmx jobs` follows them. The job's folder is in $LMX_JOBS (default: ~/.lmx/jobs).
  """
  parser.add_argument("words", nargs="*", metavar="-- COMMAND", help="train, sweep or evaluate, with its flags")
  places = ("local", "slurm", "tpu", "gke", "sky")
  parser.add_argument("--on", required=True, choices=places, help="where: this machine, "
                      "Slurm, Cloud TPUs by queued resources, GKE by xpk, or SkyPilot")  # fmt: skip
  parser.add_argument("--name", help="name of the job (default: made from the run's folder)")
  parser.add_argument("--dry-run", action="store_true", help="print every file and command, and do nothing")
  parser.add_argument("--secret", action="append", default=[], metavar="VARIABLE", help="hand over this variable of "
                      "the environment; its value reaches no file, log or command line")  # fmt: skip
  parser.add_argument("--price", type=Number(float, "a price per device-hour, at least 0", low=0),
                      help="price per device-hour, in any currency")  # fmt: skip
  parser.add_argument("--time", metavar="12h", help="longest time: 90m, 12h, 1d12h (slurm: of one start; tpu: of one "
                      "set of machines)")  # fmt: skip
  parser.add_argument("--restarts", type=INDEX, metavar="N", help="how often a command that failed is started again "
                      "(default: 20); mistakes in the input never are")  # fmt: skip
  parser.add_argument("--engine", action="append", default=[], metavar="FLAG", help="a flag for sbatch, gcloud's "
                      "create, xpk or sky, such as --engine=--partition=gpu; repeat it for several")  # fmt: skip
  parser.add_argument("--nodes", type=COUNT, metavar="N", help="slurm: nodes of one run (default: 1)")
  parser.add_argument("--tasks-per-node", type=COUNT, metavar="N", help="slurm: processes on each node (default: 1)")
  parser.add_argument("--array", type=COUNT, metavar="N", help="slurm: commands that divide the trials of a sweep")
  parser.add_argument("--topology", help="tpu, gke, sky: slices as in lmx plan (v5e:4x4, 2xv5e:4x4); sky: or GPUs "
                      "(h100:8)")  # fmt: skip
  parser.add_argument("--zone", help="tpu, gke: Google Cloud's zone")
  parser.add_argument("--project", help="tpu, gke: Google Cloud's project")
  parser.add_argument("--capacity", metavar="KIND", help="tpu: spot, on-demand, reserved or flex-start; sky: spot or "
                      "on-demand (default: spot)")  # fmt: skip
  parser.add_argument("--runtime", metavar="VERSION", help="tpu: software of the machines (default: the kind's)")
  parser.add_argument("--cluster", help="gke: name of the cluster")


def jobs(parser: argparse.ArgumentParser) -> None:
  """What became of launched jobs: their states, logs and costs.

  lmx jobs                    # one line for each job
  lmx jobs status NAME        # everything about one
  lmx jobs logs NAME          # its log; --follow waits for more
  lmx jobs stop NAME          # saves and stops it, and gives its machines back
  """
  parser.add_argument("verb", nargs="?", default="list", metavar="VERB", help="list, status, logs or stop")
  parser.add_argument("name", nargs="?", help="name of the job")
  parser.add_argument("--follow", action="store_true", help="logs: stay, and print what comes")
