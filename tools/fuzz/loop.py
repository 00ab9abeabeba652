# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The loop that makes changed inputs, reads each within a time limit, and counts the outcomes.

Inputs are read in a process of their own: one that takes too long is ended and reported, wherever it hangs.
"""

import collections
import dataclasses
import multiprocessing
import random
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmx.errors import LmxError

Say = Callable[[str], None]
READ, REFUSED, FAILED, SLOW = OUTCOMES = ("read", "refused", "failed", "slow")
_START = 300.0  # Seconds that a process may take to import what it needs.
_SHOWN = 300  # Characters of an input that failed.


@dataclasses.dataclass(frozen=True)
class Case:
  """One changed input.

  Attributes:
    base: what it was made from; a row of the report.
    shown: the input, for people.
    read: reads it: whether it was used; raises LmxError for what can't be.
    names: what a message has to contain; "": anything.
  """

  base: str
  shown: str
  read: Callable[[], bool]
  names: str = ""


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of input.

  Attributes:
    name: what it is asked for by.
    make: (empty folder, random) -> a changed input.
  """

  name: str
  make: Callable[[Path, random.Random], Case]


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The outcome of an input: one of `OUTCOMES`, its base, and for a failure the input and its traceback."""

  what: str
  base: str
  text: str = ""


def attempt(kind: Kind, seed: str) -> Outcome:
  """Makes one changed input and reads it, in this process."""
  with tempfile.TemporaryDirectory(prefix="lmx_fuzz_") as folder, warnings.catch_warnings():
    warnings.simplefilter("ignore")
    case = kind.make(Path(folder), random.Random(f"{kind.name} {seed}"))
    try:
      return Outcome(READ if case.read() else REFUSED, case.base)
    except LmxError as error:
      if str(error) and case.names in str(error):
        return Outcome(REFUSED, case.base)
      return Outcome(FAILED, case.base, f"a message that doesn't name {case.names!r}: {str(error)[:_SHOWN]}")
    except Exception:  # What this program looks for.
      shown = case.shown[:_SHOWN].encode(errors="backslashreplace").decode()
      return Outcome(FAILED, case.base, f"{shown}\n{traceback.format_exc(limit=-3)}")


def _serve(connection: Any, kinds: Mapping[str, Kind]) -> None:
  """Reads inputs in a process of its own until it is ended; `kinds` comes with all that it imports."""
  connection.send(None)
  while True:
    name, seed = connection.recv()
    connection.send(attempt(kinds[name], seed))


class Reader:
  """A process that reads inputs; one that takes too long is ended, and the next input has a new one."""

  def __init__(self, kinds: Sequence[Kind], seconds: float):
    self._kinds, self._seconds = {kind.name: kind for kind in kinds}, seconds
    self._context = multiprocessing.get_context("spawn")
    self._process: Any = None

  def _start(self) -> None:
    self._connection, theirs = self._context.Pipe()
    self._process = self._context.Process(target=_serve, args=(theirs, self._kinds), daemon=True)
    self._process.start()
    theirs.close()
    if not self._connection.poll(_START):
      raise TimeoutError(f"the process that reads didn't start in {_START} seconds")
    self._connection.recv()

  def attempt(self, name: str, seed: str) -> Outcome:
    """As the function of this name, within the time limit; a process that dies is a failure, too."""
    if self._process is None:
      self._start()
    self._connection.send((name, seed))
    try:
      if self._connection.poll(self._seconds):
        return self._connection.recv()
      outcome = Outcome(SLOW, "-", f"not read in {self._seconds} seconds")
    except EOFError:
      outcome = Outcome(FAILED, "-", "the process that reads it died")
    self.close()
    return outcome

  def close(self) -> None:
    """Ends the process."""
    if self._process is not None:
      self._process.kill()
      self._process.join()
      self._connection.close()
      self._process = None


def fuzz(
  kinds: Sequence[Kind], count: int, seed: int, seconds: float = 10.0, say: Say = lambda text: None
) -> dict[tuple[str, str], collections.Counter[str]]:
  """Reads that number of changed inputs, of each kind in turn.

  Args:
    kinds: what to change.
    count: inputs in all.
    seed: the same seed makes the same changes.
    seconds: that one input may take, its making included.
    say: receives a text for each one that failed or was too slow.

  Returns:
    {(kind, what the input was made from): outcome -> how many}.
  """
  found: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
  reader = Reader(kinds, seconds)
  try:
    for number in range(count):
      kind, name = kinds[number % len(kinds)].name, f"{seed}.{number}"
      outcome = reader.attempt(kind, name)
      found[kind, outcome.base][outcome.what] += 1
      if outcome.text:
        say(f"{kind} {name}, {outcome.base}: {outcome.what}: {outcome.text}")
  finally:
    reader.close()
  return dict(found)


def failed(found: Mapping[Any, Mapping[str, int]]) -> int:
  """How many inputs ended in anything but a reading or a refusal."""
  return sum(counts.get(FAILED, 0) + counts.get(SLOW, 0) for counts in found.values())


def table(found: Mapping[tuple[str, str], collections.Counter[str]]) -> Iterator[str]:
  """The report, as the lines of a table: what each input was made from, then each kind, then all."""
  rows: dict[tuple[str, str], collections.Counter[str]] = {key: found[key] for key in sorted(found)}
  for kind, _ in sorted(found):
    rows[kind, "all"] = sum((found[key] for key in found if key[0] == kind), collections.Counter())
  rows["all", "all"] = sum(found.values(), collections.Counter())
  yield f"| kind | made from | {' | '.join(OUTCOMES)} |"
  yield "|" + "---|" * (2 + len(OUTCOMES))
  for (kind, base), counts in rows.items():
    yield f"| {kind} | {base} | {' | '.join(f'{counts[what]:,}' for what in OUTCOMES)} |"
