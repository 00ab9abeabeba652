# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The config of a command line, and the run directory of a config. Imports no jax."""

import argparse
from pathlib import Path

from lmx.config.loading import ConfigDict, check, check_files, diff, try_load
from lmx.config.run_config import CONFIG_FILE, read_run_config
from lmx.errors import ConfigError, LmxError, message
from lmx.paths import any_path, in_bucket
from lmx.storage import PARTIAL
from lmx.training.run_lock import LOCK_FILE

# Keys, or sections (with a dot at the end), that a resumed run may change freely: they don't change what is learned.
FREE = (
  "name",
  "mesh.",
  "log.",
  "evaluation.",
  "compute.attention",
  "compute.layers",
  "compute.remat",
  "compute.remat_keep",
  "compute.loss_chunks",
  "compute.zero1",
  "compute.offload_optimizer",
  "compute.scoped_vmem",
  "compute.compilation_cache",
  "data.cache_dir",
  "data.tfds_dir",
  "data.prefetch_batches",
  "data.threads",
  "checkpoint.",
  "processes.",
)


def read_config(args: argparse.Namespace) -> None:
  """Sets `args.config_values` to the config of --config with its overrides, and `args.config_problems` to its problems.

  Args:
    args: the flags of a command with `add_config`.

  Raises:
    ConfigError: everything that is wrong with the config and can be found without jax, unless the command reports it.
  """
  args.config_values, problems = try_load(args.config, args.overrides)
  args.config_problems = list(dict.fromkeys([*problems, *check(args.config_values), *check_files(args.config_values)]))
  if args.config_problems and not args.reports_problems:
    raise ConfigError(args.config_problems)


def working_directory(config: ConfigDict, workdir: str | None, *, accept_changes: bool) -> tuple[Path, str]:
  """The folder of the run, and a sentence that says whether it is new, resumed, or resumed with changes.

  A folder is never emptied. An existing run resumes when its config is the same, except for keys that don't change what
  is learned; any other difference needs `accept_changes`.

  Args:
    config: of the run.
    workdir: --workdir; None: runs/<config.name>.
    accept_changes: resume although the config differs.

  Raises:
    LmxError: the folder contains another run, or files that are not a run; or it is on storage that lmx can't use.
  """
  path = any_path(workdir, "--workdir") if workdir else Path("runs") / config.name
  if in_bucket(path) and config.log.tensorboard:
    allowed = "false for a run in a bucket, where event files can't be appended to; lmx plot draws the curves"
    raise LmxError(message("config.log.tensorboard", got=True, allowed=allowed, fix="--config.log.tensorboard=false"))
  if path.exists() and not path.is_dir():
    raise LmxError(message("--workdir", got=str(path), allowed="a folder, not a file"))
  if not (path / CONFIG_FILE).exists():
    if path.exists() and any(not file.name.endswith((PARTIAL, LOCK_FILE)) for file in path.iterdir()):
      fix = f"--workdir={path / config.name}"
      raise LmxError(message("--workdir", got=str(path), allowed="a new or empty folder, or a run", fix=fix))
    return path, f"new run in {path}"
  changes = diff(read_run_config(path), config)
  kept = [change for change in changes if not any(f"{change[0]}." == k or change[0].startswith(k) for k in FREE)]
  if kept and not accept_changes:
    lines = "\n".join(f"  {key}: {old!r} in the run, {new!r} now" for key, old, new in kept)
    raise LmxError(
      f"--workdir: {path} contains a run with another config:\n{lines}\nFix: --workdir=runs/<new name> for a new run, "
      f"or --accept-changes to resume that run with this config."
    )
  note = ", ".join(f"{key} {old!r} -> {new!r}" for key, old, new in changes)
  return path, f"resuming in {path}" + (f" with changes: {note}" if note else "")
