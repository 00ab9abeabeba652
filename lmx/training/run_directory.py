# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a run directory holds beside metrics.jsonl and its plots, and how it is made so that a kill never spoils it."""

import contextlib
import errno
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmx.config.run_config import CONFIG_FILE, IMPORTED_DIR, LABELS_FILE, TOKENIZER_DIR
from lmx.data.tokenizers.tokenizer import Tokenizer
from lmx.exits import safe
from lmx.parallel.processes import is_first_process, wait_for_all
from lmx.storage import WriteError, cannot_write
from lmx.training.checkpoint_choice import committed_steps, fix_of_disk, newest_good_step
from lmx.training.metrics import FILE as METRICS_FILE
from lmx.training.metrics import MetricsWriter
from lmx.training.run_lock import RunLock

CHECKPOINT_DIR, SAMPLE_DIR = "checkpoints", "samples"
PARTIAL = ".partial"  # A name's ending while its file or folder is not whole.


def samples_file(run_dir: Path, step: int) -> Path:
  """Where the samples of a step are kept."""
  return run_dir / SAMPLE_DIR / f"{step}.jsonl"


def finished_step(run_dir: Path, total_steps: int, *, sampled: bool) -> int | None:
  """The last step of a run that has nothing left to do; None: there is something to do.

  Args:
    run_dir: the run's folder.
    total_steps: how long it is to be.
    sampled: whether samples belong to its end.
  """
  steps = committed_steps(run_dir / CHECKPOINT_DIR)
  if not steps or steps[-1] < total_steps or (sampled and not samples_file(run_dir, steps[-1]).exists()):
    return None
  good, _ = newest_good_step(run_dir / CHECKPOINT_DIR)  # Read whole: a damaged one is no end.
  return good if good == steps[-1] else None


@contextlib.contextmanager
def run_write_errors(run_dir: Path, *reasons: int) -> Iterator[None]:
  """Makes an OSError of the block a `WriteError` about the run's folder; `reasons`: only these, of `errno`."""
  try:
    yield
  except OSError as error:
    if reasons and error.errno not in reasons:
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
  """Makes the folder complete before the first step, so that any checkpoint loads, and can be exported as it came.

  Each appears whole or not at all, whenever the process is killed; the config first, since it makes a folder a run.

  Args:
    run_dir: the run's folder; made where it is missing.
    config_json: the config as text.
    tokenizer: the run's.
    labels: what the scores of a head for labels stand for, in order.
    origin: the run that this one starts from; what it was imported with goes with it.
    new_config: write the config over an earlier one; only once nothing speaks against going on with it.
  """
  if is_first_process():
    _write_missing(run_dir, config_json, tokenizer, labels, new_config=new_config, origin=origin)
  wait_for_all("run files written")


def _write_missing(
  run_dir: Path, config_json: str, tokenizer: Tokenizer, labels: Sequence[str], *, new_config: bool = False,
  origin: str | Path | None = None,
) -> list[str]:  # fmt: skip
  """Writes what is missing of a run's files; returns its names."""
  written = []
  with run_write_errors(run_dir):
    run_dir.mkdir(parents=True, exist_ok=True)
    if new_config or not (run_dir / CONFIG_FILE).exists():
      written.append(CONFIG_FILE)
      write_atomically(run_dir / CONFIG_FILE, config_json)
    if labels and not (run_dir / LABELS_FILE).exists():
      written.append(LABELS_FILE)
      write_atomically(run_dir / LABELS_FILE, json.dumps(list(labels), ensure_ascii=False) + "\n")
    if not (run_dir / TOKENIZER_DIR).exists():
      written.append(TOKENIZER_DIR)
      partial = run_dir / f"{TOKENIZER_DIR}{PARTIAL}"
      shutil.rmtree(partial, ignore_errors=True)
      tokenizer.save(partial)
      partial.replace(run_dir / TOKENIZER_DIR)
    if origin is not None and _take_along(Path(origin).expanduser() / IMPORTED_DIR, run_dir / IMPORTED_DIR):
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
  """Writes again what was deleted or moved away from a run's folder while it ran; says what, or "".

  Args:
    run_dir, config_json, tokenizer, labels, origin: as in `write_run_files`.
    metrics: of this run.
    lock: of this run.

  Raises:
    WriteError: it can't be written.
    RunLockedError: the folder was deleted, and another command has begun a run there.
  """
  if lock is not None:
    with run_write_errors(run_dir):
      lock.take_again()
  written = _write_missing(run_dir, config_json, tokenizer, labels, origin=origin)
  if metrics.keep():
    written.append(METRICS_FILE)
  names = ", ".join(written)
  return f"warning: {names} was gone from {run_dir} while the run went on, and is written again" if names else ""


def _take_along(source: Path, target: Path) -> bool:
  """Copies a folder of small files, whole or not at all, unless it is there already; returns whether it did."""
  if source.is_dir() and not target.exists():
    partial = target.with_name(f"{target.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial)
    partial.replace(target)
    return True
  return False


def write_atomically(file: Path, text: str) -> None:
  """Writes a text file that appears whole or not at all, whenever the process is killed or the disk is full."""
  partial = file.with_name(f"{file.name}{PARTIAL}")
  partial.write_text(text, encoding="utf-8")
  partial.replace(file)
