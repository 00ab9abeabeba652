# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Small files in a bucket that change all the time: written whole, in the background, at a bounded rate.

An object can't be appended to (gcsfs's mode "a" replaces it), so metrics.jsonl and status.json are kept in memory and
written again from time to time. Imports no jax.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lmx.storage import patiently, write_atomically

_SHARE = 20.0  # Times the last upload's duration between two uploads, so that they take at most a twentieth of it.


class Upload:
  """The newest text of one object.

  Args:
    path: in a bucket.
    every: seconds between two uploads, at least.
  """

  def __init__(self, path: Path, every: float = 5.0):
    self._path, self._every, self._took = path, every, 0.0
    self._text: Callable[[], str] = str
    self._newest = self._uploaded = 0
    self._uploading, self._over = threading.Lock(), threading.Event()
    self._thread: threading.Thread | None = None

  def set(self, text: Callable[[], str]) -> None:
    """Replaces the text by what `text()` returns at the next upload, from another thread."""
    self._text = text
    self._newest += 1
    if self._thread is None:
      self._thread = threading.Thread(target=self._work, daemon=True)
      self._thread.start()

  def flush(self) -> None:
    """Returns when the newest text is in the bucket, which is tried again for some minutes.

    Raises:
      Exception: what the bucket's library raised last.
    """
    patiently(self._upload, self._path)

  def close(self) -> None:
    """Uploads the newest text, tried once, and ends the background thread.

    Raises:
      Exception: as `flush`.
    """
    self._over.set()
    self._upload()

  def _upload(self) -> None:
    with self._uploading:
      newest, begun = self._newest, time.monotonic()
      if newest != self._uploaded:
        write_atomically(self._path, self._text())
        self._uploaded, self._took = newest, time.monotonic() - begun

  def _work(self) -> None:
    while not self._over.wait(max(self._every, _SHARE * self._took)):
      with contextlib.suppress(Exception):  # The next `flush` raises it.
        self._upload()
