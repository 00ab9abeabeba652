# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Writes a run's numbers: always to metrics.jsonl, and to TensorBoard or Weights & Biases when asked for."""

import contextlib
import importlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import xxhash

from lmx.errors import LmxError
from lmx.exits import safe
from lmx.paths import any_path, in_bucket, temporary_folder
from lmx.storage import WriteError, write_errors
from lmx.training.metrics_file import open_lines

FILE = "metrics.jsonl"


def _fix() -> str:
  return "free some space, or --workdir=PATH elsewhere. The same command resumes the run."


def _lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
  """(line, record) of every whole line. A last line cut off by a kill is left out; damage elsewhere is an error."""
  if not path.exists():
    return []
  lines = path.read_bytes().decode("utf-8", errors="replace").splitlines(keepends=True)
  found = []
  for number, line in enumerate(lines, start=1):
    try:
      if not line.endswith("\n"):
        raise ValueError("no newline at the end")
      record = json.loads(line)
      if not isinstance(record, dict) or not isinstance(record.get("step", None), int):
        raise ValueError('no whole number under "step"')
    except ValueError as error:
      if number == len(lines):
        break
      raise LmxError(f"{path}, line {number}: {error}. Fix: remove that line.") from error
    found.append((line, record))
  return found


def read_metrics(run_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Every record of a run in the order written: {"step": int, "time": unix seconds, name: number or None, ...}."""
  return [record for _, record in _lines(any_path(run_dir) / FILE)]


def _hash(text: str) -> "xxhash.xxh3_64":
  return xxhash.xxh3_64(text.encode())


def _finite(value: Any) -> float | int | None:
  """JSON has no NaN or infinity; they are written as null."""
  number = value if isinstance(value, int) else float(value)
  return number if math.isfinite(number) else None


def json_line(value: Any) -> str:
  """Objects, lists, texts and numbers as JSON that every program reads: numbers that are not finite become null."""
  return json.dumps(_all_finite(value), ensure_ascii=False, allow_nan=False)


def _all_finite(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {key: _all_finite(part) for key, part in value.items()}
  if isinstance(value, list | tuple):
    return [_all_finite(part) for part in value]
  return _finite(value) if isinstance(value, float) else value


class MetricsWriter:
  """Appends records to metrics.jsonl, one JSON object a line. Use it in one process only.

  On a disk every line is flushed at once; in a bucket, every few seconds and by `flush`.

  Attributes:
    records: in the file.
    digest: of their bytes (XXH3, 64 bits), in hexadecimal.

  Args:
    run_dir: the run's folder; made if it is missing.
    tensorboard: also write TensorBoard event files to run_dir/tensorboard.
    wandb_project: also log to this Weights & Biases project; None: don't.
    config: the flat config, shown next to the curves.

  Raises:
    LmxError: the package that TensorBoard or Weights & Biases needs is missing.
    WriteError: the disk is full, or the folder is read-only.
  """

  def __init__(
    self,
    run_dir: str | os.PathLike[str],
    tensorboard: bool = False,
    wandb_project: str | None = None,
    config: Mapping[str, Any] | None = None,
  ):
    self._dir = any_path(run_dir)
    self._path = self._dir / FILE
    with write_errors(self._path, fix=_fix):
      self._dir.mkdir(parents=True, exist_ok=True)
    self._sinks: list[Any] = []
    flat = dict(config or {})
    with contextlib.ExitStack() as on_failure:  # A second sink that can't be opened closes the first.
      if tensorboard:
        self._sinks.append(_TensorBoard(self._dir / "tensorboard", flat))
        on_failure.callback(self._sinks[-1].close)
      if wandb_project:
        self._sinks.append(_Wandb(wandb_project, self._dir, flat))
      on_failure.pop_all()
    with write_errors(self._path, fix=_fix):
      self._file = open_lines(self._path)
    self._count([line for line, _ in _lines(self._path)])

  @property
  def digest(self) -> str:
    return self._hash.hexdigest()

  def digest_of(self, records: int) -> str:
    """The digest of the first records of the file as it is on disk now."""
    return _hash("".join(line for line, _ in _lines(self._path)[:records])).hexdigest()

  def _count(self, lines: list[str]) -> None:
    self.records, self._hash = len(lines), _hash("".join(lines))

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """One record. `step` counts the optimizer updates done; numbers that are not finite are written as null."""
    record: dict[str, Any] = {"step": int(step), "time": time.time()}
    record.update({name: _finite(value) for name, value in values.items()})
    with write_errors(self._path, after=safe, fix=_fix):
      line = json.dumps(record, allow_nan=False) + "\n"
      self._file.append(line)
    self.records += 1
    self._hash.update(line.encode())
    for sink in self._sinks:
      sink.write(int(step), values)

  def truncate_after(self, step: int) -> int:
    """Drops the records of later steps, which a resumed run does again, and a half-written last line.

    The file is replaced in one move, so a kill in the middle loses nothing. Returns the number of records dropped.
    TensorBoard drops them too; Weights & Biases keeps what it has.
    """
    lines = _lines(self._path)
    kept = [line for line, record in lines if record["step"] <= step]
    with write_errors(self._path, after=safe, fix=_fix):
      self._file.replace("".join(kept))
    self._count(kept)
    for sink in self._sinks:
      sink.truncate_after(step)
    return len(lines) - len(kept)

  def keep(self) -> bool:
    """Rewrites the file where it was deleted or moved away; returns whether it was. No record is lost."""
    with write_errors(self._path, after=safe, fix=_fix):
      return self._file.restore()

  def flush(self) -> None:
    """Returns when all records would survive the end of this process, as a checkpoint needs that counts them.

    Raises:
      WriteError: they can't be written.
    """
    with write_errors(self._path, after=safe, fix=_fix):
      self._file.flush()

  def close(self) -> None:
    """Closes the file and the sinks; a second call does nothing."""
    with contextlib.suppress(WriteError), write_errors(self._path):  # What could not be written has been reported.
      self._file.close()
    while self._sinks:
      self._sinks.pop().close()

  def __enter__(self) -> "MetricsWriter":
    return self

  def __exit__(
    self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
  ) -> None:
    self.close()


def _package(name: str, key: str, fix: str) -> Any:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise LmxError(
      f"config.log.{key}: the package {name.partition('.')[0]} is missing ({error}). Fix: {fix}"
    ) from error


class _TensorBoard:
  """Scalars as TensorBoard event files, by tensorboard's own writer (no TensorFlow, no torch)."""

  def __init__(self, folder: Path, config: Mapping[str, Any]):
    fix = "pip install tensorboard, or --config.log.tensorboard=false"
    self._events = _package("tensorboard.compat.proto.event_pb2", "tensorboard", fix)
    self._summary = _package("tensorboard.compat.proto.summary_pb2", "tensorboard", fix)
    writer = _package("tensorboard.summary.writer.event_file_writer", "tensorboard", fix)
    folder.mkdir(parents=True, exist_ok=True)
    self._writer = writer.EventFileWriter(str(folder))

  def write(self, step: int, values: Mapping[str, float]) -> None:
    scalars = [self._summary.Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
    self._add(step=step, summary=self._summary.Summary(value=scalars))

  def truncate_after(self, step: int) -> None:
    """Viewers drop the points from here on, in earlier files of the run too (a session's START)."""
    start = self._events.SessionLog(status=self._events.SessionLog.START)
    self._add(step=step + 1, session_log=start)

  def _add(self, **fields: Any) -> None:
    self._writer.add_event(self._events.Event(wall_time=time.time(), **fields))

  def close(self) -> None:
    self._writer.close()


class _Wandb:
  """Scalars to Weights & Biases; a resumed run continues the same run there, by the id kept in the run's folder."""

  def __init__(self, project: str, run_dir: Path, config: Mapping[str, Any]):
    wandb = _package("wandb", "wandb_project", "pip install wandb, or --config.log.wandb_project=none")
    id_file = run_dir / "wandb_id.txt"
    known = id_file.read_text().strip() if id_file.exists() else None
    self._run = wandb.init(
      project=project,
      dir=str(temporary_folder() if in_bucket(run_dir) else run_dir),
      config=dict(config),
      name=run_dir.name,
      id=known,
      resume="allow",
    )
    id_file.write_text(self._run.id)

  def write(self, step: int, values: Mapping[str, float]) -> None:
    self._run.log(dict(values), step=step)

  def truncate_after(self, step: int) -> None:
    """Nothing: Weights & Biases ignores steps it has already seen."""

  def close(self) -> None:
    self._run.finish()
