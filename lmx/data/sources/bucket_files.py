# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Copies of source files that are in a bucket, in the data cache: they are read many times, and from any position.

A copy has the time of the object's last write as its own, by which a changed object is found and copied again.
"""

import datetime
import os
from pathlib import Path, PurePosixPath
from typing import Any

from lmx.errors import LmxError, message
from lmx.paths import any_path, file_system, objects_of, split
from lmx.storage import PARTIAL, patiently, write_errors

FOLDER = "sources"  # In config.data.cache_dir.
_WILDCARDS = "*?["


def fetched(pattern: str, cache_dir: str | os.PathLike[str]) -> tuple[Path, list[Path]]:
  """Copies the objects of a path, folder or glob that are not in the cache yet, or have changed.

  Args:
    pattern: gs://BUCKET/NAME, a folder or a glob.
    cache_dir: config.data.cache_dir.

  Returns:
    (the copy of the path or folder; for a glob, the folder of all copies; the copies of the files).

  Raises:
    LmxError: there are none, or the bucket can't be used.
    WriteError: the disk is full, or the bucket doesn't answer.
  """
  objects = patiently(lambda: objects_of(pattern), any_path(pattern, "config.data.sources"))
  if not objects:
    raise LmxError(message("config.data.sources", got=pattern, allowed="a path, folder or glob with at least one file"))
  root = Path(cache_dir).expanduser() / FOLDER
  prefix = root / "/".join(split(pattern))
  files = [root / name for name in objects]
  for (name, info), file in zip(objects.items(), files, strict=True):
    if ".." in PurePosixPath(name).parts:
      raise LmxError(message("config.data.sources", got=f"gs://{name}", allowed='names without ".."'))
    _fetch(name, info, file)
  if any(c in pattern for c in _WILDCARDS):
    return root, files
  for old in prefix.rglob("*") if prefix.is_dir() else ():  # Copies of objects that are gone.
    if old.is_file() and old not in files:
      old.unlink()
  return prefix, files


def _fetch(name: str, info: dict[str, Any], file: Path) -> None:
  written = int(datetime.datetime.fromisoformat(str(info["updated"])).timestamp() * 1_000_000) * 1000
  if file.is_file() and (file.stat().st_size, file.stat().st_mtime_ns) == (int(info["size"]), written):
    return
  partial = file.with_name(f".{file.name}{PARTIAL}")
  with write_errors(file, subject="config.data.cache_dir"):
    file.parent.mkdir(parents=True, exist_ok=True)
    patiently(lambda: file_system().get_file(name, str(partial)), any_path(f"gs://{name}"))
    os.utime(partial, ns=(written, written))
    partial.replace(file)
