# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Searches: trials drawn at random, by TPE, or stopped early by successive halving (ASHA), all by Optuna.

The study is a journal file in the sweep's folder, which several commands share. The journal has no heartbeat, so who
runs a trial is decided by the claims of the sweep's folder: a trial that the journal calls running and nobody claims is
resumed from its checkpoint.
"""

from __future__ import annotations

import argparse
import importlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmx.errors import LmxError
from lmx.sweep.folder import FINISHED, PRUNED, SweepFolder, TrialState
from lmx.sweep.space import Axis, Interval, Overrides, as_text
from lmx.sweep.trial import Trial, config_of, name_of

_OVERRIDES = "overrides"  # The attribute of a study's trial that keeps its texts.
Suggest = Callable[[Any], Mapping[str, Any]]  # Optuna's trial -> {key: value}.
# Schedules under which the learning rate of an unfinished run is not yet where it ends.
DECAYING = ("cosine", "linear")


def optuna() -> Any:
  """The package, which only searches need.

  Raises:
    LmxError: it is not installed.
  """
  try:
    module = importlib.import_module("optuna")
  except ImportError as error:
    raise LmxError(f"--search: the package optuna is missing ({error}). Fix: pip install 'lmx[sweep]'") from error
  module.logging.set_verbosity(module.logging.WARNING)
  return module


def suggest_from(axes: Sequence[Axis]) -> Suggest:
  """A function that draws a value for every key of some axes."""

  def suggest(trial: Any) -> Mapping[str, Any]:
    values: dict[str, Any] = {}
    for axis in axes:
      if isinstance(axis, Interval):
        draw = trial.suggest_int if axis.whole else trial.suggest_float
        low, high = (int(axis.low), int(axis.high)) if axis.whole else (axis.low, axis.high)
        values[axis.key] = draw(axis.key, low, high, log=axis.log)
      else:
        number = {json.dumps(row): row for row in axis.values}
        row = number[trial.suggest_categorical("+".join(axis.keys), list(number))]
        values |= dict(zip(axis.keys, row, strict=True))
    return values

  return suggest


class Search:
  """A study and the trials that it draws; a `TrialSource` for a `Runner`.

  Args:
    folder: of the sweep.
    kind: random | tpe | asha.
    suggest: what a trial is.
    args: of the command, for the config that a trial changes.
    trials: how many are drawn in all, by every command that works in the folder.
    maximize: whether the metric is better where it is greater.
    seed: of the first command's draws; those of further commands follow from it and the trials so far.
    keys: whose names a trial's folder is called by.
  """

  def __init__(
    self,
    folder: SweepFolder,
    kind: str,
    suggest: Suggest,
    args: argparse.Namespace,
    *,
    trials: int,
    maximize: bool,
    seed: int,
    keys: Sequence[str] = (),
  ):
    module = optuna()
    self._module, self._folder, self._suggest, self._args, self._trials = module, folder, suggest, args, trials
    self._keys, self._mine = list(keys), set[int]()
    warnings.filterwarnings("ignore", category=module.exceptions.ExperimentalWarning)  # TPESampler's `group`.
    storage = module.storages.JournalStorage(module.storages.journal.JournalFileBackend(str(folder.journal)))
    before = self._count(storage)
    samplers = module.samplers
    sampler = samplers.RandomSampler(seed + before) if kind == "random" else samplers.TPESampler(
      seed=seed + before, constant_liar=True, multivariate=True, group=True
    )  # fmt: skip
    pruner = module.pruners.SuccessiveHalvingPruner() if kind == "asha" else module.pruners.NopPruner()
    self._study = module.create_study(
      storage=storage, study_name="sweep", load_if_exists=True, sampler=sampler, pruner=pruner,
      direction="maximize" if maximize else "minimize",
    )  # fmt: skip

  def _count(self, storage: Any) -> int:
    studies = storage.get_all_studies()
    return len(storage.get_all_trials(studies[0]._study_id, deepcopy=False)) if studies else 0

  def next(self) -> Trial | None:
    """An unfinished trial that nobody runs, or a new one; None: all have been drawn."""
    running = self._module.trial.TrialState.RUNNING
    every = self._study.get_trials(deepcopy=False)
    for one in every:
      if one.state == running and one.number not in self._mine and _OVERRIDES in one.user_attrs:
        trial = self._trial(one.number, one.user_attrs[_OVERRIDES])
        if not self._folder.is_claimed(trial):
          self._mine.add(one.number)
          return trial
    while len(every) < self._trials:
      drawn = self._study.ask()
      try:
        overrides = {key: as_text(value) for key, value in self._suggest(drawn).items()}
      except Exception as error:
        self._study.tell(drawn, state=self._module.trial.TrialState.FAIL)
        raise LmxError(f"sweep(trial): {type(error).__name__}: {error}") from error
      trial = self._trial(drawn.number, overrides)
      problems = config_of(self._args, trial)[1]
      if problems:
        self._study.tell(drawn, state=self._module.trial.TrialState.FAIL)
        raise LmxError(f"{trial.name} can't be run: {'; '.join(problems)}. Fix: a sweep() that never draws it.")
      drawn.set_user_attr(_OVERRIDES, overrides)
      self._mine.add(drawn.number)
      return trial
    return None

  def _trial(self, number: int, overrides: Overrides) -> Trial:
    shown = {key: _short(value) for key, value in overrides.items()}
    name = name_of(shown, self._keys or list(overrides), f"{number:04d}_")
    return Trial(name, dict(overrides), number)

  def known(self) -> list[Trial]:
    """Every trial that was drawn, by any command."""
    every = self._study.get_trials(deepcopy=False)
    return [self._trial(one.number, one.user_attrs[_OVERRIDES]) for one in every if _OVERRIDES in one.user_attrs]

  def ended(self, state: TrialState) -> None:
    """Reports a trial's result to the study; one that another command has reported stays as it is."""
    states = self._module.trial.TrialState
    number = state.trial.number
    if number is None or self._study.get_trials(deepcopy=False)[number].state.is_finished():
      return
    if state.state == FINISHED and state.value is not None:
      self._study.tell(number, state.value)
    else:
      self._study.tell(number, state=states.PRUNED if state.state == PRUNED else states.FAIL)

  def prunes(self, trial: Trial, values: Sequence[tuple[int, float]]) -> bool:
    """Whether the study would stop a trial with these (step, value)."""
    found = self._study.get_trials(deepcopy=False)[trial.number or 0]
    live = self._module.trial.Trial(self._study, found._trial_id)
    for step, value in values:
      if step not in found.intermediate_values:
        live.report(value, step)
    return live.should_prune()


def _short(text: str) -> str:
  """A drawn number with four digits, for a folder's name; the trial itself has all of them."""
  try:
    return f"{float(text):.4g}" if "." in text or "e" in text else text
  except ValueError:
    return text


def pruning_note(schedule: str) -> str:
  """What early stopping compares under a schedule whose learning rate falls."""
  if schedule not in DECAYING:
    return ""
  return (
    f"note: optimizer.schedule={schedule} lowers the learning rate until a run's end, so asha compares losses of "
    "unfinished runs, whose rate is still high: rates that are best early need not be best at the end"
  )
