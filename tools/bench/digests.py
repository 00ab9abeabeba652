# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What the digests of checkpoints cost: their share of the time to save and load parameters.

Command:  JAX_PLATFORMS=cpu python -m tools.bench.digests
"""

import argparse
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from lmx.training import checkpoint, checkpoint_choice, checkpoint_reading
from tools.bench.reporting import table


@contextlib.contextmanager
def timed(spent: dict[str, float], what: str) -> Iterator[None]:
  start = time.perf_counter()
  try:
    yield
  finally:
    spent[what] = spent.get(what, 0.0) + time.perf_counter() - start


def counting(function: Callable[..., Any], spent: dict[str, float], what: str) -> Callable[..., Any]:
  """The function, whose time is added to `spent`."""

  def call(*args: Any, **options: Any) -> Any:
    with timed(spent, what):
      return function(*args, **options)

  return call


def measure(parameters: dict[str, jax.Array], folder: Path) -> dict[str, float]:
  """Seconds to save and load the parameters, and those of them that digests take."""
  spent: dict[str, float] = {}
  write, check = checkpoint.write_digests, checkpoint_choice.check_checkpoint
  checkpoint.write_digests = counting(write, spent, "write digests")
  checkpoint_choice.check_checkpoint = counting(check, spent, "check digests")
  try:
    with timed(spent, "save"), checkpoint.Checkpointer(folder / "checkpoints") as saver:
      saver.save_parameters(parameters, {})
    wanted = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in parameters.items()}
    with timed(spent, "load"):
      jax.block_until_ready(checkpoint_reading.restore_model(folder / "checkpoints", wanted))
  finally:
    checkpoint.write_digests, checkpoint_choice.check_checkpoint = write, check
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
  return spent


def main(argv: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(prog="python -m tools.bench.digests", description=__doc__.partition("\n")[0])
  parser.add_argument("--side", type=int, default=8192, help="of each of four square float32 matrices (8192: 1 GiB)")
  parser.add_argument("--rounds", type=int, default=3)
  args = parser.parse_args(argv)
  parameters = {f"w{i}": jax.random.normal(jax.random.key(i), (args.side, args.side)) for i in range(4)}
  jax.block_until_ready(parameters)
  with tempfile.TemporaryDirectory() as folder:
    rounds = [measure(parameters, Path(folder) / str(number)) for number in range(args.rounds)]
  middle = {what: statistics.median(one[what] for one in rounds) for what in rounds[0]}
  digests, whole = middle["write digests"] + middle["check digests"], middle["save"] + middle["load"]
  rows = [(what, f"{seconds:.2f} s") for what, seconds in middle.items()]
  print(table(("", "median"), [*rows, ("digests, of save and load", f"{digests / whole:.1%}")]))


if __name__ == "__main__":
  main(sys.argv[1:])
