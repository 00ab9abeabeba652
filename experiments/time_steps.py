# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Seconds per optimizer step of lmx and of Hugging Face `Trainer`: short runs of both, taking turns.

  python experiments/time_steps.py --lmx "lmx train --config=..." --peer "python experiments/trainer_peer.py ..."

Each turn is a complete run of a few steps. The time is the median over steps, or over windows of five steps, including
the making of batches and excluding compilation. Ratios are taken within a round, since the load of a machine changes
from minute to minute. Prints one line of JSON.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import tempfile
from pathlib import Path

WINDOW = 5  # Steps between two lines of lmx's metrics.


def run(command: str, *more: str) -> str:
  """The output of a command, which must succeed."""
  done = subprocess.run([*shlex.split(command), *more], capture_output=True, text=True, check=False)
  if done.returncode:
    raise SystemExit(f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
  return done.stdout


def lmx_step(command: str, steps: int) -> float:
  with tempfile.TemporaryDirectory() as folder:
    run(
      command, f"--workdir={folder}/run", f"--config.train.duration={steps} steps", "--config.evaluation.max_rows=1",
      f"--config.log.every={WINDOW} steps", "--config.optimizer.warmup=10%",
    )  # fmt: skip
    lines = map(json.loads, (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines())
    windows = [line["step_seconds"] for line in lines if "step_seconds" in line]
  return statistics.median(windows[1:])


def peer_step(command: str, steps: int) -> float:
  return json.loads(run(command, f"--max-steps={steps}").splitlines()[-1])["step_seconds"]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--lmx", required=True, help="the command of the run, without --workdir")
  parser.add_argument("--peer", required=True)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--steps", type=int, default=60)
  args = parser.parse_args()
  rounds = [(lmx_step(args.lmx, args.steps), peer_step(args.peer, args.steps)) for _ in range(args.rounds)]
  ours, theirs = (statistics.median(side) for side in zip(*rounds, strict=True))
  ratios = sorted(one / other for one, other in rounds)
  result = {"lmx_step_seconds": ours, "peer_step_seconds": theirs, "ratio": statistics.median(ratios)}
  print(json.dumps(result | {"ratios": ratios, "steps": args.steps}))


if __name__ == "__main__":
  main()
