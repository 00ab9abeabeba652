# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Helpers for tests of laws. A law is a function that raises AssertionError when its argument breaks it.

Each law is run on the real thing, and once on a deliberately broken twin: a check that cannot fail proves nothing.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest


def assert_law_catches(check: Callable[..., None], mutant: Any, *args: Any, **kwargs: Any) -> None:
  """Runs `check(mutant, ...)` and fails unless it raises AssertionError.

  Any other exception passes through: a mutant that crashes was never judged.
  """
  try:
    check(mutant, *args, **kwargs)
  except AssertionError:
    return
  name = getattr(check, "__name__", str(check))
  raise AssertionError(f"the law {name} did not notice the broken twin {mutant!r}")


def slow_but(default: Collection[Any], cases: Iterable[Any]) -> list[Any]:
  """All cases of a test; those that are not among `default` are left to `pytest -m slow`.

  The ones by default are chosen so that each way in which cases differ is among them.
  """
  cases = list(cases)
  missing = [case for case in default if case not in cases]
  assert not missing, f"no such cases: {missing}"

  def marked(case: Any) -> Any:
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)

  return [case if case in default else marked(case) for case in cases]
