# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The command `lmx`: picks a command's module from a table, reads its flags, and turns mistakes into short messages.

Only the chosen command's module is imported, and a command's module imports what is heavy when it runs, so that help
and mistyped flags answer at once.
"""

import argparse
import importlib
import os
import sys
import textwrap
from collections.abc import Sequence
from types import ModuleType

import lmx
from lmx.cli.allocator import keep_freed_memory
from lmx.cli.arguments import Parser, split_overrides
from lmx.errors import LmxError, LostProcessError, StorageError, message, show_warnings_in_one_line
from lmx.exits import DONE, INTERRUPTED, MISTAKE, code_of, leave
from lmx.versions import FIX, version_problems

# Command -> (module with add_arguments(parser) and run(args) -> exit code, one line of help).
COMMANDS = {
  "train": ("lmx.cli.train", "train a model, or resume a run"),
  "sweep": ("lmx.cli.sweep", "train once for each combination of some keys, or search for the best"),
  "evaluate": ("lmx.cli.evaluate", "validation loss and bits per byte of a run"),
  "generate": ("lmx.cli.generate", "generate text with a run"),
  "predict": ("lmx.cli.predict", "run a fine-tuned model over a file"),
  "chat": ("lmx.cli.chat", "chat with a fine-tuned run"),
  "import": ("lmx.cli.import_hf", "import a Hugging Face model as a run"),
  "export": ("lmx.cli.export_hf", "export a run as a Hugging Face model"),
  "tokenizer": ("lmx.cli.tokenizer", "train a tokenizer; show how it tokenizes a text"),
  "data": ("lmx.cli.data", "show batches as the model sees them; count tokens"),
  "config": ("lmx.cli.config", "show, compare and check configs"),
  "plan": ("lmx.cli.plan", "estimate memory, step time and cost on hardware you don't have"),
  "plot": ("lmx.cli.plot", "plot the loss curves of one or several runs"),
  "doctor": ("lmx.cli.doctor", "diagnose the installation"),
}
# Commands that work when the installed packages don't fit each other.
_WITHOUT_JAX = ("config", "plot", "doctor", "sweep")


def usage() -> str:
  lines = [f"  {name:10} {text}" for name, (_, text) in COMMANDS.items()]
  return "\n".join(
    [
      "usage: lmx <command> [flags]",
      "",
      *lines,
      "",
      "lmx train                                                  the default model, on this machine",
      "lmx train --config=configs/gpt2.py:small --workdir=runs/a  a config file, with an argument after the colon",
      "lmx train --config.optimizer.peak_lr=3e-4                  any key of the config, changed",
      "lmx <command> --help                                       the flags of a command",
    ]
  )


def parse(argv: Sequence[str]) -> tuple[ModuleType, argparse.Namespace]:
  """The module of a command line's command, and its flags.

  Raises:
    LmxError: an unknown command or flag, or installed packages that don't fit.
  """
  name = argv[0]
  if name not in COMMANDS:
    raise LmxError(message("command", got=name, allowed=COMMANDS, fix="lmx --help"))
  problems = [] if name in _WITHOUT_JAX else version_problems()
  if problems:
    raise LmxError(f"{'; '.join(problems)}. Fix: {FIX}")
  module = importlib.import_module(COMMANDS[name][0])
  parser = Parser(prog=f"lmx {name}", description=textwrap.dedent(module.__doc__ or ""))
  module.add_arguments(parser)
  rest, overrides = split_overrides(argv[1:])
  return module, parser.parse(rest, overrides)


def run(argv: Sequence[str]) -> int:
  """Runs one command line and returns its exit code."""
  if not argv or argv[0] in ("-h", "--help", "help"):
    print(usage())
    return DONE
  if argv[0] in ("--version", "-V"):
    print(f"lmx {lmx.__version__}")
    return DONE
  module, args = parse(argv)
  if argv[0] not in _WITHOUT_JAX:
    keep_freed_memory()  # Before anything starts threads.
  return module.run(args)


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
    leave(code_of(error), f"error: {error}")  # What runs at exit would wait for a process or a disk that is gone.
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
