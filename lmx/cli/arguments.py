# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Argument parsing for the commands: a parser that suggests the nearest flag, and flags that several commands share.

Imports no jax and no ml_collections, so that `--help` and mistyped flags answer at once.
"""

import argparse
import dataclasses
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from lmx.errors import LmxError, message

DEFAULT_CONFIG = "configs/cpu.py"
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


@dataclasses.dataclass(frozen=True)
class Number:
  """The type of a numeric flag: how its text is read, and the range that `Parser` checks.

  Attributes:
    kind: int or float.
    allowed: the range in words, for the error message.
    low, high: the smallest and the largest allowed number, both included.
  """

  kind: Callable[[str], float]
  allowed: str
  low: float = -math.inf
  high: float = math.inf

  @property
  def __name__(self) -> str:  # argparse prints it: "invalid int value".
    return self.kind.__name__

  def __call__(self, text: str) -> float:
    return self.kind(text)

  def contains(self, value: float) -> bool:
    return self.low <= value <= self.high


COUNT = Number(int, "at least 1", low=1)
INDEX = Number(int, "at least 0", low=0)
SEED = Number(int, "0 to 2147483647", low=0, high=2**31 - 1)
TEMPERATURE = Number(float, "0 or more", low=0)
PROBABILITY = Number(float, "above 0, up to 1", low=math.nextafter(0, 1), high=1)


def token_count(text: str) -> float:
  """Parses a number of tokens: "300B" is 300e9, "" is 0.

  Raises:
    LmxError: not a number of tokens.
  """
  scale = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
  number, factor = (text[:-1], scale[text[-1].upper()]) if text[-1:].upper() in scale and text else (text, 1.0)
  try:
    return float(number) * factor if text else 0.0
  except ValueError as error:
    raise LmxError(message("--tokens", got=text, allowed="a number, with K, M, B or T", fix="--tokens=300B")) from error


class HelpFormatter(argparse.HelpFormatter):
  """Wraps the paragraphs of a description to the terminal's width, except for commands and indented lines."""

  def _fill_text(self, text: str, width: int, indent: str) -> str:
    paragraphs = []
    for paragraph in text.strip("\n").split("\n\n"):
      if paragraph.startswith((" ", "lmx ")):
        paragraphs.append(textwrap.indent(textwrap.dedent(paragraph), "  "))
      else:
        paragraphs.append(super()._fill_text(paragraph, width, indent))
    return "\n\n".join(paragraphs)


class Parser(argparse.ArgumentParser):
  """An argument parser that raises `LmxError` instead of ending the process, and doesn't guess abbreviations."""

  def __init__(self, **kwargs: Any):
    kwargs.setdefault("formatter_class", HelpFormatter)
    super().__init__(allow_abbrev=False, **kwargs)
    self._commands: Any = None

  def add_subparsers(self, **kwargs: Any) -> Any:
    self._commands = super().add_subparsers(**kwargs)
    return self._commands

  def _parsers(self) -> list["Parser"]:
    """This parser and those of its sub-commands."""
    return [self, *(self._commands.choices.values() if self._commands else ())]

  def flags(self) -> list[str]:
    """Every long flag, including those of sub-commands."""
    return sorted({flag for parser in self._parsers() for flag in _FLAG.findall(parser.format_help())})

  def error(self, message: str) -> NoReturn:
    raise LmxError(f"{self.prog}: {message}. Fix: {self.prog} --help")

  def parse(self, argv: Sequence[str], overrides: list[str]) -> argparse.Namespace:
    """Parses a command line.

    Args:
      argv: the words after the command, without --config.key=value flags.
      overrides: the --config.key=value flags, as `split_overrides` returns them; `.overrides` of the result.

    Raises:
      LmxError: an unknown flag, with the nearest one; numbers out of range, all of them; or --config. flags for a
        command without a config.
    """
    args, unknown = self.parse_known_args(list(argv))
    if unknown:
      name = unknown[0].partition("=")[0]
      subject = f"{self.prog}: flag or argument"
      raise LmxError(message(subject, got=name, allowed=self.flags(), fix=f"{self.prog} --help"))
    if overrides and "config" not in args:
      raise LmxError(f"{self.prog}: takes no config, but --config.{overrides[0]} was passed. Fix: remove it.")
    if problems := list(dict.fromkeys(self._out_of_range(args))):
      raise LmxError("\n".join(problems))
    args.overrides = overrides
    return args

  def _out_of_range(self, args: argparse.Namespace) -> Iterator[str]:
    for action in (action for parser in self._parsers() for action in parser._actions):
      value = getattr(args, action.dest, None)
      if isinstance(action.type, Number) and value is not None and not action.type.contains(value):
        yield message(action.option_strings[0], got=value, allowed=action.type.allowed)


def split_overrides(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """Separates "--config.key=value", "--config.key value" and "--noconfig.key" from the other words of a command line.

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


def add_config(parser: argparse.ArgumentParser, *, reports_problems: bool = False) -> None:
  """Adds --config; `main` removes the --config.key=value flags before the parser sees the command line.

  Args:
    parser: of the command.
    reports_problems: the command reports what is wrong with its config itself, from `args.config_problems`; otherwise
      a config with problems is an error before the command starts.
  """
  parser.add_argument(
    "--config",
    metavar="FILE.py[:ARGUMENT]",
    default=DEFAULT_CONFIG,
    help=f"config file; the text after the colon is passed to its get_config (default: {DEFAULT_CONFIG})",
  )
  parser.epilog = "--config.KEY=VALUE overrides any key of the config (lmx config show lists them)."
  parser.set_defaults(reports_problems=reports_problems)


def add_run(parser: argparse.ArgumentParser) -> None:
  """Adds the folder of a run and the step of its checkpoint."""
  parser.add_argument("run", metavar="RUN", help="folder of a run, such as runs/cpu")
  parser.add_argument("--step", type=int, metavar="N", help="checkpoint to load, by its step (default: the last one)")


def add_sampling(parser: argparse.ArgumentParser, text: str) -> None:
  """Adds the flags of generation; `text` names what is generated."""
  parser.add_argument(
    "--max-new-tokens", type=COUNT, metavar="N", help=f"maximum length of {text} (default: the model's, else 200)"
  )
  parser.add_argument("--temperature", type=TEMPERATURE, metavar="T",
                      help="0 always takes the likeliest token (default: the model's, else 0.8)")  # fmt: skip
  parser.add_argument("--plain", action="store_true", help="ignore the defaults in the model's generation_config.json")
  parser.add_argument(
    "--seed", type=SEED, default=0, metavar="N", help=f"the same seed gives the same {text.split()[-1]} (default: 0)"
  )
