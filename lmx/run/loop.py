# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The one training loop. Objectives, models and data vary; this does not.

The order is a contract: draw batch, step, log, evaluate, save. `step` counts the updates done, and is the number of
batches drawn, so a checkpoint at step n continues with batch n. Metrics are read on the host one step late, so the
device never waits for Python; before an evaluation, a save and the end, what is outstanding is read first.
"""

import collections
import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from lmx.console import Reporter, console, reporter
from lmx.data.batches.pipeline import EvalBatches, Loader
from lmx.data.corpus import make_eval_batches, make_loader, validation_text
from lmx.data.identity import data_record
from lmx.errors import LostProcessError
from lmx.evaluation.baseline import xz_baseline
from lmx.evaluation.heldout import HeldOut, bits_per_byte, evaluate
from lmx.exits import say_what_is_saved_by
from lmx.experiment.build import Experiment
from lmx.inference.generate import generate
from lmx.parallel.compilation_cache import use_compilation_cache
from lmx.parallel.mesh import global_batch, process_rows
from lmx.parallel.processes import StopTogether, is_first_process, noticing_lost_processes, wait_for_all
from lmx.parallel.signals import StopSignals, say_stopping
from lmx.run.report import (
  finish,
  heldout_line,
  introduce,
  progress_note,
  say_finished_before,
  say_start,
  say_warning,
  show_samples,
  write_plot,
  write_samples,
)
from lmx.run.same_run import check_same_run
from lmx.run.saving import RunSaver, what_is_saved
from lmx.training.checkpoint import Checkpointer
from lmx.training.checkpoint_choice import set_aside_damaged
from lmx.training.diagnosis import diagnose
from lmx.training.divergence import Watch
from lmx.training.initialize import InitialState, initialize
from lmx.training.meter import Meter, peak_of
from lmx.training.metrics import MetricsWriter
from lmx.training.plateau import after_evaluation
from lmx.training.resume_check import check_data, check_records, check_sources, fingerprint
from lmx.training.run_directory import CHECKPOINT_DIR, DISK_IS_FULL, finished_step, run_write_errors, write_run_files
from lmx.training.run_lock import RunLock
from lmx.training.state import TrainState, shardings_of
from lmx.training.step import make_eval_step, make_train_step


@dataclasses.dataclass(frozen=True)
class TrainResult:
  """How a call of `train` ended.

  Attributes:
    step: updates done in the whole run.
    finished: whether the run reached its end; False: a signal stopped it, and it was saved.
    heldout: the last evaluation of this call, or None where none was due.
  """

  step: int
  finished: bool
  heldout: HeldOut | None


def train(
  experiment: Experiment, stop: StopSignals | None = None, *, strict: bool = False, lock: RunLock | None = None
) -> TrainResult:
  """Trains until the run's duration is reached or a signal asks to stop, from wherever the run is.

  Args:
    experiment: what to train.
    stop: signals that are handled already; None: they are handled from here to the end.
    strict: refuse to resume from an older checkpoint where the newest is damaged.
    lock: of the run's folder, held already; None: it is taken here.

  Raises:
    NonFiniteError: a loss or gradient was not finite and the policy is to stop, or too many steps were skipped.
    LostProcessError: another process of the run has ended.
    DifferentProcessesError: other processes of the run have another tokenizer, other data or other checkpoints.
    WriteError: the disk is full, or the folder may only be read.
    RunLockedError: another command is training in the run's folder.
    CheckpointDamageError: no checkpoint is whole, or the newest isn't and `strict`.
    LmxError: a checkpoint that doesn't fit, or data that doesn't continue where the run stopped.
  """
  out = console(quiet=not is_first_process())
  say_what_is_saved_by(lambda: what_is_saved(experiment))
  check_same_run(experiment)
  sampled = bool(experiment.samples.prompts) and experiment.objective.reports_bits_per_byte and jax.process_count() == 1
  step = finished_step(experiment.run_dir, experiment.cadence.total, sampled=sampled)
  if step is not None:
    say_finished_before(out, experiment, step)
    return TrainResult(step, True, None)
  use_compilation_cache(experiment.compilation_cache)
  with contextlib.ExitStack() as stack:
    stack.enter_context(run_write_errors(experiment.run_dir, *DISK_IS_FULL))
    if lock is None and is_first_process():
      with run_write_errors(experiment.run_dir):
        lock = stack.enter_context(RunLock(experiment.run_dir))
    write_run_files(experiment.run_dir, experiment.config_json, experiment.tokenizer, experiment.labels,
                    origin=experiment.saving.start_from)  # fmt: skip
    introduce(out, experiment, experiment.network.spec.check_kernels(jax.default_backend()))
    signals = stop or StopSignals(say_stopping)
    run = stack.enter_context(open_run(experiment, out, signals, lock, strict=strict))
    while run.step < experiment.cadence.total and not run.asked_to_stop():
      batch = run.draw()
      with jax.transfer_guard("disallow"):  # Nothing else goes to or from the devices but on purpose.
        run.advance(batch)
        run.log()
      run.evaluate()
      run.save()
    return run.end()


def open_batches(x: Experiment) -> tuple[Loader, EvalBatches]:
  """This process's training batches, from the first on, and its held-out batches."""
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


@contextlib.contextmanager
def open_run(
  x: Experiment, out: Console, stop: StopSignals, lock: RunLock | None = None, *, strict: bool = False
) -> Iterator["Run"]:
  """Opens a run's files, finds where it continues, and closes everything at the end, also after an error."""
  if is_first_process():
    with run_write_errors(x.run_dir):
      for said in set_aside_damaged(x.run_dir / CHECKPOINT_DIR, strict=strict):
        out.print(said, markup=False)
  wait_for_all("checkpoints checked")
  with contextlib.ExitStack() as stack:
    checkpointer = Checkpointer(
      x.run_dir / CHECKPOINT_DIR,
      keep_last=x.saving.keep_last,
      keep_every_steps=x.cadence.keep,
      keep_best=x.saving.keep_best,
    )
    # To close is to wait for the others, too: not once one of them is lost.
    stack.push(lambda kind, error, trace: None if isinstance(error, LostProcessError) else checkpointer.close())
    stack.enter_context(noticing_lost_processes())
    loader, heldout = open_batches(x)
    stack.callback(loader.close)
    writer = None
    if is_first_process():
      writer = MetricsWriter(x.run_dir, x.policy.tensorboard, x.policy.wandb_project, x.flat_config)
      stack.callback(writer.close)
    if not stop.is_open:
      stack.enter_context(stop)
    run = Run(x, out, checkpointer, loader, heldout, writer, stop, lock)
    run.begin()
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
    lock: RunLock | None = None,
  ):
    self._x, self._out, self._stop, self._together = x, out, stop, StopTogether()
    self._checkpointer, self._loader, self._heldout_batches, self._writer = checkpointer, loader, heldout, writer
    self._saving = RunSaver(x, checkpointer, writer, lock, lambda text: self.bar.say(text))
    network = x.network
    self._mesh = network.layout.mesh
    self._tokens_per_step = x.rows.batch_size * x.rows.length
    flops = network.spec.flops_per_token(x.rows.length)
    self._meter = Meter(self._tokens_per_step, flops, peak_of(list(self._mesh.devices.flat)))
    self._train_step = make_train_step(network.task, network.optimizer, network.options, network.abstract)
    self._eval_step = make_eval_step(network.task)
    self._outstanding: collections.deque[tuple[int, dict[str, jax.Array], dict[str, jax.Array]]] = collections.deque()
    self._watch = Watch(x.policy.nonfinite, x.policy.max_skipped, self._what_diverged)
    self._evaluated: HeldOut | None = None
    self._evaluated_at = -1
    self._data = data_record(x.corpus, x.needs, batch_size=x.rows.batch_size, seed=x.seed)
    compares = is_first_process() and x.objective.reports_bits_per_byte
    self._baseline = xz_baseline(validation_text(x.corpus)) if compares else None

  def begin(self) -> None:
    """Finds the state to go on from, and puts data, metrics and progress there."""
    x = self._x
    origin = None if x.saving.start_from is None else Path(x.saving.start_from).expanduser() / CHECKPOINT_DIR
    network = x.network
    start: InitialState = initialize(
      self._checkpointer, network.abstract, network.plan, network.optimizer, network.make, jax.random.key(x.seed),
      start_from=origin, reference=network.reference,
    )  # fmt: skip
    self._state: TrainState = start.state
    self.step, verdict = 0, ""
    if start.extra is not None:
      self.step = self._saving.saved_at = int(start.extra["position"])
      self._meter.restore(start.extra["window"])
      accept = x.policy.accept_other_data
      sources = check_sources(self._data, start.extra.get("data"), accept_other=accept)
      verdict = check_data(self._loader, self.step, start.extra["fingerprint"], accept_other=accept) + sources
    if self._writer is not None:
      self._writer.truncate_after(self.step)
    write_run_files(x.run_dir, x.config_json, x.tokenizer, x.labels, new_config=True)
    say_start(self._out, start, self.step, verdict)
    if self._writer is not None and start.extra is not None:
      say_warning(self._out, check_records(self._writer, start.extra, self.step))
    self.bar: Reporter = reporter(self._out, "step", x.cadence.total, self.step, "compiling")

  # ---------------------------------------------------------------- the loop's verbs

  def asked_to_stop(self) -> bool:
    """Whether a signal came, to any process of the run; they all stop at one step."""
    if self._stop.requested is not None:
      self._together.request()
    return self._together.reached(self.step)

  def draw(self) -> dict[str, jax.Array]:
    """The next batch, on the devices."""
    before = self._loader.wait_seconds
    batch = global_batch(next(self._loader), self._mesh)
    self._meter.waited(self._loader.wait_seconds - before)
    return batch

  def advance(self, batch: dict[str, jax.Array]) -> None:
    """Starts the step on the devices, and does not wait for it."""
    self._state, metrics = self._train_step(self._state, batch)
    self._stop.unsaved = True
    self.step += 1
    self._outstanding.append((self.step, batch, metrics))

  def log(self) -> None:
    """Takes in the metrics of the step before the one just started, while the devices work on that."""
    self._take_in(leave=1)
    self.bar.update(self.step)

  def evaluate(self) -> None:
    """Measures the held-out text when it is time."""
    if self.step % self._x.cadence.evaluate == 0 or self.step == self._x.cadence.total:
      self._settle()
      self._evaluated = self._measure()
      self._evaluated_at = self.step
      self._fall_on_plateau(self._evaluated.loss)
      self._meter.start()

  def save(self) -> None:
    """Saves when it is time, or the last save failed; writing continues in the background."""
    cadence = self._x.cadence
    kept = cadence.keep is not None and self.step % cadence.keep == 0
    if kept or self._saving.failed_before() or self.step % cadence.save == 0 or self.step == cadence.total:
      self._settle()
      self._checkpoint()
      self._meter.start()

  def end(self) -> TrainResult:
    """Saves what a signal interrupted; at the run's end, shows samples, curve and what to do next."""
    self._settle()
    self._saving.make_sure(self.step, self._checkpoint)
    self.bar.close()
    finished = self.step >= self._x.cadence.total
    if finished:
      self._sample()
    if is_first_process():
      plot = write_plot(self._x, self._baseline)
      finish(self._out, self._x, self.step, self._meter.seconds, self._evaluated, plot, finished=finished)
    return TrainResult(self.step, finished, self._evaluated)

  # ---------------------------------------------------------------- parts of them

  def _settle(self) -> None:
    """Waits for the steps started so far, takes in their metrics, and stops the clock."""
    self._take_in(leave=0)
    self._meter.pause()

  def _take_in(self, *, leave: int) -> None:
    """Reads the metrics of all but the last `leave` steps that were started, and reports where a report is due."""
    while len(self._outstanding) > leave:
      step, batch, on_device = self._outstanding.popleft()
      metrics = {name: float(value) for name, value in jax.device_get(on_device).items()}
      note = self._watch.look(step, metrics, batch, max(self._saving.saved_at, 0))
      if note:
        self.bar.say(note)
      self._meter.add(metrics, batch["tokens"].size)
      self._meter.start()  # From the end of the first step on: that one compiled.
      if step % self._x.cadence.log == 0 or step == self._x.cadence.total:
        self._report(step)

  def _report(self, step: int) -> None:
    values = self._meter.report(jax.local_devices()[0])
    values["tokens"] = step * self._tokens_per_step
    ratio = self._x.rows.epoch.bytes_per_target
    if "nll" in values and self._x.objective.reports_bits_per_byte and ratio is not None:
      values["bits_per_byte"] = bits_per_byte(values["nll"], ratio)
    if self._writer is not None:
      self._writer.write(step, values)
    self.bar.update(step, progress_note(values))

  def _what_diverged(self, batch: dict[str, jax.Array]) -> str:
    network = self._x.network
    with jax.transfer_guard("allow"):
      return diagnose(network.task, network.optimizer, network.options, self._state, batch)

  def _measure(self) -> HeldOut:
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
      values |= {"tokens": self.step * self._tokens_per_step, "seconds": self._meter.seconds}
      self._writer.write(self.step, values)
    self.bar.say(heldout_line(self.step, result, self._baseline))
    return result

  def _fall_on_plateau(self, loss: float) -> None:
    """Under the plateau schedule, lowers the learning rate after an evaluation that was no better than the best."""
    factor, plateau = self._x.network.plateau_factor, self._state.plateau
    if factor is not None and plateau is not None:
      fallen = after_evaluation(plateau, loss, factor)
      if float(fallen.scale) < float(plateau.scale):
        self.bar.say(f"step {self.step:,}: no progress; the learning rate is multiplied by {factor:g}")
      fallen = jax.device_put(fallen, shardings_of(self._x.network.abstract.plateau))
      self._state = dataclasses.replace(self._state, plateau=fallen)

  def _checkpoint(self) -> None:
    extra = {
      "position": self.step,
      "fingerprint": fingerprint(self._loader),
      "data": self._data,
      "window": self._meter.saved(),
      "records": 0 if self._writer is None else self._writer.records,
      "records_digest": None if self._writer is None else self._writer.digest,
    }
    fresh = self._evaluated if self._evaluated_at == self.step else None
    loss = fresh.loss if fresh is not None and math.isfinite(fresh.loss) else None
    self._saving.save(self.step, self._state, extra, loss)

  def _sample(self) -> None:
    """Continues the config's prompts. With several processes, `lmx generate` does that afterwards."""
    x, samples = self._x, self._x.samples
    if jax.process_count() > 1 or not samples.prompts or not x.objective.reports_bits_per_byte:
      return
    start = np.array([x.tokenizer.bos_id], np.int32)
    prompts = [np.concatenate([start, x.tokenizer.encode(prompt)]) for prompt in samples.prompts]
    model = x.network.plan.join(self._state.evaluated)
    key = jax.random.key(x.seed)
    rows = generate(model, prompts, key=key, max_new_tokens=samples.tokens, temperature=samples.temperature,
                    eos_id=x.tokenizer.eos_id)  # fmt: skip
    texts = [x.tokenizer.decode(row[0].tokens) for row in rows]
    write_samples(x.run_dir, self.step, samples.prompts, texts)
    show_samples(self._out, samples.prompts, texts)
