# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Trials that are trained together: groups whose configs differ in numbers only, trained as one compiled program."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import flatten
from lmx.errors import LmxError
from lmx.exits import DONE, MISTAKE, SAVED, code_of
from lmx.experiment.stack import NUMBERS, build_stack, problems_of, program_of
from lmx.parallel.signals import StopSignals
from lmx.run.stacked import StackedResult, train_stack
from lmx.sweep.folder import ENDED, FAILED, SweepFolder
from lmx.sweep.trial import Trial
from lmx.training.run_lock import RunLock


@dataclasses.dataclass(frozen=True)
class Group:
  """Trials of one program, and their configs."""

  trials: tuple[Trial, ...]
  configs: tuple[ConfigDict, ...]


def grouped(trials: Sequence[Trial], configs: Sequence[ConfigDict]) -> list[Group]:
  """The trials in groups of at least two.

  Raises:
    LmxError: a trial that no other differs from in numbers only, or a config that can't be stacked; names the keys.
  """
  found: dict[str, list[int]] = {}
  for index, config in enumerate(configs):
    found.setdefault(json.dumps(program_of(config), sort_keys=True, default=str), []).append(index)
  alone = [trials[members[0]].name for members in found.values() if len(members) == 1]
  if alone:
    raise LmxError(
      f"--vectorize: no other trial has the program of {', '.join(alone[:5])}. These keys change it: "
      f"{', '.join(_changing(configs)) or 'a number that is 0 or none in some trials'}; the numbers that may differ: "
      f"{', '.join(NUMBERS)}. Fix: leave --vectorize out, or sweep several numbers for each of them."
    )
  groups = [Group(tuple(trials[i] for i in members), tuple(configs[i] for i in members)) for members in found.values()]
  problems = [problem for group in groups for problem in problems_of(group.configs[0])]
  if problems:
    raise LmxError("\n".join(dict.fromkeys(problems)))
  return groups


def _changing(configs: Sequence[ConfigDict]) -> list[str]:
  """The keys in which the configs differ that aren't `NUMBERS`."""
  flat = [flatten(config) for config in configs]
  return [key for key in flat[0] if key not in NUMBERS and any(one[key] != flat[0][key] for one in flat)]


def train_group(
  folder: SweepFolder, group: Group, metric: str, retries: int, stop: StopSignals, command: str,
  report: Callable[[str], None],
) -> bool:  # fmt: skip
  """Trains the trials of a group that have not ended and that no other command has; returns whether all have ended."""
  claims: list[RunLock] = []
  chosen: list[int] = []
  waits = False
  try:
    for index, trial in enumerate(group.trials):
      claim = folder.claim(trial)
      if claim is None:
        waits = True
        continue
      claims.append(claim)
      state = folder.state(trial, folder.attempts(), metric)
      if state.state not in ENDED and state.failures > retries:
        folder.note(trial, FAILED, why=state.why)
      elif state.state not in ENDED:
        chosen.append(index)
    return not waits if not chosen else _train(folder, group, chosen, stop, command, report) and not waits
  finally:
    for claim in claims:
      claim.__exit__(None, None, None)


def _train(
  folder: SweepFolder, group: Group, chosen: Sequence[int], stop: StopSignals, command: str,
  report: Callable[[str], None],
) -> bool:  # fmt: skip
  trials = [group.trials[index] for index in chosen]
  report(f"{len(trials)} trials as one program: {', '.join(trial.name for trial in trials)}")
  began = time.time()
  for trial in trials:
    folder.note(trial, "start", slot=0, number=trial.number, overrides=dict(trial.overrides))

  def note_end(trial: Trial, code: int, why: str) -> None:
    folder.note(trial, "end", code=code, seconds=round((time.time() - began) / len(trials), 3), why=why)

  try:
    stack = build_stack([group.configs[index] for index in chosen], [folder.run_dir(t) for t in trials], command)
    result: StackedResult = train_stack(stack, stop)
  except BaseException as error:
    for trial in trials:
      note_end(trial, code_of(error), str(error).partition("\n")[0][:500])
    raise
  for index, trial in enumerate(trials):
    if index in result.diverged:
      note_end(trial, MISTAKE, result.diverged[index][:500])
      folder.note(trial, FAILED, why=result.diverged[index][:500])
    else:
      note_end(trial, DONE if result.finished else SAVED, "" if result.finished else "stopped")
  return result.finished or len(result.diverged) == len(trials)
