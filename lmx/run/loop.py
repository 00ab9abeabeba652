# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The one training loop. Objectives, models and data vary; this does not.

The order is a contract: draw batch, step, log, evaluate, save. `step` counts the updates done, and is the number of
batches drawn, so a run that resumes at step n draws batch n next. Metrics are read on the host one step late, so the
device never waits for Python; before an evaluation, a save and the end, the outstanding ones are read first.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import jax
from rich.console import Console

from lmx.console import Reporter, console, reporter
from lmx.data.batches.pipeline import EvalBatches, Loader
from lmx.data.corpus import validation_text
from lmx.data.identity import data_record
from lmx.errors import LostProcessError
from lmx.evaluation.baseline import xz_baseline
from lmx.evaluation.heldout import HeldOut, evaluate
from lmx.exits import set_safe_step
from lmx.experiment.build import Experiment
from lmx.parallel.compilation_cache import use_compilation_cache
from lmx.parallel.mesh import global_batch
from lmx.parallel.processes import StopTogether, is_first_process, noticing_lost_processes, wait_for_all
from lmx.parallel.signals import StopSignals, say_stopping
from lmx.paths import any_path
from lmx.run.opening import Shared, open_batches, open_folder
from lmx.run.report import (
  finish,
  introduce,
  report_already_finished,
  report_note,
  report_start,
  validation_line,
  write_plot,
)
from lmx.run.same_run import check_same_run
from lmx.run.samples import write_run_samples, writes_samples
from lmx.run.saving import RunSaver, safe_step
from lmx.run.status import RunStatus, note_finished
from lmx.run.step_log import Batch, StepLog
from lmx.training.checkpoint import Checkpointer
from lmx.training.checkpoint_choice import set_aside_damaged
from lmx.training.diagnosis import diagnose
from lmx.training.initialize import InitialState, initialize
from lmx.training.metrics import MetricsWriter
from lmx.training.plateau import after_evaluation
from lmx.training.resume_check import check_data, check_records, check_sources, fingerprint
from lmx.training.run_directory import CHECKPOINT_DIR, finished_step, run_write_errors, write_run_files
from lmx.training.run_lock import RunLock
from lmx.training.state import TrainState, shardings_of
from lmx.training.step import make_eval_step, make_train_step

T = TypeVar("T", covariant=True)


@dataclasses.dataclass(frozen=True)
class TrainResult:
  """How a call of `train` ended.

  Attributes:
    step: updates done since the run's first step.
    finished: whether the run reached its end; False: a signal stopped it, and it was saved.
    heldout: the last evaluation of this call, or None where none was due.
  """

  step: int
  finished: bool
  heldout: HeldOut | None


def train(
  experiment: Experiment, stop: StopSignals | None = None, *, strict: bool = False, lock: RunLock | None = None
) -> TrainResult:
  """Trains from the run's newest checkpoint, or its start, until its duration is reached or a signal asks to stop.

  Args:
    experiment: what to train.
    stop: handlers of SIGTERM and SIGINT, open or not; None: own ones, open until this function returns.
    strict: refuse to resume from an older checkpoint where the newest is damaged.
    lock: the lock of the run's folder, if the caller holds it; None: it is taken here.

  Raises:
    NonFiniteError: a loss or gradient was not finite and the policy is to stop, or too many steps were skipped.
    LostProcessError: another process of the run has ended.
    DifferentProcessesError: other processes of the run have another tokenizer, other data or other checkpoints.
    WriteError: the disk is full, or the folder is read-only.
    RunLockedError: another command is training in the run's folder.
    CheckpointDamageError: no checkpoint is intact, or the newest isn't and `strict`.
    LmxError: a checkpoint that doesn't fit, or data that doesn't continue where the run stopped.
  """
  out = console(quiet=not is_first_process())
  set_safe_step(lambda: safe_step(experiment))
  check_same_run(experiment)
  step = finished_step(experiment.run_dir, experiment.cadence.total, sampled=writes_samples(experiment))
  if step is not None:
    note_finished(experiment.run_dir, step, experiment.cadence.total)
    report_already_finished(out, experiment, step)
    return TrainResult(step, True, None)
  use_compilation_cache(experiment.compilation_cache)
  with open_folder(experiment, lock) as (lock, status):
    introduce(out, experiment, experiment.network.spec.check_kernels(jax.default_backend()))
    signals = stop or StopSignals(say_stopping)
    with open_run(experiment, out, signals, lock, status, strict=strict) as run:
      return train_to_end(run, experiment.cadence.total)


class Verbs(Protocol[T]):
  """What the loop calls: one run, or several that are trained together."""

  step: int

  def asked_to_stop(self) -> bool: ...
  def draw(self) -> Any: ...
  def advance(self, batch: Any) -> None: ...
  def log(self) -> None: ...
  def evaluate(self) -> None: ...
  def save(self) -> None: ...
  def end(self) -> T: ...


def train_to_end(run: Verbs[T], total: int) -> T:
  """The loop itself, up to step `total` or a signal."""
  while run.step < total and not run.asked_to_stop():
    batch = run.draw()
    with jax.transfer_guard("disallow"):  # Nothing else goes to or from the devices but on purpose.
      run.advance(batch)
      run.log()
    run.evaluate()
    run.save()
  return run.end()


@contextlib.contextmanager
def open_run(
  x: Experiment, out: Console, stop: StopSignals, lock: RunLock | None, status: RunStatus, *, strict: bool = False,
  shared: Shared | None = None,
) -> Iterator["Run"]:  # fmt: skip
  """A run with its files open and its state initialized; closes everything at the end, also after an error.

  Args:
    x: what to train.
    out: where to print.
    stop: signal handlers; opened here unless they are open.
    lock: of the run's folder; None in processes other than the first.
    status: of the run.
    strict: as in `train`.
    shared: with the other runs that are trained together; None: the run is alone.
  """
  if is_first_process():
    with run_write_errors(x.run_dir):
      for note in set_aside_damaged(x.run_dir / CHECKPOINT_DIR, strict=strict):
        out.print(note, markup=False)
  wait_for_all("checkpoints checked")
  with contextlib.ExitStack() as stack:
    checkpointer = Checkpointer(
      x.run_dir / CHECKPOINT_DIR,
      keep_last=x.saving.keep_last,
      keep_every_steps=x.cadence.keep,
      keep_best=x.saving.keep_best,
    )
    # Closing waits for all processes, so it is skipped once one of them is lost.
    stack.push(lambda kind, error, trace: None if isinstance(error, LostProcessError) else checkpointer.close())
    stack.enter_context(noticing_lost_processes())
    loader, heldout = open_batches(x) if shared is None else shared.batches
    if shared is None:
      stack.callback(loader.close)
    writer = None
    if is_first_process():
      writer = MetricsWriter(x.run_dir, x.policy.tensorboard, x.policy.wandb_project, x.flat_config)
      stack.callback(writer.close)
    if not stop.is_open:
      stack.enter_context(stop)
    run = Run(x, out, checkpointer, loader, heldout, writer, stop, lock, status,
              make_eval_step(x.network.task) if shared is None else shared.eval_step)  # fmt: skip
    run.begin(run.initial_state() if shared is None else shared.start(checkpointer))
    stack.callback(run.bar.close)
    yield run


class Run:
  """One call of `train`: the state, and one method for each of the loop's verbs.

  Attributes:
    step: updates done.
    bar: progress.
  """

  def __init__(
    self,
    x: Experiment,
    out: Console,
    checkpointer: Checkpointer,
    loader: Loader,
    heldout: EvalBatches,
    writer: MetricsWriter | None,
    stop: StopSignals,
    lock: RunLock | None,
    status: RunStatus,
    eval_step: Any,
  ):
    self._x, self._out, self._stop, self._together, self._status = x, out, stop, StopTogether(), status
    self._checkpointer, self._loader, self._heldout_batches, self._writer = checkpointer, loader, heldout, writer
    self._saving = RunSaver(x, checkpointer, writer, lock, lambda text: self.bar.say(text))
    network = x.network
    self._mesh = network.layout.mesh
    self._steps = StepLog(x, writer, lambda: self.bar, lambda: self._saving.saved_at, self._what_diverged,
                          status.trained)  # fmt: skip
    self._train_step = make_train_step(network.task, network.optimizer, network.options, network.abstract)
    self._eval_step = eval_step
    self._evaluated: HeldOut | None = None
    self._evaluated_at = -1
    self._data = data_record(x.corpus, x.needs, batch_size=x.rows.batch_size, seed=x.seed)
    compares = is_first_process() and x.objective.reports_bits_per_byte
    self._baseline = xz_baseline(validation_text(x.corpus)) if compares else None

  def initial_state(self) -> InitialState:
    """The state restored or initialized."""
    x = self._x
    origin = None if x.saving.start_from is None else any_path(x.saving.start_from) / CHECKPOINT_DIR
    network = x.network
    return initialize(
      self._checkpointer, network.abstract, network.plan, network.optimizer, network.make, jax.random.key(x.seed),
      start_from=origin, reference=network.reference,
    )  # fmt: skip

  def begin(self, start: InitialState) -> None:
    """Takes the state, and moves data, metrics and progress to its step."""
    x = self._x
    self._state: TrainState = start.state
    self.step, verdict = 0, ""
    if start.extra is not None:
      self.step = self._saving.saved_at = int(start.extra["position"])
      self._steps.meter.restore(start.extra["window"])
      accept = x.policy.accept_other_data
      sources = check_sources(self._data, start.extra.get("data"), accept_other=accept)
      verdict = check_data(self._loader, self.step, start.extra["fingerprint"], accept_other=accept) + sources
    if self._writer is not None:
      self._writer.truncate_after(self.step)
    write_run_files(x.run_dir, x.config_json, x.tokenizer, x.labels, new_config=True)
    report_start(self._out, start, self.step, verdict)
    report_note(self._out, self._status.goodput())
    if self._writer is not None and start.extra is not None:
      report_note(self._out, check_records(self._writer, start.extra, self.step))
    self.bar: Reporter = reporter(self._out, "step", x.cadence.total, self.step, "compiling")

  # ---------------------------------------------------------------- the loop's verbs

  def asked_to_stop(self) -> bool:
    """Whether a signal came to any process of the run and this is the step at which they all stop."""
    if self._stop.requested is not None:
      self._together.request()
    return self._together.reached(self.step)

  def draw(self) -> dict[str, jax.Array]:
    """The next batch, on the devices."""
    before = self._loader.wait_seconds
    batch = global_batch(next(self._loader), self._mesh)
    self._steps.meter.waited(self._loader.wait_seconds - before)
    return batch

  def advance(self, batch: dict[str, jax.Array]) -> None:
    """Starts the step on the devices, and does not wait for it."""
    self._state, metrics = self._train_step(self._state, batch)
    self._stop.unsaved = True
    self.step += 1
    self._steps.add(self.step, batch, metrics)

  def log(self) -> None:
    """Records the metrics of the previous step, while the devices work on the one just started."""
    self._steps.read(leave=1)
    self.bar.update(self.step)

  def evaluation_is_due(self) -> bool:
    return self.step % self._x.cadence.evaluate == 0 or self.step == self._x.cadence.total

  def evaluate(self) -> None:
    """Evaluates on the validation set when it is due."""
    if self.evaluation_is_due():
      self._steps.settle()
      self._evaluated = self._measure()
      self._evaluated_at = self.step
      self._reduce_on_plateau(self._evaluated.loss)
      self._steps.meter.start()

  def save_is_due(self) -> bool:
    """Whether it is, or the last save failed."""
    cadence = self._x.cadence
    kept = cadence.keep is not None and self.step % cadence.keep == 0
    return kept or self._saving.failed_before() or self.step % cadence.save == 0 or self.step == cadence.total

  def save(self) -> None:
    """Saves when it is due; the checkpoint is written in the background."""
    if self.save_is_due():
      self._steps.settle()
      self._checkpoint()
      self._steps.meter.start()

  def end(self) -> TrainResult:
    """Saves the last step; at the end of the run, shows samples, the loss curve and what to do next."""
    self._steps.settle()
    self._saving.make_sure(self.step, self._checkpoint)
    self.bar.close()
    finished = self.step >= self._x.cadence.total
    if finished:
      write_run_samples(self._out, self._x, self._state.evaluated, self.step)
    if is_first_process():
      plot = write_plot(self._x, self._baseline)
      finish(self._out, self._x, self.step, self._steps.meter.seconds, self._evaluated, plot, finished=finished)
    why = self._stop.requested or "a signal to another process"
    self._status.end(self.step, self._steps.meter.seconds, finished=finished, why=why)
    return TrainResult(self.step, finished, self._evaluated)

  # ---------------------------------------------------------------- of a run that others are trained with

  @property
  def state(self) -> TrainState:
    return self._state

  @property
  def evaluated(self) -> float:
    """The last validation loss; NaN before there is one."""
    return math.nan if self._evaluated is None else self._evaluated.loss

  def hold(self, step: int, state: Any) -> None:
    """Gives the run its state after a step, which was computed together with others; None: it is let go."""
    self.step, self._state = step, state

  def record(self, step: int, batch: Batch, metrics: dict[str, Any]) -> None:
    """Logs a step's metrics, which are on the host."""
    self._steps.add(step, batch, metrics)
    self._steps.read(leave=0)

  def clock(self, *, runs: bool) -> None:
    """Stops or resumes the clock of the training."""
    (self._steps.meter.start if runs else self._steps.meter.pause)()

  # ---------------------------------------------------------------- their parts

  def _what_diverged(self, batch: dict[str, jax.Array]) -> str:
    """A sentence on the arrays that diverged at a batch."""
    network = self._x.network
    with jax.transfer_guard("allow"):
      return diagnose(network.task, network.optimizer, network.options, self._state, batch)

  def _measure(self) -> HeldOut:
    """The metrics of the validation set, which are also written and printed."""
    batches = self._heldout_batches
    objective, network = self._x.objective, self._x.network
    rows = self._x.rows.eval_batch_size
    result = evaluate(
      self._eval_step, self._state.evaluated, self._state.reference, batches,
      bytes_per_target=batches.bytes_per_target if objective.reports_bits_per_byte else None, score=objective.score,
      mesh=self._mesh, carry=None if network.abstract.carry is None else network.spec.carry_shapes(rows),
    )  # fmt: skip
    if self._writer is not None:
      values = {"heldout_loss": result.loss}
      values |= {} if result.bits_per_byte is None else {"heldout_bits_per_byte": result.bits_per_byte}
      values |= {f"heldout_{name}": value for name, value in result.metrics.items()}
      values |= {"tokens": self.step * self._steps.tokens_per_step, "seconds": self._steps.meter.seconds}
      self._writer.write(self.step, values)
    self.bar.say(validation_line(self.step, result, self._baseline))
    return result

  def _reduce_on_plateau(self, loss: float) -> None:
    """Under the plateau schedule, lowers the learning rate after an evaluation that did not improve on the best."""
    factor, plateau = self._x.network.plateau_factor, self._state.plateau
    if factor is not None and plateau is not None:
      new = after_evaluation(plateau, loss, factor)
      if float(new.scale) < float(plateau.scale):
        self.bar.say(f"step {self.step:,}: no progress; the learning rate is multiplied by {factor:g}")
      new = jax.device_put(new, shardings_of(self._x.network.abstract.plateau))
      self._state = dataclasses.replace(self._state, plateau=new)

  def _checkpoint(self) -> None:
    """Starts to save the state and everything else that a resume needs."""
    if self._writer is not None:
      self._writer.flush()
    extra = {
      "position": self.step,
      "fingerprint": fingerprint(self._loader),
      "data": self._data,
      "window": self._steps.meter.saved(),
      "records": 0 if self._writer is None else self._writer.records,
      "records_digest": None if self._writer is None else self._writer.digest,
    }
    fresh = self._evaluated if self._evaluated_at == self.step else None
    loss = fresh.loss if fresh is not None and math.isfinite(fresh.loss) else None
    self._saving.save(self.step, self._state, extra, loss)
