# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Show a config with what each key means, compare two, check one, or explain how it is sharded over a mesh.

lmx config show --config=configs/gpt2.py:small
lmx config diff configs/cpu.py runs/cpu
lmx config check --config=configs/gpt2.py:small --config.model.heads=6
lmx config explain --config=configs/llama.py:1b --config.mesh.tensor=4 --devices=64
"""

import argparse
import importlib
from pathlib import Path
from typing import Any

from lmx.cli.arguments import add_config
from lmx.cli.given_config import checked_config, config_and_problems
from lmx.config.loading import ConfigDict, diff, flatten, load, to_json
from lmx.config.run_config import read_run_config
from lmx.config.table import keys
from lmx.errors import ConfigError, LmxError, message
from lmx.shapes import in_use
from lmx.units import human_bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
  commands = parser.add_subparsers(dest="action", required=True, metavar="show|diff|check|explain")
  show = commands.add_parser("show", help="every key, its value, and what it means")
  add_config(show)
  show.add_argument("--changed", action="store_true", help="only keys that differ from base.py")
  show.add_argument("--json", action="store_true", help="as the config.json of a run")
  compare = commands.add_parser("diff", help="keys that differ between two config files or runs")
  compare.add_argument("first", help="a config file or the folder of a run")
  compare.add_argument("second", help="a config file or the folder of a run")
  add_config(commands.add_parser("check", help="everything that is wrong with a config, at once"))
  place = commands.add_parser("explain", help="every parameter and activation: its axes, the mesh's, bytes per device")
  add_config(place)
  place.add_argument("--devices", type=int, metavar="N", help="as if there were so many (default: those here)")


def run(args: argparse.Namespace) -> int:
  return {"show": _show, "diff": _diff, "check": _check, "explain": _explain}[args.action](args)


def help_texts() -> dict[str, str]:
  """{dotted key: its meaning, allowed values and readers}, in the order of base.py."""
  return {name: entry.described() for name, entry in keys().items()}


def _show(args: argparse.Namespace) -> int:
  config = checked_config(args)
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
  print(f"\n* differs from base.py: {len(changed)} of {len(values)} keys. Change any: --config.KEY=VALUE")
  return 0


def _either(name: str) -> ConfigDict:
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


def _explain(args: argparse.Namespace) -> int:
  config = checked_config(args)
  if args.devices is not None and args.devices < 1:
    raise LmxError(message("--devices", got=args.devices, allowed="at least 1"))
  network, shapes = importlib.import_module("lmx.experiment.build").abstract_setup(config, args.devices)
  found = importlib.import_module("lmx.plan.explain").explain(network, **shapes)
  mesh = network.layout.mesh
  axes = ", ".join(f"{axis} {mesh.shape[axis]}" for axis in in_use(mesh.shape)) or "one"
  print(f"{config.name} on {mesh.size} devices: {axes}")
  print("\nParameters, as they are stored; bytes are those of one device")
  _print_places([(f"{one.name} {_sizes(one)}", one) for one in found.parameters])
  parameters, optimizer = human_bytes(found.parameter_bytes), human_bytes(found.optimizer)
  print(f"  {parameters} of parameters, as many of gradients, {optimizer} of optimizer state" +
        (f", {human_bytes(found.host)} of it in the host's memory" if found.host else ""))  # fmt: skip
  print("\nActivations of a micro-batch that are told their place, the largest first (those of a scan: of one layer)")
  _print_places([(f"{one.count} x {_sizes(one)}", one) for one in found.activations])
  return 0


def _sizes(one: Any) -> str:
  axes = ", ".join(f"{axis or '-'} {size}" for axis, size in zip(one.axes, one.shape, strict=True))
  return f"({axes}) {one.dtype}"


def _print_places(rows: list[tuple[str, Any]]) -> None:
  width = max(len(text) for text, _ in rows)
  for text, one in rows:
    print(f"  {text:{width}}  {human_bytes(one.bytes):>7}  {one.why}")


def _check(args: argparse.Namespace) -> int:
  config, problems = config_and_problems(args)
  try:
    known = {problem.partition(": got")[0] for problem in problems}
    found = importlib.import_module("lmx.experiment.build").check(config)
    problems += [problem for problem in found if problem.partition(": got")[0] not in known]
  except Exception:
    if not problems:  # Otherwise the values above explain it, and what is left shows once they are right.
      raise
  if problems:
    raise ConfigError(dict.fromkeys(problems))
  print(f"{args.config}: {len(flatten(config))} keys, nothing wrong")
  print(f"export: {importlib.import_module('lmx.experiment.build').export_as(config)}")
  return 0
