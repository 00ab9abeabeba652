# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Objectives for tests, with base.py's options but for those that are given."""

from typing import Any

from lmx.config.table import defaults
from lmx.objectives import OBJECTIVES
from lmx.objectives.base import Objective, ObjectiveContext


def make_objective(name: str, context: ObjectiveContext, **options: Any) -> Objective:
  """The objective of a row.

  Args:
    name: the row.
    context: the run's.
    options: keys of config.objective that aren't as in base.py.
  """
  row = OBJECTIVES[name]
  return row.build(context, defaults("objective", row.options) | options)
