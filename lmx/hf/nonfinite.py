# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Counts NaN and infinite weights while they are read."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lmx.errors import LmxError, choose
from lmx.hf.weights import WeightFiles

_CHOICES = {"stop": "refuse them", "keep": "count them and read them as they are"}
_SHOWN = 5  # Tensors named in the error.
Read = Callable[..., np.ndarray]


class NonFinite:
  """Counts of the non-finite numbers of a model, by tensor.

  Only the minimum and maximum of each part are computed as it is read; the numbers are counted where one isn't finite.
  """

  def __init__(self, policy: str):
    """Takes the policy: "stop" or "keep".

    Raises:
      LmxError: another policy.
    """
    choose("nonfinite", policy, _CHOICES)
    self._policy = policy
    self._parts: dict[tuple[str, str], int] = {}  # By tensor and index, since several devices may read the same part.

  @property
  def counts(self) -> dict[str, int]:
    """{name of a tensor: number of its elements that aren't finite}."""
    found: dict[str, int] = {}
    for (name, _), count in self._parts.items():
      found[name] = found.get(name, 0) + count
    return found

  def counting(self, read: Read) -> Read:
    """Wraps `read` so that it also counts."""

    def read_and_count(name: str, index: Any = ()) -> np.ndarray:
      part = read(name, index)
      numbers = part if part.dtype.kind == "f" else part.astype(np.float32)  # The minimum of a bfloat16 array is slow.
      if numbers.size and not (np.isfinite(numbers.min()) and np.isfinite(numbers.max())):
        self._parts[name, str(index)] = int(numbers.size - np.isfinite(numbers).sum())
      return part

    return read_and_count

  def raise_if_any(self, files: WeightFiles) -> None:
    """Refuses a model with non-finite weights, unless the policy is "keep".

    Raises:
      LmxError: names the tensors.
    """
    found = self.counts
    if self._policy == "keep" or not found:
      return
    names = [f"{name} ({count:,} of {np.prod(files.tensors[name].shape):,})" for name, count in found.items()]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise LmxError(f"{files.directory}: weights that are NaN or infinite, in {len(names)} tensors: "
                   f"{', '.join(names[:_SHOWN])}{more}. Fix: fetch the model again, or --nonfinite=keep "
                   '(nonfinite="keep" in Python) to read it as it is.')  # fmt: skip
