# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Adds up what the steps between two log lines report, and how fast they went."""

import dataclasses
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax

from lmx.units import StepFlops, chip_of

# Reported for the last step of the window; everything else is a mean over the window, weighted by loss_weight.
LATEST = ("learning_rate", "param_norm", "skipped_total", "skipped_in_a_row")


@dataclasses.dataclass(frozen=True)
class Peak:
  """What all devices of a run could do together, bf16 FLOP/s, or why there is no such figure."""

  flops: float | None
  why: str


def peak_of(devices: list[jax.Device]) -> Peak:
  """The published dense bf16 peak of one device times their number."""
  kind = devices[0].device_kind
  chip = chip_of(kind)
  if chip is None:
    return Peak(None, f"no published peak for {kind!r} in lmx/units.py")
  return Peak(chip.bf16_flops * len(devices), f"of {len(devices)} x {chip.name}, {chip.bf16_flops / 1e12:.0f} TFLOP/s")


def peak_memory(device: jax.Device) -> float:
  """Most bytes in use so far: of the device where it counts them, otherwise of this process."""
  stats = device.memory_stats()
  if stats and "peak_bytes_in_use" in stats:
    return float(stats["peak_bytes_in_use"])
  return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


class Meter:
  """Means over the steps since the last report, exact whatever step the run was resumed at.

  The sums can be saved with a checkpoint and taken up again, so a resumed run writes the numbers that an uninterrupted
  one does. Times start anew; the first step, which compiles, is not timed.

  Args:
    tokens_per_step: tokens in a global batch, padding included, unless a step says otherwise.
    flops: of one token.
    peak: of all devices.
  """

  def __init__(self, tokens_per_step: int, flops: StepFlops, peak: Peak):
    self._tokens, self._flops, self._peak = tokens_per_step, flops, peak
    self._sums: dict[str, float] = {}
    self._weight = 0.0
    self._latest: dict[str, float] = {}
    self._since: float | None = None
    self._timed = self._timed_tokens = 0
    self._waited = 0.0
    self._seconds = self._reported_seconds = 0.0

  def saved(self) -> dict[str, object]:
    """The window so far, as JSON that gives back the same floats."""
    return {"sums": dict(self._sums), "weight": self._weight, "latest": dict(self._latest), "seconds": self.seconds}

  def restore(self, saved: Mapping[str, Any]) -> None:
    """Takes up a saved window. Its speed will be that of the steps from here on: nothing else was timed here."""
    self._sums, self._weight = dict(saved["sums"]), saved["weight"]
    self._latest, self._seconds = dict(saved["latest"]), saved["seconds"]
    self._reported_seconds = self._seconds

  @property
  def seconds(self) -> float:
    """Seconds of training, over all parts of the run, pauses for evaluation and saving left out."""
    return self._seconds + (time.monotonic() - self._since if self._since is not None else 0.0)

  def add(self, metrics: Mapping[str, float], tokens: int | None = None) -> None:
    """Takes in one step's metrics; a skipped step's loss would spoil the mean, and is left out.

    Args:
      metrics: of the step.
      tokens: of its batch, where batches differ; None: `tokens_per_step`.
    """
    self._latest = {name: metrics[name] for name in LATEST}
    if self._since is not None:
      self._timed += 1
      self._timed_tokens += self._tokens if tokens is None else tokens
    if metrics["skipped"]:
      return
    weight = metrics["loss_weight"]
    self._weight += weight
    for name, value in metrics.items():
      if name not in LATEST and name not in ("loss_weight", "skipped"):
        self._sums[name] = self._sums.get(name, 0.0) + value * weight

  def waited(self, seconds: float) -> None:
    """Time that the loop stood waiting for a batch."""
    self._waited += seconds if self._since is not None else 0.0

  def start(self) -> None:
    """Starts, or goes on, counting time."""
    if self._since is None:
      self._since = time.monotonic()

  def pause(self) -> None:
    """Stops counting time, for an evaluation or a save."""
    self._seconds, self._since = self.seconds, None

  def report(self, device: jax.Device) -> dict[str, float]:
    """The window's means and speeds; starts a new window."""
    values = {name: total / self._weight for name, total in self._sums.items()} if self._weight else {}
    values |= self._latest
    elapsed = self.seconds - self._reported_seconds
    if self._timed and elapsed > 0:
      rate = self._timed_tokens / elapsed
      values |= {"tokens_per_second": rate, "step_seconds": elapsed / self._timed,
                 "data_wait_share": min(1.0, self._waited / elapsed)}  # fmt: skip
      if self._peak.flops is not None:
        values["mfu_causal"] = rate * self._flops.causal / self._peak.flops
        values["mfu_full"] = rate * self._flops.full / self._peak.flops
    values |= {"seconds": self.seconds, "peak_memory_bytes": peak_memory(device)}
    self._sums, self._weight, self._timed, self._timed_tokens, self._waited = {}, 0.0, 0, 0, 0.0
    self._reported_seconds = self.seconds
    return values
