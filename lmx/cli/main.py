# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The command `lmx`: parses the flags with argparse, then imports the module of one command and runs it.

Help, mistyped flags and mistyped config keys are answered before jax is imported.
"""

import argparse
import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Sequence

import lmx
from lmx.cli.allocator import keep_freed_memory
from lmx.cli.arguments import Parser, split_overrides
from lmx.cli.flags import COMMANDS, Command
from lmx.errors import LmxError, LostProcessError, StorageError, message, show_warnings_in_one_line
from lmx.exits import DONE, INTERRUPTED, MISTAKE, SIGNALLED, code_of, leave, safe
from lmx.parallel.signals import StopSignals, say_stopping
from lmx.versions import FIX, version_problems

NOTHING_SAVED = "Nothing had started."


def usage() -> str:
  """What `lmx --help` prints."""
  lines = [f"  {name:10} {command.help}" for name, command in COMMANDS.items()]
  return "\n".join(
    [
      "usage: lmx <command> [flags]",
      "",
      *lines,
      "",
      "lmx train                                                  train the default model, on this machine",
      "lmx train --config=configs/gpt2.py:small --workdir=runs/a  use a config file, with an argument after the colon",
      "lmx train --config.optimizer.peak_lr=3e-4                  override any key of the config",
      "lmx <command> --help                                       list the flags of a command",
      "",
      "exit codes: 0 success, 2 a mistake in the input; `lmx train --help` and docs/api.md list the others",
    ]
  )


def parse(argv: Sequence[str]) -> tuple[Command, argparse.Namespace]:
  """The command of a command line, and its flags.

  Args:
    argv: the words after `lmx`, of which there is at least one.

  Raises:
    LmxError: an unknown command or flag, or installed packages that don't fit.
  """
  name = argv[0]
  if name not in COMMANDS:
    raise LmxError(message("command", got=name, allowed=COMMANDS, fix="lmx --help"))
  command = COMMANDS[name]
  problems = version_problems() if command.needs_jax else []
  if problems:
    raise LmxError(f"{'; '.join(problems)}. Fix: {FIX}")
  parser = Parser(prog=f"lmx {name}", description=inspect.getdoc(command.flags))
  parser.set_defaults(module=command.module)
  command.flags(parser)
  rest, overrides = split_overrides(argv[1:])
  return command, parser.parse(rest, overrides)


def run(argv: Sequence[str]) -> int:
  """Runs one command line and returns its exit code."""
  if not argv or argv[0] in ("-h", "--help", "help"):
    print(usage())
    return DONE
  if argv[0] in ("--version", "-V"):
    print(f"lmx {lmx.__version__}")
    return DONE
  command, args = parse(argv)
  with contextlib.ExitStack() as stack:
    if command.needs_jax:
      keep_freed_memory()  # Before anything starts threads.
    if getattr(args, "coordinator", None) is not None:
      # C++ would log that a process is lost before lmx reports it. jax reads the variable when it is imported.
      os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if command.saves_on_signals:
      args.stop = stack.enter_context(StopSignals(say_stopping, stop_at_once))
    if "config" in args:
      importlib.import_module("lmx.cli.given_config").read_config(args)
    return importlib.import_module(f"lmx.cli.{args.module}").run(args)


def stop_at_once(number: int, name: str) -> None:
  """Ends the process after a signal when there is nothing to save, or after a second signal.

  Args:
    number: of the signal.
    name: of the signal, such as "SIGTERM".
  """
  leave(SIGNALLED + number, f"{name}: stopped at once. {safe() or NOTHING_SAVED}")


def main(argv: Sequence[str] | None = None) -> int:
  """The console script; its exit codes are those of `lmx.exits`."""
  show_warnings_in_one_line()
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):  # A terminal that can't show a character gets a "?", not a crash.
      stream.reconfigure(errors="replace")
  try:
    code = run(sys.argv[1:] if argv is None else argv)
    sys.stdout.flush()
    return code
  except (LostProcessError, StorageError) as error:
    leave(code_of(error), f"error: {error}")  # Exit handlers would wait for a process or a disk that is gone.
  except LmxError as error:
    print(f"error: {error}", file=sys.stderr)
    return code_of(error)
  except ModuleNotFoundError as error:
    if (error.name or "lmx").partition(".")[0] == "lmx":
      raise
    print(
      f"error: the package {error.name} is not installed. Fix: pip install -c constraints.txt -e .", file=sys.stderr
    )
    return MISTAKE
  except KeyboardInterrupt:
    print("stopped", file=sys.stderr)
    return INTERRUPTED
  except BrokenPipeError:  # `lmx config show | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return DONE
