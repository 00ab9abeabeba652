# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Processes that answer requests, one JSON line each; every benchmark measures in such processes. Imports no lmx."""

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.bench.reporting import ROOT


class NoAnswerError(RuntimeError):
  """A process ended, or its time was up, before it answered."""


class Process:
  """A process with JSON lines on its standard input and output.

  Args:
    arguments: the command.
    log: file for its standard error; None: ours.
    environment: instead of this process's.
    folder: that it runs in.
    limit: seconds that it may take for an answer; None: forever.
    stop: whether it is stopped by a signal (SIGSTOP) from each answer to the next request, so that neither its spinning
      threads nor its prefetching take time from others.
  """

  def __init__(
    self,
    arguments: Sequence[str],
    *,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    limit: float | None = None,
    stop: bool = False,
  ):
    self._log, self._limit, self._stop = log, limit, stop
    errors = None if log is None else log.open("w")
    self._process = subprocess.Popen(
      arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder, env=environment
    )
    if errors is not None:
      errors.close()
    self._lines: queue.Queue[str] = queue.Queue()
    self._reader = threading.Thread(target=self._read, daemon=True)
    self._reader.start()

  def _read(self) -> None:
    for line in self._process.stdout:
      self._lines.put(line)
    self._lines.put("")

  @property
  def pid(self) -> int:
    return self._process.pid

  def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
    """Sends a request, continues the process, and waits for the answer.

    Raises:
      NoAnswerError: the process ended, or took longer than the limit.
    """
    if self._stop:
      self._process.send_signal(signal.SIGCONT)
    try:
      self._process.stdin.write(json.dumps(request) + "\n")
      self._process.stdin.flush()
    except BrokenPipeError as error:
      raise NoAnswerError(self._last_words()) from error
    return self.answer()

  def answer(self) -> dict[str, Any]:
    """Waits for the next line.

    Raises:
      NoAnswerError: the process ended, or took longer than the limit.
    """
    try:
      line = self._lines.get(timeout=self._limit)
    except queue.Empty as error:
      raise NoAnswerError(f"no answer within {self._limit:g} s") from error
    if not line:
      raise NoAnswerError(self._last_words())
    if self._stop:
      self._process.send_signal(signal.SIGSTOP)
    return json.loads(line)

  def _last_words(self) -> str:
    return "it ended without an answer" + (f": {self._log.read_text()[-3000:]}" if self._log else "; see above")

  def end(self) -> None:
    self._process.kill()
    self._process.wait()
    self._reader.join()
    with contextlib.suppress(BrokenPipeError):  # What was not sent is of no use any more.
      self._process.stdin.close()
    self._process.stdout.close()

  def __enter__(self) -> "Process":
    return self

  def __exit__(self, *_: object) -> None:
    self.end()


def python_module(name: str, *arguments: str, python: str = sys.executable) -> list[str]:
  """The command that runs a module of tools.bench."""
  return [python, "-u", "-m", f"tools.bench.{name}", *arguments]
