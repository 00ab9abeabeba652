# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Choice of a checkpoint in a folder: only committed ones count, and a damaged one is never used silently."""

import logging
import re
from collections.abc import Collection
from pathlib import Path

from lmx.errors import LmxError, message
from lmx.paths import absolute, in_bucket, move_folder
from lmx.storage import WriteError, disk_problem
from lmx.training.checkpoint_digests import CheckpointDamageError, check_checkpoint, uncommitted
from lmx.units import human_bytes

DAMAGED = "damaged_checkpoints"  # In a run's folder: checkpoints that a resume passed over.


class CheckpointWriteError(WriteError):
  """A checkpoint could not be written; earlier ones are unchanged."""


class _DiskErrors(logging.Filter):
  """Drops asyncio's tracebacks of failed writes: Orbax awaits the first that fails, and lmx reports that one."""

  def filter(self, record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return error is None or disk_problem(error) is None


_DISK_ERRORS = _DiskErrors()


def silence_repeated_disk_errors() -> None:
  """Keeps asyncio from printing every failed write of a checkpoint after the first. May be called again."""
  logging.getLogger("asyncio").addFilter(_DISK_ERRORS)


def fix_of_disk(directory: Path) -> str:
  """What to do about a full disk, with the folders that a resume doesn't need and their sizes."""
  if in_bucket(directory):
    return "check the network, the bucket and your permissions. The same command resumes the run."
  old = [directory / str(step) for step in committed_steps(directory)[:-1]]
  old += [path for path in (directory.parent / DAMAGED,) if path.is_dir()]
  sizes = {path: sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in old}
  listed = ", ".join(f"{path} ({human_bytes(size)})" for path, size in sizes.items())
  return f"free some space{f'; not needed to resume: {listed}' if listed else ''}. The same command resumes the run."


def committed_steps(directory: str | Path) -> list[int]:
  """Steps with a committed checkpoint under `directory`, ascending. Needs no `Checkpointer`, and checks no digests."""
  return [step for step in named_steps(directory) if not uncommitted(absolute(directory) / str(step))]


def named_steps(directory: str | Path) -> list[int]:
  """Steps for which `directory` has a folder, committed or not, ascending."""
  folder = absolute(directory)
  try:
    return sorted(int(path.name) for path in folder.iterdir() if re.fullmatch("0|[1-9][0-9]*", path.name))
  except (FileNotFoundError, NotADirectoryError):
    return []


def newest_intact_step(
  directory: str | Path, below: int | None = None
) -> tuple[int | None, list[CheckpointDamageError]]:
  """The newest step with an intact checkpoint, by its digests.

  Args:
    directory: a run's `checkpoints` folder.
    below: consider only steps before this one.

  Returns:
    (the step, or None; the damage of each newer checkpoint).
  """
  passed_over: list[CheckpointDamageError] = []
  for step in reversed(named_steps(directory)):
    if below is None or step < below:
      try:
        check_checkpoint(absolute(directory) / str(step))
        return step, passed_over
      except CheckpointDamageError as error:
        passed_over.append(error)
  return None, passed_over


def set_aside_damaged(directory: Path, *, strict: bool = False) -> list[str]:
  """Moves damaged checkpoints that are newer than the newest intact one out of the `checkpoints` folder.

  Args:
    directory: the run's `checkpoints` folder.
    strict: raise instead.

  Returns:
    A line for each, with the reason and its new place.

  Raises:
    CheckpointDamageError: the newest is damaged and `strict`, or none is intact.
  """
  intact, passed_over = newest_intact_step(directory)
  if not passed_over:
    return []
  committed = [error for error in passed_over if not uncommitted(error.folder)]
  if in_bucket(
    directory
  ):  # What was being written when a process was killed; Orbax deletes it, where moving is a copy.
    passed_over = committed
    if not passed_over:
      return []
  if strict or (intact is None and committed):
    fix = f"remove it to resume from step {intact}, or leave out --strict" if intact is not None else (
      f"copy it again from where it came, or start a new run with another --workdir; no checkpoint in {directory} is "
      "intact"
    )  # fmt: skip
    raise CheckpointDamageError(passed_over[0].folder, passed_over[0].reason, fix)
  lines = []
  for error in passed_over:
    target = directory.parent / DAMAGED / error.folder.name
    number = 1
    while target.exists():
      number += 1
      target = target.with_name(f"{error.folder.name}.{number}")
    move_folder(error.folder, target)
    lines.append(f"passed over checkpoint {error.folder}: {error.reason}; it is now {target}")
  return lines


def find_checkpoint(directory: str | Path, step: int | None = None) -> Path:
  """The folder of one committed checkpoint: of `step`, or the newest.

  Raises:
    LmxError: there is none.
  """
  steps = committed_steps(directory)
  if step is None and not steps:
    raise LmxError(f"{directory}: there is no complete checkpoint here. Fix: give a run directory that has one.")
  chosen = steps[-1] if step is None else step
  folder = absolute(directory) / str(chosen)
  if chosen not in steps and chosen in named_steps(directory):
    check_or_offer(folder, ())
  if chosen not in steps:
    raise LmxError(message(f"checkpoint of {directory}", got=chosen, allowed=steps or "none: there is no checkpoint"))
  return folder


def check_or_offer(folder: Path, parts: Collection[str]) -> None:
  """As `check_checkpoint`, for some parts; the error names the newest intact checkpoint before this one."""
  try:
    check_checkpoint(folder, parts)
  except CheckpointDamageError as error:
    intact, _ = newest_intact_step(folder.parent, below=int(folder.name))
    fix = (
      f"--step={intact}, the newest intact one before it"
      if intact is not None
      else "copy it again; no older one is intact"
    )
    raise CheckpointDamageError(folder, error.reason, fix) from error
