# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A run's directory: config, labels, tokenizer and imported files, written atomically, so that a kill is harmless."""

import contextlib
import errno
import json
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from lmx.config.run_config import CONFIG_FILE, IMPORTED_DIR, LABELS_FILE, TOKENIZER_DIR
from lmx.data.tokenizers.tokenizer import Tokenizer
from lmx.data.tokenizers.vocabulary import DESCRIPTION_FILE
from lmx.errors import LmxError
from lmx.exits import safe
from lmx.parallel.processes import is_first_process, wait_for_all
from lmx.paths import any_path, files_under, in_bucket, is_storage_error, local_copy
from lmx.storage import WriteError, cannot_write, patiently, write_atomically, writing_folder
from lmx.training.checkpoint_choice import committed_steps, fix_of_disk, newest_intact_step
from lmx.training.metrics import FILE as METRICS_FILE
from lmx.training.metrics import MetricsWriter
from lmx.training.run_lock import RunLock

CHECKPOINT_DIR, SAMPLE_DIR = "checkpoints", "samples"


def samples_file(run_dir: Path, step: int) -> Path:
  """The file of a step's samples."""
  return run_dir / SAMPLE_DIR / f"{step}.jsonl"


def finished_step(run_dir: Path, total_steps: int, *, sampled: bool) -> int | None:
  """The last step of a finished run; None for one that isn't finished.

  Args:
    run_dir: the run's folder.
    total_steps: the run's duration.
    sampled: whether the run writes samples at its end.
  """
  steps = committed_steps(run_dir / CHECKPOINT_DIR)
  if not steps or steps[-1] < total_steps or (sampled and not samples_file(run_dir, steps[-1]).exists()):
    return None
  intact, _ = newest_intact_step(run_dir / CHECKPOINT_DIR)  # Checks all files: a damaged last checkpoint is made again.
  return intact if intact == steps[-1] else None


@contextlib.contextmanager
def run_write_errors(run_dir: Path, *reasons: int) -> Iterator[None]:
  """Turns an error of a disk or a bucket in the block into a `WriteError` about the run's folder.

  Args:
    run_dir: the run's folder.
    *reasons: values of `errno` to convert; none: all.

  Raises:
    WriteError: what can't be written, and what could be deleted.
  """
  try:
    yield
  except Exception as error:
    if isinstance(error, LmxError) or not is_storage_error(error):
      raise
    if reasons and getattr(error, "errno", None) not in reasons:
      raise
    text = cannot_write(run_dir, error, after=safe(), fix=fix_of_disk(run_dir / CHECKPOINT_DIR))
    raise WriteError(text) from error


DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def write_run_files(
  run_dir: Path,
  config_json: str,
  tokenizer: Tokenizer,
  labels: Sequence[str] = (),
  *,
  new_config: bool = False,
  origin: str | Path | None = None,
) -> None:
  """Completes the run's folder before the first step, so that every checkpoint in it can be loaded and exported.

  Each file or folder appears complete or not at all, whenever the process is killed; the config is written first, since
  it makes a folder a run.

  Args:
    run_dir: the run's folder; created if it is missing.
    config_json: the config as text.
    tokenizer: the run's.
    labels: names of the label head's scores, in order; () without such a head.
    new_config: replace an earlier config; only after the run is known to be able to resume with the new one.
    origin: the run that this one starts from; the files it was imported with are copied.

  Raises:
    WriteError: a file can't be written.
  """
  if is_first_process():
    write = partial(_write_missing, run_dir, config_json, tokenizer, labels, new_config=new_config, origin=origin)
    patiently(write, run_dir)
  wait_for_all("run files written")


def _write_missing(
  run_dir: Path, config_json: str, tokenizer: Tokenizer, labels: Sequence[str], *, new_config: bool = False,
  origin: str | Path | None = None,
) -> list[str]:  # fmt: skip
  """Writes the files of a run that are missing; returns their names."""
  written = []
  with run_write_errors(run_dir):
    run_dir.mkdir(parents=True, exist_ok=True)
    if new_config or not (run_dir / CONFIG_FILE).exists():
      written.append(CONFIG_FILE)
      write_atomically(run_dir / CONFIG_FILE, config_json)
    if labels and not (run_dir / LABELS_FILE).exists():
      written.append(LABELS_FILE)
      write_atomically(run_dir / LABELS_FILE, json.dumps(list(labels), ensure_ascii=False) + "\n")
    if not has_tokenizer(run_dir):
      written.append(TOKENIZER_DIR)
      with writing_folder(run_dir / TOKENIZER_DIR, last=DESCRIPTION_FILE) as folder:
        tokenizer.save(folder)
    if origin is not None and _copy_folder(any_path(origin) / IMPORTED_DIR, run_dir / IMPORTED_DIR):
      written.append(IMPORTED_DIR)
  return written


def keep_run_folder(
  run_dir: Path,
  config_json: str,
  tokenizer: Tokenizer,
  labels: Sequence[str] = (),
  *,
  origin: str | Path | None = None,
  metrics: MetricsWriter,
  lock: RunLock | None = None,
) -> str:
  """Writes files again that were deleted or moved away from a run's folder during the run.

  Args:
    run_dir, config_json, tokenizer, labels, origin: as in `write_run_files`.
    metrics: writer of this run's metrics.
    lock: this run's.

  Returns:
    A warning with their names, or "".

  Raises:
    WriteError: a file can't be written.
    RunLockedError: the folder was deleted, and another command has started a run there.
  """
  if lock is not None:
    with run_write_errors(run_dir):
      patiently(lock.take_again, run_dir)
  written = patiently(partial(_write_missing, run_dir, config_json, tokenizer, labels, origin=origin), run_dir)
  if metrics.keep():
    written.append(METRICS_FILE)
  names = ", ".join(written)
  return f"warning: {names} disappeared from {run_dir} during the run, and is written again" if names else ""


def _copy_folder(source: Path, target: Path) -> bool:
  """Copies a folder of small files, unless the target has them; returns whether it did."""
  if not source.is_dir() or (target.exists() and not in_bucket(target)):
    return False
  if in_bucket(target) and files_under(source).keys() <= files_under(target).keys():
    return False
  with writing_folder(target) as folder:
    shutil.copytree(local_copy(source), folder, dirs_exist_ok=True)
  return True


def has_tokenizer(run_dir: Path) -> bool:
  """Whether the tokenizer of a run is there: on a disk its folder appears at once, in a bucket this file comes last."""
  folder = run_dir / TOKENIZER_DIR
  return (folder / DESCRIPTION_FILE).exists() if in_bucket(run_dir) else folder.exists()
