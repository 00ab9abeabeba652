# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx config show` and `lmx config diff`. Imports no jax."""

import argparse
from typing import Any

from lmx.config.loading import ConfigDict, diff, flatten, load, to_json
from lmx.config.run_config import read_run_config
from lmx.config.table import keys
from lmx.paths import any_path


def run(args: argparse.Namespace) -> int:
  """Runs the sub-command `args.action`."""
  return {"show": _show, "diff": _diff}[args.action](args)


def help_texts() -> dict[str, str]:
  """{dotted key: its meaning, allowed values and readers}, in the order of base.py."""
  return {name: entry.described() for name, entry in keys().items()}


def _show(args: argparse.Namespace) -> int:
  config = args.config_values
  if args.json:
    print(to_json(config), end="")
    return 0
  changed = {key for key, _, _ in diff(load("configs/base.py"), config)}
  texts, values = help_texts(), flatten(config)
  rows = [
    (f"{'*' if key in changed else ' '} {key} = {values[key]!r}", text)
    for key, text in texts.items()
    if key in changed or not args.changed
  ]
  width = min(60, max((len(row) for row, _ in rows), default=0))
  for row, text in rows:
    print(f"{row:{width}}  # {text}" if text else row)
  print(f"\n* differs from base.py: {len(changed)} of {len(values)} keys. Override any: --config.KEY=VALUE")
  return 0


def _either(name: str) -> ConfigDict:
  """The config of a config file, of a run, or of a run's config.json."""
  path = any_path(name, "config or run")
  if path.name == "config.json":
    return read_run_config(path.parent)
  return read_run_config(path) if path.is_dir() or ".py" not in name else load(name)


def _diff(args: argparse.Namespace) -> int:
  differences: list[tuple[str, Any, Any]] = diff(_either(args.first), _either(args.second))
  for key, first, second in differences:
    print(f"{key}: {first!r} -> {second!r}")
  if not differences:
    print("no difference")
  return 0
