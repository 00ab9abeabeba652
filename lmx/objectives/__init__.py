# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The table of objectives: name -> a function of explicit arguments that makes one."""

from collections.abc import Callable

from lmx.objectives.base import Objective
from lmx.objectives.causal import causal

OBJECTIVES: dict[str, Callable[..., Objective]] = {"causal": causal}
