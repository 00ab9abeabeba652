# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Training of a stack of runs by one compiled program, with the loop's contract and an ordinary folder for each run.

The step is `jax.vmap` of the step of one run, over its state and its numbers. The stacked axis is split over the
devices. Runs with the same seed draw the same batches and share them; otherwise each seed's batches are drawn by a
loader of its own and stacked too. A run that diverges by the rules of `train` is taken out, and the others continue.
"""

import contextlib
import dataclasses
import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from rich.console import Console

from lmx.console import console, reporter
from lmx.data.batches.pipeline import EvalBatches, Loader
from lmx.experiment.stack import TRIAL, Stack
from lmx.nn.layers.dropout import traced_dropout
from lmx.parallel.compilation_cache import use_compilation_cache
from lmx.parallel.compiler_options import compiler_options
from lmx.parallel.mesh import batch_sharding, device_kind_of, global_batch, platform_of
from lmx.parallel.signals import StopSignals
from lmx.run.loop import Run, Shared, open_batches, open_folder, open_run, train_to_end
from lmx.training.checkpoint import Checkpointer
from lmx.training.checkpoint_choice import committed_steps, set_aside_damaged
from lmx.training.divergence import NonFiniteError
from lmx.training.initialize import InitialState, initialize
from lmx.training.run_directory import CHECKPOINT_DIR
from lmx.training.state import TrainState, fresh_state, options_to_run_once, parts_of, shardings_of
from lmx.training.step import make_eval_step, train_step_of

Metrics = dict[str, jax.Array]  # (T,)


@dataclasses.dataclass(frozen=True)
class StackedResult:
  """How a call of `train_stack` ended.

  Attributes:
    step: updates done.
    finished: whether the runs reached their end; False: a signal stopped them, and they were saved.
    diverged: index of a run -> why it was taken out.
  """

  step: int
  finished: bool
  diverged: dict[int, str]


def stacked_sharding(sharding: NamedSharding) -> NamedSharding:
  """The sharding of one run's array with the stacked axis in front, split over `TRIAL`."""
  return NamedSharding(sharding.mesh, PartitionSpec(TRIAL, *sharding.spec))


def make_stacked_step(stack: Stack, *, own_batches: bool) -> Any:
  """The compiled `(numbers, states, batch) -> (states, metrics)` of all runs; the old states are donated.

  Args:
    stack: of T runs.
    own_batches: whether a batch has the stacked axis in front, (T, B, ...).

  Returns:
    A `jax.jit` function. numbers: {key: (T,)}; states: a `TrainState` of (T, ...) arrays; metrics: {name: (T,)}.
  """
  network = stack.experiments[0].network

  def one(numbers: dict[str, jax.Array], state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
    optimizer, options = stack.update(numbers)
    with traced_dropout(numbers.get("model.dropout")):
      return train_step_of(network.task, optimizer, options, network.abstract)(state, batch)

  mesh = network.layout.mesh
  along = NamedSharding(mesh, PartitionSpec(TRIAL))
  states = jax.tree.map(stacked_sharding, shardings_of(network.abstract))
  rows = batch_sharding(mesh)
  return jax.jit(
    jax.vmap(one, in_axes=(0, 0, 0 if own_batches else None), spmd_axis_name=TRIAL),
    in_shardings=(along, states, stacked_sharding(rows) if own_batches else rows),
    out_shardings=(states, along),
    donate_argnums=1,
    compiler_options=compiler_options(platform_of(mesh), device_kind_of(mesh), network.options.scoped_vmem),
  )


def fresh_states(stack: Stack) -> TrainState:
  """The states before the first step, (T, ...): each run's parameters are those that it would have alone."""
  network = stack.experiments[0].network

  def init(key: jax.Array, numbers: dict[str, jax.Array]) -> TrainState:
    params = network.plan.split(stack.make(key, numbers.get("model.init_std")))
    return fresh_state(params, network.optimizer, parts_of(network.abstract))

  keys = jnp.stack([jax.random.key(x.seed) for x in stack.experiments])
  shardings = jax.tree.map(stacked_sharding, shardings_of(network.abstract))
  options = options_to_run_once(network.abstract.step.sharding)
  return jax.jit(jax.vmap(init), out_shardings=shardings, compiler_options=options)(keys, dict(stack.numbers))


def common_step(stack: Stack, out: Console) -> int | None:
  """The newest step that every run has an intact checkpoint of; None: there is none, and they all start afresh."""
  steps: set[int] | None = None
  for x in stack.experiments:
    folder = x.run_dir / CHECKPOINT_DIR
    if folder.exists():
      for note in set_aside_damaged(folder, strict=False):
        out.print(note, markup=False)
    steps = set(committed_steps(folder)) if steps is None else steps & set(committed_steps(folder))
  return max(steps or (), default=None)


class StackedRun:
  """One call of `train_stack`: the states of all runs, and one method for each of the loop's verbs.

  Attributes:
    step: updates done.
    bar: progress of all of them.
  """

  def __init__(self, stack: Stack, out: Console, stop: StopSignals):
    self._stack, self._stop, self._out = stack, stop, out
    self._first = stack.experiments[0]
    network = self._first.network
    seeds = [x.seed for x in stack.experiments]
    self._own = len(set(seeds)) > 1
    self._batches: dict[int, tuple[Loader, EvalBatches]] = {}
    for x in stack.experiments:
      if x.seed not in self._batches:
        self._batches[x.seed] = open_batches(x)
    self._step_of_all = make_stacked_step(stack, own_batches=self._own)
    self._eval_step = make_eval_step(network.task)
    along = NamedSharding(network.layout.mesh, PartitionSpec(TRIAL))
    self._numbers = jax.device_put(dict(stack.numbers), along)
    self._take = jax.jit(lambda states, index: jax.tree.map(lambda leaf: leaf[index], states),
                         out_shardings=shardings_of(network.abstract))  # fmt: skip
    self._runs: dict[int, Run] = {}
    self._folders: dict[int, contextlib.ExitStack] = {}
    self._diverged: dict[int, str] = {}
    self._outstanding: list[tuple[int, Any, Metrics]] = []
    self.step = 0
    self.bar = reporter(out, "step", self._first.cadence.total, 0, "compiling")

  def open(self, everything: contextlib.ExitStack) -> None:
    """Opens every run's folder at the newest step that all of them have, and stacks their states."""
    step = common_step(self._stack, self._out)
    fresh = fresh_states(self._stack) if step is None and self._first.saving.start_from is None else None
    for loader, _ in self._batches.values():
      everything.callback(loader.close)
    for index, x in enumerate(self._stack.experiments):
      folder = everything.enter_context(contextlib.ExitStack())
      lock, status = folder.enter_context(open_folder(x))
      start = functools.partial(self._start, index=index, step=step, fresh=fresh)
      shared = Shared(self._batches[x.seed], self._eval_step, start)
      quiet = console(quiet=True)
      self._runs[index] = folder.enter_context(open_run(x, quiet, self._stop, lock, status, shared=shared))
      self._folders[index] = folder
    self.step = step or 0
    shardings = jax.tree.map(stacked_sharding, shardings_of(self._first.network.abstract))
    states = [run.state for run in self._runs.values()]
    stacked = jax.jit(lambda *leaves: jax.tree.map(lambda *each: jnp.stack(each), *leaves), out_shardings=shardings)
    self._states: Any = stacked(*states) if fresh is None else fresh
    self._let_go()

  def _start(
    self, checkpointer: Checkpointer, *, index: int, step: int | None, fresh: TrainState | None
  ) -> InitialState:
    x = self._stack.experiments[index]
    network = x.network
    if step is not None:
      state, extra = checkpointer.restore(network.abstract, step)
      return InitialState(state, "resumed", extra, checkpointer.directory / str(step))
    if fresh is not None:
      return InitialState(self._take(fresh, index), "fresh")
    origin = Path(str(x.saving.start_from)).expanduser() / CHECKPOINT_DIR
    return initialize(checkpointer, network.abstract, network.plan, network.optimizer, network.make,
                      jax.random.key(x.seed), start_from=origin)  # fmt: skip

  # ---------------------------------------------------------------- the loop's verbs

  def asked_to_stop(self) -> bool:
    """Whether a signal came, or no run is left."""
    return self._stop.requested is not None or not self._runs

  def draw(self) -> tuple[dict[int, Any], dict[str, jax.Array]]:
    """({seed: next batch on the host}, what the step takes, on the devices)."""
    drawn = {seed: next(loader) for seed, (loader, _) in self._batches.items()}
    mesh = self._first.network.layout.mesh
    if not self._own:
      return drawn, global_batch(next(iter(drawn.values())), mesh)
    rows = [drawn[x.seed] for x in self._stack.experiments]
    together = {name: np.stack([each[name] for each in rows]) for name in rows[0]}
    return drawn, jax.device_put(together, stacked_sharding(batch_sharding(mesh)))

  def advance(self, batch: tuple[dict[int, Any], dict[str, jax.Array]]) -> None:
    """Starts the step of all runs on the devices, and does not wait for it."""
    drawn, together = batch
    self._states, metrics = self._step_of_all(self._numbers, self._states, together)
    self.step += 1
    self._let_go()
    self._outstanding.append((self.step, drawn, metrics))

  def log(self) -> None:
    """Records the metrics of the previous step, while the devices work on the one just started."""
    self._read(leave=1)
    self.bar.update(self.step)

  def evaluate(self) -> None:
    """Evaluates each run when it is due."""
    if self._runs and self._any().evaluation_is_due():
      self._each(Run.evaluate)

  def save(self) -> None:
    """Saves each run when it is due."""
    if any(run.save_is_due() for run in self._runs.values()):
      self._each(Run.save)

  def end(self) -> StackedResult:
    """Ends each run as `train` does."""
    self._each(Run.end)
    self.bar.close()
    return StackedResult(self.step, self.step >= self._first.cadence.total, dict(self._diverged))

  # ---------------------------------------------------------------- their parts

  def _any(self) -> Run:
    return next(iter(self._runs.values()))

  def _each(self, verb: Any) -> None:
    """Calls a verb of every run with its state; meanwhile no clock of the training runs."""
    self._read(leave=0)
    for run in self._runs.values():
      run.clock(runs=False)
    for index, run in self._runs.items():
      run.hold(self.step, self._take(self._states, index))
      verb(run)
      run.clock(runs=False)
    self._let_go()
    for run in self._runs.values():
      run.clock(runs=True)
    if verb is Run.evaluate and self._runs:
      losses = [run.evaluated for run in self._runs.values()]
      self.bar.say(f"step {self.step:,}: validation losses {min(losses):.4f} to {max(losses):.4f}")

  def _let_go(self) -> None:
    for run in self._runs.values():
      run.hold(self.step, None)

  def _read(self, *, leave: int) -> None:
    """Reads the metrics of all but the last `leave` steps, and takes out the runs that diverged at them."""
    while len(self._outstanding) > leave:
      step, drawn, on_device = self._outstanding.pop(0)
      host = jax.device_get(on_device)
      for index, run in list(self._runs.items()):
        metrics = {name: values[index] for name, values in host.items()}
        batch = drawn[self._stack.experiments[index].seed]
        try:
          if metrics["skipped"] or not math.isfinite(metrics["param_norm"]):
            with jax.transfer_guard("allow"):
              run.hold(self.step, self._take(self._states, index))  # A skipped step changed nothing in it.
              batch = global_batch(batch, self._first.network.layout.mesh)
          run.record(step, batch, metrics)
        except NonFiniteError as error:
          self._take_out(index, error)

  def _take_out(self, index: int, error: NonFiniteError) -> None:
    x = self._stack.experiments[index]
    self.bar.say(f"{x.run_dir.name}: {error}")
    self._diverged[index] = str(error)
    del self._runs[index]
    with contextlib.suppress(NonFiniteError):  # So that its status says why.
      self._folders[index].__exit__(type(error), error, error.__traceback__)


def train_stack(stack: Stack, stop: StopSignals) -> StackedResult:
  """Trains the runs of a stack from the newest step that all have, or their start, to their end or a signal.

  Args:
    stack: of T runs, on one process.
    stop: handlers of SIGTERM and SIGINT, open.

  Raises:
    WriteError, RunLockedError, CheckpointDamageError, LmxError: as `train`, for any of the runs.
  """
  out = console()
  use_compilation_cache(stack.experiments[0].compilation_cache)
  with contextlib.ExitStack() as everything:
    run = StackedRun(stack, out, stop)
    run.open(everything)
    return train_to_end(run, stack.experiments[0].cadence.total)
