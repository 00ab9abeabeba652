# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The function sweep() of a Python file, which lists or draws the trials of a sweep."""

import inspect
from collections.abc import Callable
from typing import Any

from lmx.config.loading import find_config_file
from lmx.config.table import import_file
from lmx.errors import LmxError


def sweep_of_file(path: str) -> tuple[Callable[..., Any], str]:
  """The function sweep() of a Python file, and the file's path; what follows ".py:" is left out.

  Raises:
    LmxError: no such file or function.
  """
  name, colon, _ = path.partition(".py:")
  file = find_config_file(f"{name}.py" if colon else path)
  try:
    function = vars(import_file(file)).get("sweep")
  except LmxError:
    raise
  except Exception as error:
    raise LmxError(f"{file}: {type(error).__name__}: {error}") from error
  if not inspect.isfunction(function):
    fix = "--sweep.KEY=VALUE,VALUE, or a file with a function sweep() that returns a list of {key: value}"
    raise LmxError(f"What is to be swept? {file} has no sweep(). Fix: {fix}")
  return function, str(file)
