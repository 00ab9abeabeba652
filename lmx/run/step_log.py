# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Log of the training steps: metrics read one step late, checked for divergence, averaged, printed and written."""

import collections
from collections.abc import Callable

import jax

from lmx.console import Reporter
from lmx.evaluation.heldout import bits_per_byte
from lmx.experiment.build import Experiment
from lmx.run.report import progress_note
from lmx.training.divergence import Watch
from lmx.training.meter import Meter, peak_of
from lmx.training.metrics import MetricsWriter

Batch = dict[str, jax.Array]  # Global (B, ...) arrays.


class StepLog:
  """The metrics of the steps that were started, until they are written.

  Attributes:
    meter: means and speeds since the last log line.
    tokens_per_step: in a global batch, padding included.
  """

  def __init__(
    self,
    x: Experiment,
    writer: MetricsWriter | None,
    bar: Callable[[], Reporter],
    saved_at: Callable[[], int],
    diagnose: Callable[[Batch], str],
    trained: Callable[[int, float], None],
  ):
    """A log without any step.

    Args:
      x: the experiment.
      writer: of metrics.jsonl; None in processes other than the first.
      bar: the progress, which may change.
      saved_at: the step of the last checkpoint.
      diagnose: batch -> a sentence on which arrays diverged at it.
      trained: called with the step and the seconds of training, at each line of the log.
    """
    self._x, self._writer, self._bar, self._saved_at = x, writer, bar, saved_at
    self._trained = trained
    self.tokens_per_step = x.rows.batch_size * x.rows.length
    flops = x.network.spec.flops_per_token(x.rows.length, x.rows.encoder_length)
    self.meter = Meter(self.tokens_per_step, flops, peak_of(list(x.network.layout.mesh.devices.flat)))
    self._watch = Watch(x.policy.nonfinite, x.policy.max_skipped, diagnose)
    self._outstanding: collections.deque[tuple[int, Batch, dict[str, jax.Array]]] = collections.deque()

  def add(self, step: int, batch: Batch, metrics: dict[str, jax.Array]) -> None:
    """Adds a step that was just started; its metrics are still being computed on the devices."""
    self._outstanding.append((step, batch, metrics))

  def read(self, *, leave: int) -> None:
    """Reads the metrics of all but the last `leave` steps, waiting for them, and logs where that is due.

    Raises:
      NonFiniteError: a step was not finite, or too many were skipped.
    """
    intervals = self._x.cadence
    while len(self._outstanding) > leave:
      step, batch, on_device = self._outstanding.popleft()
      metrics = {name: float(value) for name, value in jax.device_get(on_device).items()}
      note = self._watch.check(step, metrics, batch, max(self._saved_at(), 0))
      if note:
        self._bar().say(note)
      self.meter.add(metrics, batch["tokens"].size)
      self.meter.start()  # After the first step, which includes compilation.
      if step % intervals.log == 0 or step == intervals.total:
        self._write(step)

  def settle(self) -> None:
    """Waits for all steps started so far, and stops the clock."""
    self.read(leave=0)
    self.meter.pause()

  def _write(self, step: int) -> None:
    values = self.meter.report(jax.local_devices()[0])
    values["tokens"] = step * self.tokens_per_step
    ratio = self._x.rows.epoch.bytes_per_target
    if "nll" in values and self._x.objective.reports_bits_per_byte and ratio is not None:
      values["bits_per_byte"] = bits_per_byte(values["nll"], ratio)
    if self._writer is not None:
      self._writer.write(step, values)
    self._trained(step, self.meter.seconds)
    self._bar().update(step, progress_note(values))
