# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Disturbs real runs at random moments and checks for losses, silent changes and tracebacks.

python -m tools.chaos --short                     each kind once; minutes
python -m tools.chaos --rounds=5 --output=FOLDER  five rounds of all kinds, each as often as its weight
python -m tools.chaos --kinds=kill,term --rounds=20
python -m tools.chaos --case=kill:3 --output=FOLDER  one case again

A case is a kind and a seed: the seed decides what is done, and at which share of a run's life; what the process is
doing then also depends on how fast this machine is. Failures stay in FOLDER/failures, with every process's output;
FOLDER/table.md is about every case that was tried with that FOLDER and the same code.
The exit code is 1 when a case failed.
"""

import argparse
import collections
import concurrent.futures
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.chaos.cases import (
  DISTURBANCES,
  NAMESPACE,
  ChaosError,
  Result,
  can_make_namespaces,
  enter_namespace,
  prepare,
  read_result,
  run_and_record,
)
from tools.chaos.scene import ROOT
from tools.chaos.table import report
from tools.chaos.verdict import BAD, TOOL


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="python -m tools.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--kinds", default="", help=f"some of them, with commas between: {', '.join(DISTURBANCES)}")
  parser.add_argument("--rounds", type=int, default=1, help="a round has every kind as often as its weight")
  parser.add_argument("--short", action="store_true", help="every kind once, instead of rounds")
  parser.add_argument("--seed", type=int, default=1, help="the first seed; each further case of a kind has the next")
  parser.add_argument("--jobs", type=int, default=2, help="cases at once")
  parser.add_argument("--output", type=Path, help="where results and failures stay (default: a temporary folder)")
  parser.add_argument("--case", metavar="KIND:SEED", help="one case")
  parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # In the namespace, if any.
  return parser.parse_args(argv)


def planned(kinds: str, rounds: int, seed: int, *, short: bool, namespaces: bool) -> list[tuple[str, int]]:
  """(kind, seed) of every case, kinds mixed."""
  unknown = set(filter(None, kinds.split(","))) - set(DISTURBANCES)
  if unknown:
    raise ChaosError(f"--kinds: got {', '.join(sorted(unknown))}. Allowed: {', '.join(DISTURBANCES)}")
  chosen = [DISTURBANCES[name] for name in kinds.split(",")] if kinds else list(DISTURBANCES.values())
  chosen = [kind for kind in chosen if namespaces or not kind.namespace]
  seeds = collections.Counter({kind.name: seed for kind in chosen})
  cases = []
  for _ in range(1 if short else rounds):
    for turn in range(1 if short else max((kind.weight for kind in chosen), default=0)):
      for kind in chosen:
        if turn < kind.weight:
          cases.append((kind.name, seeds[kind.name]))
          seeds[kind.name] += 1
  return cases


def spawn(kind: str, seed: int, work: Path) -> Result:
  """Runs a case in a process of its own, and in namespaces where it needs them; keeps its folder if it failed."""
  command = [sys.executable, "-m", "tools.chaos", f"--case={kind}:{seed}", f"--output={work}", "--inside"]
  prefix = list(NAMESPACE) if DISTURBANCES[kind].namespace else []
  file, folder = work / "results" / f"{kind}-{seed}.json", work / "cases" / f"{kind}-{seed}"
  file.unlink(missing_ok=True)
  done = subprocess.run([*prefix, *command], cwd=ROOT, capture_output=True, text=True)
  if not file.exists():
    return Result(kind, seed, TOOL, f"the tool itself failed: {done.stderr[-3000:]}", (), (), 0.0)
  result = read_result(file)
  if result.outcome in BAD:
    keep(folder, work / "failures" / folder.name, file)
  shutil.rmtree(folder, ignore_errors=True)
  return result


def keep(folder: Path, target: Path, result: Path) -> None:
  """Keeps a failed case's folder and result."""
  shutil.rmtree(target, ignore_errors=True)
  shutil.copytree(folder, target, symlinks=True)
  shutil.copy(result, target / "result.json")


def inside(case: str, work: Path) -> int:
  """One case in this process."""
  name, _, seed = case.partition(":")
  kind = DISTURBANCES[name]
  signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # Its child processes end with it.
  if kind.namespace:
    enter_namespace()
  result = run_and_record(kind, int(seed), work)
  if kind.namespace and result.outcome in BAD:  # The mount ends with this process.
    disk = work / "cases" / f"{name}-{seed}" / "disk"
    (disk / "filler").unlink(missing_ok=True)
    shutil.copytree(disk, disk.with_name("kept_disk"), symlinks=True)
  return 0


def run_all(cases: Sequence[tuple[str, int]], work: Path, jobs: int) -> Iterator[Result]:
  """Runs cases, `jobs` processes at once, and prints a line for each."""
  for processes in (1, 2):
    chosen = [case for case in cases if DISTURBANCES[case[0]].processes == processes]
    with concurrent.futures.ThreadPoolExecutor(max(1, jobs // processes)) as pool:
      for future in concurrent.futures.as_completed([pool.submit(spawn, *case, work) for case in chosen]):
        yield (result := future.result())
        mark = "FAILED " if result.outcome in BAD else ""
        notes = "; ".join(result.notes)
        print(f"{mark}{result.name}: {result.outcome} in {result.seconds:.0f} s; {notes}", flush=True)
        if mark:
          print(f"  {result.why}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
  args = arguments(argv)
  work = (args.output or Path(tempfile.mkdtemp(prefix="lmx_chaos_"))).absolute()
  work.mkdir(parents=True, exist_ok=True)
  try:
    if args.inside:
      return inside(args.case, work)
    namespaces = can_make_namespaces()
    if args.case:
      name, _, seed = args.case.partition(":")
      cases = planned(name, 1, int(seed), short=True, namespaces=namespaces)
    else:
      cases = planned(args.kinds, args.rounds, args.seed, short=args.short, namespaces=namespaces)
    prepare(work, {DISTURBANCES[name].processes for name, _ in cases})
    results = list(run_all(cases, work, args.jobs))
  except ChaosError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  everything = [read_result(file) for file in sorted((work / "results").glob("*.json"))]  # Of earlier calls, too.
  (work / "table.md").write_text(report(everything) + "\n")
  print(f"\n{report(everything)}\n\nresults and failures: {work}")
  if not namespaces:
    print("unshare gives no mounts here: disks and networks were tried only as far as they need none")
  return 1 if any(result.outcome in BAD for result in results) else 0


if __name__ == "__main__":
  sys.exit(main())
