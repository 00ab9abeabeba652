# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""From the flags to a checked config, and from a config to its run directory."""

import argparse
from pathlib import Path

from lmx.config.loading import ConfigDict, check, check_files, diff, try_load
from lmx.config.run_config import CONFIG_FILE, LOCK_FILE, read_run_config
from lmx.errors import ConfigError, LmxError, message

PARTIAL = ".partial"  # Left by a process that was killed while it wrote the first file of a run.
# Keys, or sections with a dot at the end, that a resumed run may change freely: they don't change what is learnt.
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


def config_and_problems(args: argparse.Namespace) -> tuple[ConfigDict, list[str]]:
  """The config of --config with its overrides, and everything that is wrong with it short of needing jax."""
  config, problems = try_load(args.config, args.overrides)
  return config, list(dict.fromkeys([*problems, *check(config), *check_files(config)]))


def checked_config(args: argparse.Namespace) -> ConfigDict:
  """The config of --config with its overrides.

  Raises:
    ConfigError: with everything that is wrong with it.
  """
  config, problems = config_and_problems(args)
  if problems:
    raise ConfigError(problems)
  return config


def working_directory(config: ConfigDict, workdir: str | None, *, accept_changes: bool) -> tuple[Path, str]:
  """Where the run lives, and a sentence saying whether it is new, continued, or continued with changes.

  A folder is never emptied. An existing run goes on when its config is the same, but for keys that don't change what
  is learnt; any other difference needs a decision.

  Raises:
    LmxError: the folder holds another run or something that is no run.
  """
  path = Path(workdir).expanduser() if workdir else Path("runs") / config.name
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
    lines = "\n".join(f"  {key}: {old!r} there, {new!r} now" for key, old, new in kept)
    raise LmxError(
      f"--workdir: {path} holds a run with another config:\n{lines}\nFix: --workdir=runs/<new name> for a new run, or "
      f"--accept-changes to go on with that run under the config of now."
    )
  note = ", ".join(f"{key} {old!r} -> {new!r}" for key, old, new in changes)
  return path, f"going on in {path}" + (f" with changes: {note}" if note else "")
