# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Means of the steps' metrics between two log lines, throughput and model FLOPs utilization (MFU)."""

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
  """The peak of all devices of a run together, bf16 FLOP/s, or None and the reason why it is unknown."""

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
  """Peak memory so far, in bytes: the device's where it counts them, otherwise this process's."""
  stats = device.memory_stats()
  if stats and "peak_bytes_in_use" in stats:
    return float(stats["peak_bytes_in_use"])
  return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


class Meter:
  """Means over the steps since the last report, exact whatever step the run was resumed at.

  The sums are saved with checkpoints and restored, so that a resumed run logs the same numbers as an uninterrupted one.
  Times are not restored; the first step, which includes compilation, is not timed.

  Args:
    tokens_per_step: tokens in a global batch, padding included, unless `add` receives another number.
    flops: per token.
    peak: of all devices together.
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
    """The window so far, as JSON values from which `restore` gets the same floats."""
    return {"sums": dict(self._sums), "weight": self._weight, "latest": dict(self._latest), "seconds": self.seconds}

  def restore(self, saved: Mapping[str, Any]) -> None:
    """Continues a saved window. Its speed covers the steps from here on only: earlier ones ran in another process."""
    self._sums, self._weight = dict(saved["sums"]), saved["weight"]
    self._latest, self._seconds = dict(saved["latest"]), saved["seconds"]
    self._reported_seconds = self._seconds

  @property
  def seconds(self) -> float:
    """Seconds of training in all processes that the run has had, without pauses for evaluation and saving."""
    return self._seconds + (time.monotonic() - self._since if self._since is not None else 0.0)

  def add(self, metrics: Mapping[str, float], tokens: int | None = None) -> None:
    """Adds one step's metrics. Those of a skipped step are left out of the means.

    Args:
      metrics: {name: value} of the step, on the host.
      tokens: in its batch, where batches differ in size; None: `tokens_per_step`.
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
    """Adds time that the loop spent waiting for a batch."""
    self._waited += seconds if self._since is not None else 0.0

  def start(self) -> None:
    """Starts or resumes the clock."""
    if self._since is None:
      self._since = time.monotonic()

  def pause(self) -> None:
    """Stops the clock, for an evaluation or a save."""
    self._seconds, self._since = self.seconds, None

  def report(self, device: jax.Device) -> dict[str, float]:
    """The window's means and speeds, {name: value}; starts a new window. `device`: whose memory is reported."""
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
