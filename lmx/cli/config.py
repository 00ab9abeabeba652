# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""`lmx config show` and `lmx config diff`. Imports no jax."""

import argparse
import re
from pathlib import Path
from typing import Any

from lmx.config.loading import ConfigDict, config_dir, diff, flatten, load, to_json
from lmx.config.run_config import read_run_config


def run(args: argparse.Namespace) -> int:
  """Runs the sub-command `args.action`."""
  return {"show": _show, "diff": _diff}[args.action](args)


def help_texts() -> dict[str, str]:
  """The comment of each dotted key, in the order of base.py, read from its source."""
  texts: dict[str, str] = {}
  sections: dict[str, str] = {"config": ""}
  pending: list[str] = []
  for line in (config_dir() / "base.py").read_text(encoding="utf-8").splitlines():
    section = re.match(r"  (\w+) = config\.(\w+) = ", line)
    assignment = re.match(r"  (\w+)\.(\w+) = (.*)", line)
    if section:
      sections[section[1]] = f"{section[2]}."
    elif re.match(r"  # (?!-)", line):
      pending.append(line.strip().removeprefix("# "))
      continue
    elif assignment:
      comment = re.search(r"  # (.*)", assignment[3])
      texts[sections[assignment[1]] + assignment[2]] = comment[1] if comment else " ".join(pending)
    pending = []
  return texts


def _show(args: argparse.Namespace) -> int:
  config = args.config_values
  if args.json:
    print(to_json(config), end="")
    return 0
  changed = {key for key, _, _ in diff(load("configs/base.py"), config)}
  texts, values = help_texts(), flatten(config)
  rows = [  # A key such as data.columns.text has its comment at data.columns.
    (f"{'*' if key in changed else ' '} {key} = {values[key]!r}", text)
    for known, text in texts.items()
    for key in values
    if (key == known or key.startswith(f"{known}.")) and (key in changed or not args.changed)
  ]
  width = min(60, max((len(row) for row, _ in rows), default=0))
  for row, text in rows:
    print(f"{row:{width}}  # {text}" if text else row)
  print(f"\n* differs from base.py: {len(changed)} of {len(values)} keys. Override any: --config.KEY=VALUE")
  return 0


def _either(name: str) -> ConfigDict:
  """The config of a config file, of a run, or of a run's config.json."""
  path = Path(name).expanduser()
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
