# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Verdicts on a process's end and a run's numbers: the outcomes, and the comparison with an undisturbed run.

Everything here works on exit codes, output and files alone, so a wrong verdict can be tested without a run.
"""

import dataclasses
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lmx.exits import DIFFERENT_PROCESSES, DONE, INTERRUPTED, LOST_PROCESS, MISTAKE, SAVED, SIGNALLED, STORAGE

# What differs between two runs that computed the same: when, how fast, and in how much memory.
TIMES = ("time", "seconds", "tokens_per_second", "step_seconds", "data_wait_share", "peak_memory_bytes")
# Exit codes of lmx.exits with which a command stops for a reason that its message gives.
# The last two: another process of the run got the signal.
DOCUMENTED = (MISTAKE, STORAGE, LOST_PROCESS, DIFFERENT_PROCESSES, INTERRUPTED, SIGNALLED + signal.SIGTERM)

EQUAL, THEN_EQUAL, MESSAGE = "equal", "message, then equal", "message"
WARNED = "warning, then equal"
REFUSED, UNDOCUMENTED, TRACEBACK, DIFFERENCE, HANG = "no resume", "undocumented end", "traceback", "difference", "hang"
TOOL = "tool failed"
GOOD = (EQUAL, THEN_EQUAL, WARNED, MESSAGE)
BAD = (REFUSED, UNDOCUMENTED, TRACEBACK, DIFFERENCE, HANG, TOOL)
MEANING = {
  EQUAL: "resumed (or continued) to the end, every loss bit for bit that of the undisturbed run",
  THEN_EQUAL: "stopped with one documented message; once the cause was gone, the same command resumed and was equal",
  WARNED: "resumed, warned that metrics.jsonl was damaged, and wrote every remaining line as the undisturbed run did",
  MESSAGE: "stopped with one documented message, for damage that nothing but the user can undo",
  REFUSED: "the cause was gone, and the same command would still not resume",
  UNDOCUMENTED: "an exit code that isn't documented, no message, or more than one",
  TRACEBACK: "a Python traceback, or an abort with a C++ stack",
  DIFFERENCE: "a number or a file that differs from the undisturbed run's, without a word",
  HANG: "did not end within the limit",
  TOOL: "tools.chaos itself failed; nothing is known about lmx",
}

# A Python traceback, or what C++ prints before it aborts: glog's fatal lines and stacks, terminate, sanitizers.
_STACK = re.compile(
  r"^(Traceback \(most recent call last\)|\s*\+ Exception Group Traceback|Fatal Python error|terminate called"
  r"|F\d{4} \d\d:\d\d:\d\d|libc\+\+abi|\*\*\* Check failure|\*\*\* SIG\w+ received|\s+@\s+0x[0-9a-f]+"
  r"|Exception ignored in|Exception in thread)",
  re.MULTILINE,
)
_ABORTS = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}


@dataclasses.dataclass(frozen=True)
class End:
  """How a process ended.

  Attributes:
    name: for people.
    code: as subprocess has it, -N after signal N; None: it had to be killed because it did not end.
    output: what it printed.
    signals: the signals it was sent; ending by one of them is no failure.
  """

  name: str
  code: int | None
  output: str
  signals: tuple[int, ...] = ()


def messages(output: str) -> list[str]:
  """The lines that begin an error message."""
  return re.findall(r"^error: .*", output, re.MULTILINE)


def raised(stack: str) -> str:
  """The most informative line of a printed stack: the exception of a Python traceback, else the first."""
  first, *rest = stack.splitlines()
  exceptions = (line for line in rest if line and not line.startswith((" ", "Traceback")))
  return next(exceptions, first) if first.startswith("Traceback") else first


def judge_end(end: End) -> tuple[str, str]:
  """(EQUAL for an end without a complaint, or another outcome; why)."""
  if end.code is None:
    return HANG, f"{end.name} did not end"
  if (found := _STACK.search(end.output)) or end.code in _ABORTS:
    what = raised(end.output[found.start() :]) if found else "no stack was printed"
    return TRACEBACK, f"{end.name} ended with code {end.code}: {what[:300]}"
  errors = messages(end.output)
  number = end.code - SIGNALLED if end.code > SIGNALLED else -end.code  # As shells count, or as the system does.
  if number in end.signals and not errors:
    return EQUAL, f"{end.name} was ended by {signal.Signals(number).name}"
  if end.code in (DONE, SAVED):
    if errors:
      return UNDOCUMENTED, f"{end.name} printed an error and ended with code {end.code}: {errors[0][:200]}"
    return EQUAL, f"{end.name} ended well"
  if end.code not in DOCUMENTED:
    return UNDOCUMENTED, f"{end.name} ended with code {end.code}; documented: {', '.join(map(str, DOCUMENTED))}"
  if len(errors) != 1:
    return UNDOCUMENTED, f"{end.name} ended with code {end.code} and {len(errors)} error messages"
  return MESSAGE, f"{end.name}, code {end.code}: {errors[0][:300]}"


# ---------------------------------------------------------------- comparison


def records(file: Path) -> Iterator[dict[str, Any]]:
  """The lines of metrics.jsonl without times; one cut short at the end, or damaged, is left out."""
  if not file.is_file():
    return
  for line in file.read_bytes().splitlines(keepends=True):
    try:
      record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
      record = None
    if isinstance(record, dict):
      yield {name: value for name, value in record.items() if name not in TIMES}


def first_difference(run: Path, reference: Path, *, whole: bool) -> str | None:
  """The first number of a run that is not that of the undisturbed one, or None.

  Args:
    run: its folder.
    reference: that of the undisturbed run.
    whole: whether every line must be there; False: the first of them, as in a run that was stopped.
  """
  ours, theirs = list(records(run / "metrics.jsonl")), list(records(reference / "metrics.jsonl"))
  for number, (mine, other) in enumerate(zip(ours, theirs, strict=False), start=1):
    if mine != other:
      keys = [key for key in {**other, **mine} if mine.get(key) != other.get(key)]
      values = ", ".join(f"{key} {mine.get(key)!r} instead of {other.get(key)!r}" for key in keys[:3])
      return f"metrics.jsonl, line {number} (step {other.get('step')}): {values}"
  if len(ours) > len(theirs) or (whole and len(ours) < len(theirs)):
    return f"metrics.jsonl has {len(ours)} whole lines instead of {len(theirs)}"
  return first_other_file(run, reference) if whole else None


def _contents(file: Path) -> Any:
  """What counts of a file: of a tokenizer's description, all but the name that it has for people."""
  data = file.read_bytes()
  if file.name != "lmx_tokenizer.json":
    return data
  try:
    return {key: value for key, value in json.loads(data).items() if key != "name"}
  except (ValueError, AttributeError):
    return data


_DAMAGED_METRICS = re.compile(r"^warning: metrics\.jsonl .* records up to step (\d+)", re.MULTILINE)


def warned_step(output: str) -> int | None:
  """The step up to which a resumed run warns that metrics.jsonl was altered; None: no warning."""
  found = _DAMAGED_METRICS.search(output)
  return int(found[1]) if found else None


def first_difference_after(run: Path, reference: Path, step: int) -> str | None:
  """As `first_difference`, of the lines of later steps than one, and of the run's files."""
  ours, theirs = (
    [record for record in records(folder / "metrics.jsonl") if record.get("step", 0) > step]
    for folder in (run, reference)
  )
  if ours != theirs:
    return f"metrics.jsonl differs after step {step}, too"
  return first_other_file(run, reference)


def first_other_file(run: Path, reference: Path) -> str | None:
  """The first small file that an undisturbed run has and this one lacks, or has with other bytes."""
  files = [reference / "config.json", *sorted((reference / "tokenizer").iterdir())]
  files += sorted(reference.glob("samples/*"))
  for file in files:
    name = file.relative_to(reference)
    if not (run / name).is_file():
      return f"{name} is missing"
    if _contents(run / name) != _contents(file):
      return f"{name} has other bytes"
  return None


def verdict(
  disturbed: list[End], last: End | None, difference: str | None, *, heals: bool, warned: str = ""
) -> tuple[str, str]:
  """(the outcome of a case, why).

  Args:
    disturbed: the processes that ran while something was done to them.
    last: the same command again after that; None: nothing was left to do.
    difference: from the undisturbed run, at any time.
    heals: whether the same command must resume, because what was done has been undone.
    warned: the last one's warning about a damaged metrics.jsonl whose other lines are right; "": nothing.
  """
  judged = [judge_end(end) for end in disturbed]
  again = (EQUAL, "") if last is None else judge_end(last)
  for outcome in (HANG, TRACEBACK):
    for found in (*judged, again):
      if found[0] == outcome:
        return found
  if difference is not None:
    return DIFFERENCE, difference
  for found in (*judged, again):
    if found[0] == UNDOCUMENTED:
      return found
  if again[0] == MESSAGE:
    return (REFUSED if heals else MESSAGE), again[1]
  if warned:
    return WARNED, warned
  refusals = [why for outcome, why in judged if outcome == MESSAGE]
  return (THEN_EQUAL, refusals[0]) if refusals else (EQUAL, "; ".join(why for _, why in judged))
