# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The trials of a sweep: their names, their configs, and whether every one of them can be run."""

import argparse
import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence

from lmx.config.loading import ConfigDict, check, check_files, try_load
from lmx.errors import ConfigError, LmxError

MAX_NAME = 120  # Characters of a folder's name; file systems allow 255 bytes.
_SHOWN = 20  # Bad combinations that are listed.


@dataclasses.dataclass(frozen=True)
class Trial:
  """One run of a sweep.

  Attributes:
    name: of its folder; made of what it overrides.
    overrides: dotted key -> text.
    number: in the study of a search; None: the trial is one of a list.
  """

  name: str
  overrides: Mapping[str, str]
  number: int | None = None

  @property
  def arguments(self) -> list[str]:
    return [f"{key}={value}" for key, value in self.overrides.items()]


def short_keys(keys: Sequence[str]) -> dict[str, str]:
  """Each key's last part, or the whole key where two have the same one."""
  last = [key.rpartition(".")[2] for key in keys]
  return {key: short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)}


def name_of(overrides: Mapping[str, str], keys: Sequence[str], prefix: str = "") -> str:
  """A folder's name for a trial, such as "peak_lr=0.0003,layers=4".

  Args:
    overrides: of the trial.
    keys: of all trials of the sweep, which decide how short a key can be.
    prefix: put in front.
  """
  short = short_keys(keys)
  text = ",".join(f"{short[key]}={value}" for key, value in overrides.items())
  safe = prefix + re.sub(r"[^\w.+,=-]+", "_", text)
  if len(safe) <= MAX_NAME and safe == prefix + text:
    return safe
  digest = hashlib.sha256(repr(sorted(overrides.items())).encode()).hexdigest()[:8]  # Two texts may become one.
  return f"{safe[: MAX_NAME - 9]}-{digest}"


def named(trials: Sequence[Mapping[str, str]]) -> list[Trial]:
  """Trials with their names."""
  keys = list(dict.fromkeys(key for trial in trials for key in trial))
  return [Trial(name_of(trial, keys), dict(trial)) for trial in trials]


def config_of(args: argparse.Namespace, trial: Trial) -> tuple[ConfigDict, list[str]]:
  """A trial's config, and everything that is wrong with it short of needing jax."""
  config, problems = try_load(args.config, [*args.overrides, *trial.arguments])
  return config, list(dict.fromkeys([*problems, *check(config), *check_files(config)]))


def check_trials(args: argparse.Namespace, trials: Sequence[Trial]) -> list[ConfigDict]:
  """The config of every trial.

  Raises:
    ConfigError: with every combination that can't be run, before anything is started.
  """
  configs, bad, common = [], [], None
  for trial in trials:
    config, problems = config_of(args, trial)
    configs.append(config)
    bad += [f"{trial.name}: {problem}" for problem in problems]
    common = set(problems) if common is None else common & set(problems)
  if common:  # What is wrong in every trial is reported once.
    raise ConfigError(sorted(common))
  if bad:
    more = [f"and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
    raise ConfigError([*bad[:_SHOWN], *more])
  names = [trial.name for trial in trials]
  for name in names:
    if names.count(name) > 1:
      raise LmxError(f"Two trials have the name {name}. Fix: leave one of them out.")
  return configs
