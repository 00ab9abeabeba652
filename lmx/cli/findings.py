# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Findings of `lmx doctor`, and how a check is run so that an exception becomes one."""

import dataclasses
from collections.abc import Callable, Iterable

from lmx.config.loading import ConfigDict

OK, NOTE, PROBLEM = "ok", "note", "PROBLEM"


@dataclasses.dataclass(frozen=True)
class Finding:
  """One line of the report: ok, note (works, but worth knowing) or PROBLEM (training would fail)."""

  level: str
  subject: str
  text: str


Check = Callable[[ConfigDict], Iterable[Finding]]


def checked(check: Check, config: ConfigDict) -> list[Finding]:
  """The findings of a check; an exception is a problem, named after the check.

  Args:
    check: the check.
    config: the config that is diagnosed.
  """
  findings: list[Finding] = []
  try:
    findings.extend(check(config))
  except Exception as error:  # A broken installation is reported, not raised.
    findings.append(Finding(PROBLEM, check.__name__.strip("_"), f"{type(error).__name__}: {error}"))
  return findings
