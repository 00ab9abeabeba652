# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Helpers for tests of laws. A law is a function that raises AssertionError when what it is given breaks it.

Each law is run on the real thing, and once on a twin broken on purpose: a check that cannot fail proves nothing.
"""

from collections.abc import Callable
from typing import Any


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
