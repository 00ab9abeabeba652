# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""SIGTERM and SIGINT: the first asks the loop to save and stop, a second one stops at once."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
  """Handles the signals while it is open, and gives them back as they were when it closes.

      with StopSignals(lambda name: print(f"{name}: saving and stopping; a second one stops at once")) as stop:
        while not stop.requested: ...

  Outside the main thread (a notebook's worker) Python allows no handlers, and nothing is ever requested.
  """

  def __init__(self, on_first: Callable[[str], None] = lambda name: None):
    self._on_first = on_first
    self._received: str | None = None
    self._before: dict[signal.Signals, Any] = {}

  def __enter__(self) -> "StopSignals":
    if threading.current_thread() is threading.main_thread():
      self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
    return self

  def __exit__(self, *exception: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def _handle(self, number: int, frame: FrameType | None) -> None:
    if self._received is not None:
      # The default action ends the process here and now; a checkpoint being written stays unfinished, and is ignored.
      signal.signal(number, signal.SIG_DFL)
      os.kill(os.getpid(), number)
      return
    self._received = signal.Signals(number).name
    self._on_first(self._received)

  @property
  def requested(self) -> str | None:
    """The name of the signal that this process got, or None."""
    return self._received

  def agreed(self) -> bool:
    """Whether any process got one. Every process must call this at the same step: they wait for each other."""
    mine = self._received is not None
    if jax.process_count() == 1:
      return mine
    return bool(np.any(multihost_utils.process_allgather(np.asarray(mine))))
