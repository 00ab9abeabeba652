# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Opening a run: its folder with lock and status, its batches, and what several runs trained together share."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from lmx.data.batches.pipeline import EvalBatches, Loader
from lmx.data.corpus import make_eval_batches, make_loader
from lmx.experiment.build import Experiment
from lmx.parallel.mesh import process_rows
from lmx.parallel.processes import is_first_process
from lmx.run.status import RunStatus, noting_status
from lmx.training.bucket_lock import lock_run
from lmx.training.checkpoint import Checkpointer
from lmx.training.initialize import InitialState
from lmx.training.run_directory import DISK_IS_FULL, run_write_errors, write_run_files
from lmx.training.run_lock import RunLock


@dataclasses.dataclass(frozen=True)
class Shared:
  """What runs that are trained together have in common.

  Attributes:
    batches: training and validation batches.
    eval_step: compiled.
    start: a run's checkpoints -> its state and origin.
  """

  batches: tuple[Loader, EvalBatches]
  eval_step: Any
  start: Callable[[Checkpointer], InitialState]


@contextlib.contextmanager
def open_folder(x: Experiment, lock: RunLock | None = None) -> Iterator[tuple[RunLock | None, RunStatus]]:
  """A run's folder, locked by this command, with the run's files and a status that is kept."""
  with contextlib.ExitStack() as stack:
    stack.enter_context(run_write_errors(x.run_dir, *DISK_IS_FULL))
    if lock is None and is_first_process():
      with run_write_errors(x.run_dir):
        lock = stack.enter_context(lock_run(x.run_dir))
    write_run_files(x.run_dir, x.config_json, x.tokenizer, x.labels, origin=x.saving.start_from)
    yield lock, stack.enter_context(noting_status(x.run_dir, x.cadence.total))


def open_batches(x: Experiment) -> tuple[Loader, EvalBatches]:
  """This process's training batches, from the first on, and its validation batches."""
  share = process_rows(x.network.layout.mesh)
  loader = make_loader(
    x.corpus,
    x.needs,
    batch_size=x.rows.batch_size,
    seed=x.seed,
    share=share,
  )
  heldout = make_eval_batches(
    x.corpus,
    x.needs,
    batch_size=x.rows.eval_batch_size,
    max_rows=x.rows.eval_rows,
    share=share,
  )
  return loader, heldout
