# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Training from a loaded run: a new run that starts from its parameters, in a folder of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections.config_dict import ConfigDict

from lmx.config.loading import base_config, change, check, diff, from_json, to_json
from lmx.config.run_config import CONFIG_FILE, read_run_config, start_from
from lmx.errors import ConfigError, LmxError, message
from lmx.experiment.build import build
from lmx.run.loop import train
from lmx.training.checkpoint_choice import committed_steps
from lmx.training.run_directory import CHECKPOINT_DIR


def continued(config: ConfigDict, folder: Path, steps: int, workdir: Path, changes: Mapping[str, Any]) -> ConfigDict:
  """The config of a run of so many steps that starts from the run in `folder`, on all devices here.

  Raises:
    ConfigError: changes that don't exist, or don't fit.
  """
  new = start_from(from_json(to_json(config)), folder)
  new.name, new.mesh, new.train.duration = workdir.name, base_config().mesh, f"{steps} steps"
  new = from_json(to_json(new))  # Typed again.
  problems = [*change(new, changes), *check(new)]
  if problems:
    raise ConfigError(list(dict.fromkeys(problems)))
  return new


def train_from(
  config: ConfigDict, folder: Path | None, step: int, *, steps: int, workdir: Path | None, changes: Mapping[str, Any]
) -> Path:
  """Trains from a loaded run; arguments and errors are those of `LoadedRun.train`. Returns the new run's folder."""
  if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
    raise LmxError(message("steps", got=steps, allowed="a whole number of at least 1"))
  if folder is None or not (folder / CHECKPOINT_DIR).is_dir():
    raise LmxError(
      f"train: {folder or 'this model'} is no run. Fix: lmx import MODEL, and lmx.load of the run it makes."
    )
  newest = committed_steps(folder / CHECKPOINT_DIR)[-1]
  if step != newest:
    raise LmxError(message("train: the loaded step", got=step, allowed=f"the newest of {folder}, {newest}",
                           fix=f"lmx.load({str(folder)!r})"))  # fmt: skip
  target = folder.with_name(f"{folder.name}_{steps}_steps") if workdir is None else workdir
  new = continued(config, folder, steps, target, changes)
  if (target / CONFIG_FILE).exists():
    other = diff(read_run_config(target), new)
    if other:
      lines = "\n".join(f"  {key}: {old!r} there, {value!r} now" for key, old, value in other)
      raise LmxError(f"workdir: {target} is a run with another config:\n{lines}\nFix: workdir={str(target) + '_2'!r}")
  elif target.exists() and any(target.iterdir()):
    raise LmxError(message("workdir", got=str(target), allowed="a new or empty folder, or the run of this very call"))
  train(build(new, target))
  return target
