# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Flags shared by the commands, and a parser whose mistakes name the nearest flag."""

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from lmx.errors import LmxError, message

DEFAULT_CONFIG = "configs/cpu.py"
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


class Parser(argparse.ArgumentParser):
  """An argument parser that raises `LmxError` instead of ending the process, and doesn't guess abbreviations."""

  def __init__(self, **kwargs: Any):
    kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
    super().__init__(allow_abbrev=False, **kwargs)
    self._commands: Any = None

  def add_subparsers(self, **kwargs: Any) -> Any:
    self._commands = super().add_subparsers(**kwargs)
    return self._commands

  def flags(self) -> list[str]:
    """Every long flag, those of sub-commands included."""
    parsers = [self, *(self._commands.choices.values() if self._commands else ())]
    return sorted({flag for parser in parsers for flag in _FLAG.findall(parser.format_help())})

  def error(self, message: str) -> NoReturn:
    raise LmxError(f"{self.prog}: {message}. Fix: {self.prog} --help")

  def parse(self, argv: Sequence[str], overrides: list[str]) -> argparse.Namespace:
    """The flags, with `overrides` among them.

    Raises:
      LmxError: a flag that isn't known, with the nearest one; or --config. flags where there is no config.
    """
    args, unknown = self.parse_known_args(list(argv))
    if unknown:
      name = unknown[0].partition("=")[0]
      subject = f"{self.prog}: flag or argument"
      raise LmxError(message(subject, got=name, allowed=self.flags(), fix=f"{self.prog} --help"))
    if overrides and "config" not in args:
      raise LmxError(f"{self.prog}: takes no config, and got --config.{overrides[0]}. Fix: leave it out.")
    args.overrides = overrides
    return args


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """Takes "--config.key=value", "--config.key value" and "--noconfig.key" out of a command line.

  Returns:
    The rest ("--sweep.key=values" as "--axis key=values", since argparse knows complete flags only), and the
    overrides as "key=value" (or "key" where no value follows; `lmx.config.loading` reports it).
  """
  rest: list[str] = []
  overrides: list[str] = []
  words = list(argv)
  while words:
    word = words.pop(0)
    name, equals, value = word.removeprefix("--config.").partition("=")
    if word == "--":
      return [*rest, word, *words], overrides
    if word.startswith("--noconfig."):
      overrides.append(f"{word.removeprefix('--noconfig.')}=false")
    elif word.startswith("--sweep."):
      rest += ["--axis", word.removeprefix("--sweep.") if "=" in word or not words else f"{word[8:]}={words.pop(0)}"]
    elif not word.startswith("--config."):
      rest.append(word)
    elif equals or not words or words[0].startswith("--"):
      overrides.append(f"{name}{equals}{value}")
    else:
      overrides.append(f"{name}={words.pop(0)}")
  return rest, overrides


def add_config(parser: argparse.ArgumentParser) -> None:
  """Adds --config; the --config.key=value flags are taken out before the parser sees the command line."""
  parser.add_argument(
    "--config",
    metavar="FILE.py[:ARGUMENT]",
    default=DEFAULT_CONFIG,
    help=f"the config file; what follows the colon is given to it (default: {DEFAULT_CONFIG})",
  )
  parser.epilog = "--config.KEY=VALUE changes any key of the config (lmx config show lists them)."


def add_run(parser: argparse.ArgumentParser) -> None:
  """Adds the folder of a run and the step of its checkpoint."""
  parser.add_argument("run", metavar="RUN", help="the folder of a run, such as runs/cpu")
  parser.add_argument("--step", type=int, help="the checkpoint of this step (default: the last one)")
