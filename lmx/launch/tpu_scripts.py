# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The two scripts of a rented TPU machine: what the launcher calls there, and the machine's own end."""

import shlex
from collections.abc import Sequence

IDLE_SECONDS = 1800  # A machine on which no training was begun for so long gives itself back.
END_SECONDS = 600  # After the run's end, the launcher has so long to give the machine back before it does so itself.
POLL_SECONDS = 30
STOP_SECONDS = 90  # A run that was asked to stop may take so long to save.
RUNNING, DEAD = "running", "dead"  # What `machine.sh code` prints, besides an exit code.


def remote_folder(name: str) -> str:
  """The job's folder on a machine, in the home folder of its user."""
  return f"lmx-{name}"


def delete_words(name: str, zone: str, project: str) -> list[str]:
  """The command that gives a queued resource back, with all of its machines."""
  return ["gcloud", "compute", "tpus", "queued-resources", "delete", name, f"--zone={zone}", f"--project={project}",
          "--force", "--quiet"]  # fmt: skip


def machine_script(words: Sequence[str], secrets: str, processes: bool) -> str:
  """machine.sh, with one verb: install, start, train, code, stop, stop-and-wait.

  Args:
    words: of the lmx command.
    secrets: the file in memory that holds them, deleted as soon as the command has them.
    processes: whether the job has several, which find each other by TPU metadata.
  """
  command = shlex.join([*words, *(["--coordinator=auto"] if processes and words[0] == "train" else [])])
  return f"""\
#!/bin/bash
# Written by lmx launch. The folder of this script is the job's.
cd "$(dirname "$0")" || exit 1
export PATH="$HOME/.local/bin:$PATH" PYTHONUNBUFFERED=1
alive() {{ [[ -e pid ]] && kill -0 "$(cat pid)" 2>/dev/null; }}
case $1 in
install)
  set -e
  rm -rf code && mkdir code && tar -xzf code.tar.gz -C code
  python3 -m pip install -q --user uv
  uv venv -q --clear --python 3.12 .venv
  uv pip install -q --python .venv/bin/python -c code/constraints.txt './code[tpu]'
  ;;
start)
  alive && [[ ! -e code.txt ]] && exit 0
  rm -f code.txt ended
  setsid nohup bash "$PWD/machine.sh" train >> log 2>&1 < /dev/null &
  echo $! > pid
  ;;
train)
  trap : TERM
  touch started
  if [[ -e {shlex.quote(secrets)} ]]; then set -a; . {shlex.quote(secrets)}; set +a; rm -f {shlex.quote(secrets)}; fi
  (cd code && exec ../.venv/bin/python -m lmx {command})
  code=$?
  echo $code > code.txt
  touch ended
  exit $code
  ;;
code) if [[ -e code.txt ]]; then cat code.txt; elif alive; then echo {RUNNING}; else echo {DEAD}; fi ;;
stop*)
  alive && kill -TERM -- "-$(cat pid)"
  [[ $1 == stop ]] || for _ in {{1..{STOP_SECONDS}}}; do alive || break; sleep 1; done
  exit 0
  ;;
*) echo "machine.sh: $1?" >&2; exit 2 ;;
esac
"""


def startup_script(
  delete: Sequence[str], folder: str, seconds: int, *, idle: int = IDLE_SECONDS, end: int = END_SECONDS,
  poll: int = POLL_SECONDS, state: str = "/var/tmp",
) -> str:  # fmt: skip
  """The script that root runs at each boot: gives the machine back when nobody else does.

  That is: `seconds` after the first boot, whatever happens; `idle` seconds after it when no training was begun; `end`
  seconds after the command's last end. Reboots don't restart the count.

  Args:
    delete: the command.
    folder: of the job, in the home folder of its user.
    seconds, idle, end, poll: times.
    state: a folder that reboots keep.
  """
  boot = f"{state}/lmx-boot"
  started, ended = f"/home/*/{folder}/started", f"/home/*/{folder}/ended"
  return f"""\
#!/bin/bash
# Written by lmx launch: this machine's own end.
[[ -e {boot} ]] || date +%s > {boot}
boot=$(cat {boot})
(
  while sleep {poll}; do
    now=$(date +%s)
    started=$(ls -d ${{LMX_HOMES:-}}{started} 2>/dev/null)
    ended=$(find ${{LMX_HOMES:-}}{ended} -printf '%Ts\\n' 2>/dev/null | sort -n | tail -n 1)
    why=""
    if (( now >= boot + {seconds} )); then why="maximal time"
    elif [[ -z "$started" ]] && (( now >= boot + {idle} )); then why="no training was begun"
    elif [[ -n "$ended" ]] && (( now >= ended + {end} )); then why="the run has ended"
    fi
    if [[ -n "$why" ]]; then
      logger "lmx: giving this machine back: $why" 2>/dev/null
      {shlex.join([*delete, "--async"])}  # Tried again until it works.
    fi
  done
) > /dev/null 2>&1 &
"""
