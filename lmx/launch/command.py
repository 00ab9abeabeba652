# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The lmx command that a job runs: the words after `--`, checked before anything is sent anywhere."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lmx.errors import LmxError, choose, message
from lmx.launch.source import ShippedCode

KINDS = ("train", "sweep", "evaluate")
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")  # What Google Cloud, Slurm and Kubernetes all accept.
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class JobCommand:
  """`lmx <words>` of a job.

  Args:
    words: after `--`, with or without a leading "lmx".

  Raises:
    LmxError: no command, one that a job can't run, or words that the launcher gives itself.
  """

  def __init__(self, words: Sequence[str]):
    self.words = list(words[1:] if words[:1] == ["lmx"] else words)
    if not self.words:
      raise LmxError("lmx launch: which command? Fix: lmx launch --on=local -- train --workdir=runs/a")
    choose("lmx launch -- COMMAND", self.words[0], dict.fromkeys(KINDS))
    for flag in ("--coordinator", "--process-count", "--process-index"):
      if self.value(flag) is not None:
        raise LmxError(f"{flag}: the launcher gives each process its own. Fix: leave it out.")

  @property
  def kind(self) -> str:
    return self.words[0]

  def value(self, flag: str) -> str | None:
    """The value of a flag, as --flag=value or --flag value; None where it isn't given."""
    for number, word in enumerate(self.words):
      name, equals, value = word.partition("=")
      if name == flag:
        return value if equals else next(iter(self.words[number + 1 :]), "")
    return None

  @property
  def workdir(self) -> str | None:
    return self.value("--workdir")

  def config_file(self) -> str | None:
    """The file of --config, without its argument; None where it isn't given."""
    config = self.value("--config")
    return None if config is None else config.partition(":")[0]

  def shipped(self, source: ShippedCode, code: str) -> list[str]:
    """The words with --config as the shipped file's path.

    Args:
      source: of the job.
      code: the folder of the shipped code, where the command runs.

    Raises:
      LmxError: the config file is not among the shipped files.
    """
    config, file = self.value("--config"), self.config_file()
    if config is None or file is None:
      return list(self.words)
    inside = _inside(file, source)
    if inside is None:
      raise LmxError(
        f"--config: {file} is not among the files that git tracks in {source.clone}, so it would not be shipped. "
        f"Fix: git add {file}"
      )
    argument = config[len(file) :]
    words, skip = [], False
    for word in self.words:
      if skip:
        skip = False
      elif word.partition("=")[0] == "--config":
        skip = "=" not in word
        words.append(f"--config={code}/{inside}{argument}")
      else:
        words.append(word)
    return words


def _inside(file: str, source: ShippedCode) -> str | None:
  """A config file's path in the clone, if it is shipped; found as `lmx train` finds it, from here or by its name."""
  here = Path(file).expanduser()
  candidates = [here.resolve()] if here.is_file() else [source.clone / file, source.clone / "configs" / file]
  for path in candidates:
    if path.is_relative_to(source.clone) and source.has(str(path.relative_to(source.clone))):
      return str(path.relative_to(source.clone))
  return None


def job_name(name: str | None, command: JobCommand) -> str:
  """A job's name: as given, or made from the run's folder or the config file.

  Raises:
    LmxError: the given one is not allowed.
  """
  if name is None:
    stem = Path(command.workdir or command.config_file() or command.kind).name.removesuffix(".py")
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-")
    name = name if name[:1].isalpha() else f"job-{name}"[:40].strip("-")
  if not _NAME.fullmatch(name):
    allowed = "up to 40 lower-case letters, digits and -, a letter first"
    raise LmxError(message("--name", got=name, allowed=allowed, fix="--name=my-run"))
  return name


def read_secrets(names: Sequence[str], words: Sequence[str], environment: Mapping[str, str] = os.environ) -> None:
  """Checks the secrets of a job: each is a variable of the environment, and its value is nowhere in the command.

  Raises:
    LmxError: one isn't; the message never shows a value.
  """
  for name in names:
    if not _VARIABLE.fullmatch(name):
      raise LmxError("--secret: takes the name of a variable of the environment, never its value. "
                     f"Fix: export {re.match('[A-Za-z_]*', name)[0] or 'TOKEN'}=..., "  # type: ignore[index]
                     "and --secret with the name alone.")  # fmt: skip
    if not environment.get(name):
      raise LmxError(f"--secret={name}: this variable is not set here. Fix: export {name}=...")
    if any(environment[name] in word for word in words):
      raise LmxError(f"--secret={name}: its value stands in the command, which is logged. Fix: leave it out there.")
