# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Cache folders that are whole or not there at all."""

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_name(*parts: str) -> str:
  """A folder name that a person can read, ending in the first half of a hash (the last part)."""
  readable = [re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_.")[-40:] for part in parts[:-1]]
  return "-".join([*readable, parts[-1][:16]])


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
  """A folder to write into, which gets its name when the block ends well and is removed when it does not.

  When another process has finished the same folder first, its result stays.
  """
  folder.parent.mkdir(parents=True, exist_ok=True)
  mark = f".partial-{socket.gethostname()}-"
  _remove_abandoned(folder.parent, mark)
  partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}{mark}{os.getpid()}-", dir=folder.parent))
  try:
    yield partial
    partial.chmod(0o755)
    try:
      partial.rename(folder)
    except OSError:
      if not folder.exists():
        raise
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(parent: Path, mark: str) -> None:
  """Removes what processes of this machine that are gone have left half-written."""
  for path in parent.glob(f"*{mark}*"):
    pid = path.name.rpartition(mark)[2].partition("-")[0]
    try:
      os.kill(int(pid), 0)
    except ProcessLookupError:
      shutil.rmtree(path, ignore_errors=True)
    except (PermissionError, ValueError):
      continue
