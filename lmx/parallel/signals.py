# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Handlers of SIGTERM and SIGINT: the first asks to save and stop, a second one stops at once. Imports no jax.

Python runs signal handlers in the main thread only, and not before it returns from C++: a compilation, or a collective
that another process never joins. So a separate thread reads the signals.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
  """A context manager that handles the signals while it is open, and restores the earlier handlers afterwards.

      with StopSignals(lambda name: print(f"{name}: saving and stopping; a second one stops at once")) as stop:
        while not stop.requested: ...

  Outside the main thread (a notebook's worker) Python allows no handlers, and a stop is never requested.

  Attributes:
    unsaved: whether there is work that a stop must save. If not, the first signal stops at once.
  """

  def __init__(
    self, on_first: Callable[[str], None] = lambda name: None, at_once: Callable[[int, str], None] | None = None
  ):
    """Closed handlers.

    Args:
      on_first: called with the signal's name when the loop should stop, within a second, from any thread.
      at_once: ends the process, given a signal's number and name, in a separate thread; None: there is no thread,
        `unsaved` is ignored, and a second signal has its default action.
    """
    self.unsaved = False
    self._on_first, self._at_once = on_first, at_once
    self._received: str | None = None
    self._announced = threading.Lock()
    self._before: dict[signal.Signals, Any] = {}
    self._pipe: tuple[int, int] | None = None
    self._wakeup_before = -1

  def __enter__(self) -> "StopSignals":
    if threading.current_thread() is not threading.main_thread():
      return self
    if self._at_once is not None:
      self._pipe = os.pipe()
      os.set_blocking(self._pipe[1], False)
      self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
      threading.Thread(target=self._listen, args=(self._pipe[0], self._at_once), daemon=True).start()
    self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
    return self

  def __exit__(self, *exception: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}
    if self._pipe is not None:
      signal.set_wakeup_fd(self._wakeup_before)
      os.close(self._pipe[1])  # The thread reads to the end, and closes the other end.
      self._pipe = None

  def _listen(self, pipe: int, at_once: Callable[[int, str], None]) -> None:
    count = 0
    while data := os.read(pipe, 1):
      if data[0] not in SIGNALS:
        continue
      number, count = signal.Signals(data[0]), count + 1
      if count > 1 or not self.unsaved:
        at_once(number, number.name)
      self._announce(number.name)
    os.close(pipe)

  def _announce(self, name: str) -> None:
    """Requests the stop once. Takes no lock: the main thread's handler may interrupt it here."""
    self._received = self._received or name
    if self._announced.acquire(blocking=False):
      self._on_first(name)

  def _handle(self, number: int, frame: FrameType | None) -> None:
    if self._at_once is not None:
      return  # The thread reads it.
    if self._received is not None:
      # The default action ends the process at once; a checkpoint being written stays uncommitted, and is ignored.
      signal.signal(number, signal.SIG_DFL)
      os.kill(os.getpid(), number)
      return
    self._announce(signal.Signals(number).name)

  @property
  def is_open(self) -> bool:
    """Whether the signals are handled here now."""
    return bool(self._before)

  @property
  def requested(self) -> str | None:
    """The name of the first signal received, or None."""
    return self._received


def say_stopping(name: str) -> None:
  """Prints that a signal was received; not by Python's streams, which may be locked."""
  os.write(2, f"\n{name}: saving, then stopping; a second one stops at once\n".encode())
