# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The process that renders chat templates, seen from lmx: started once, used by all templates, never left behind."""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmx.errors import LmxError
from lmx.limits import limit, variable

_PROGRAM = Path(__file__).with_name("template_worker.py")


class TemplateRefusedError(Exception):
  """A template that is none, or that refuses what it was given."""


class TemplateProcess:
  """Renders templates in one child process, which is started at the first call and again after it ended.

  The child bounds itself: it ends with its input, and the kernel ends it at the limit of time, also when this process
  has died. Calls of several threads wait for each other.
  """

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._child: subprocess.Popen | None = None
    self._owner = 0

  def render(self, source: str, date: str, given: Mapping[str, Any] | None, where: str = "chat template") -> str:
    """What a template writes.

    Args:
      source: Jinja.
      date: what `strftime_now` takes for today, YYYY-MM-DD.
      given: the template's variables; None: only compile it.
      where: the template, for messages.

    Raises:
      TemplateRefusedError: with the template's own message, or the limit of size it went over.
      LmxError: it took more time or memory than the limits allow.
    """
    seconds = limit("template_seconds")
    request = {"source": source, "date": date, "given": given, "seconds": seconds, "bits": limit("template_bits"),
               "characters": limit("template_characters")}  # fmt: skip
    line = json.dumps(request, default=str) + "\n"
    with self._lock:
      try:
        answer = self._ask(line)
      except BaseException:  # Ctrl-C too: an answer that nobody read would be taken for the next one's.
        self.close()
        raise
      if not answer.endswith("\n"):
        self._explain(where, seconds)
    found = json.loads(answer)
    if "error" in found:
      raise TemplateRefusedError(found["error"])
    return found["text"]

  def _ask(self, line: str) -> str:
    """The child's answer; without a newline at its end if the child ended."""
    if self._child is None or self._owner != os.getpid() or self._child.poll() is not None:
      command = [sys.executable, "-P", str(_PROGRAM), str(limit("template_bytes"))]
      self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii")
      self._owner = os.getpid()
    assert self._child.stdin is not None
    assert self._child.stdout is not None
    try:
      self._child.stdin.write(line)
      self._child.stdin.flush()
    except BrokenPipeError:
      return ""
    return self._child.stdout.readline()

  def _explain(self, where: str, seconds: int) -> None:
    child, self._child = self._child, None
    assert child is not None
    code = child.wait()
    _close_pipes(child)
    fix = "Fix: use another template, or if you trust it"
    if code == -signal.SIGPROF:
      more = f"{variable('template_seconds')}={10 * seconds}"
      raise LmxError(f"{where}: stopped after {seconds} s of processor time for one chat. {fix}, {more}")
    raise LmxError(f"{where}: its process ended with code {code}. {fix}, a larger {variable('template_bytes')}")

  def close(self) -> None:
    """Ends the child; the next call starts another."""
    child, self._child = self._child, None
    if child is not None and self._owner == os.getpid():
      child.kill()
      child.wait()
      _close_pipes(child)


def _close_pipes(child: subprocess.Popen) -> None:
  for pipe in (child.stdin, child.stdout):
    if pipe is not None:
      with contextlib.suppress(BrokenPipeError):  # Of what was not yet written.
        pipe.close()


PROCESS = TemplateProcess()
atexit.register(PROCESS.close)
