# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Calls to the programs of engines (sbatch, gcloud, xpk, sky), and the files written for them."""

import dataclasses
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lmx.errors import LmxError

INSTALL = {
  "sbatch": "Slurm's client tools, on a login node of the cluster",
  "gcloud": "https://cloud.google.com/sdk/docs/install, then gcloud auth login",
  "xpk": "pip install xpk, in an environment of its own",
  "sky": "pip install 'skypilot[gcp]', in an environment of its own, then sky check",
}


@dataclasses.dataclass(frozen=True)
class Write:
  """A file to write."""

  path: Path
  text: str

  def __str__(self) -> str:
    return f"--- {self.path}\n{self.text.rstrip()}\n---"


@dataclasses.dataclass(frozen=True)
class Call:
  """A command to run; `note` says when, where it isn't in turn."""

  words: Sequence[str]
  note: str = ""

  def __str__(self) -> str:
    return f"{f'# {self.note}{chr(10)}' if self.note else ''}{shlex.join(self.words)}"


Action = Write | Call


def write_all(actions: Sequence[Action]) -> None:
  """Writes the files of some actions."""
  for action in actions:
    if isinstance(action, Write):
      action.path.parent.mkdir(parents=True, exist_ok=True)
      action.path.write_text(action.text, encoding="utf-8")


def call(words: Sequence[str], *, text: str | None = None, seconds: float | None = None) -> subprocess.CompletedProcess:
  """Runs a command of an engine to its end, whatever its exit code.

  Args:
    words: of the command.
    text: for its standard input.
    seconds: time limit.

  Raises:
    LmxError: the program is not installed.
    subprocess.TimeoutExpired: it did not end in time; it was killed.
  """
  if shutil.which(words[0]) is None:
    fix = f" Fix: {INSTALL[words[0]]}." if words[0] in INSTALL else ""
    raise LmxError(f"lmx launch: the program {words[0]} is not installed here.{fix}")
  source = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
  return subprocess.run(list(words), capture_output=True, text=True, timeout=seconds, errors="replace", **source)


def answer(words: Sequence[str]) -> str:
  """What a command prints.

  Raises:
    LmxError: it failed, or is not installed; with its own message.
  """
  done = call(words)
  if done.returncode:
    raise LmxError(f"{shlex.join(words[:3])} failed with code {done.returncode}: {last_lines(done.stderr)}")
  return done.stdout


def last_lines(text: str) -> str:
  """The end of a program's message, where its reason is."""
  return " / ".join(line.strip() for line in text.strip().splitlines()[-3:])[:600]
