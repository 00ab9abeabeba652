# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Counts the weights that are NaN or infinite while they are read."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lmx.errors import LmxError, choose
from lmx.hf.weights import WeightFiles

_CHOICES = {"stop": "such weights are refused", "keep": "they are counted, and read as they are"}
_SHOWN = 5  # Tensors in a message.
Read = Callable[..., np.ndarray]


class NonFinite:
  """What isn't finite in the tensors of a model, by their names.

  Each part's minimum and maximum are taken as it is read, and only a part where one of them isn't finite is counted.
  """

  def __init__(self, policy: str):
    """Takes "stop" or "keep".

    Raises:
      LmxError: another word.
    """
    choose("nonfinite", policy, _CHOICES)
    self._policy = policy
    self._parts: dict[tuple[str, str], int] = {}  # Several devices may read one part.

  @property
  def counts(self) -> dict[str, int]:
    """{name of a tensor: numbers in it that aren't finite}."""
    found: dict[str, int] = {}
    for (name, _), count in self._parts.items():
      found[name] = found.get(name, 0) + count
    return found

  def counting(self, read: Read) -> Read:
    """A function that reads as `read` does, and counts."""

    def read_and_count(name: str, index: Any = ()) -> np.ndarray:
      part = read(name, index)
      numbers = part if part.dtype.kind == "f" else part.astype(np.float32)  # bfloat16 has slow minima.
      if numbers.size and not (np.isfinite(numbers.min()) and np.isfinite(numbers.max())):
        self._parts[name, str(index)] = int(numbers.size - np.isfinite(numbers).sum())
      return part

    return read_and_count

  def raise_if_any(self, files: WeightFiles) -> None:
    """Refuses the model, unless such weights are to be kept.

    Raises:
      LmxError: with the tensors' names.
    """
    found = self.counts
    if self._policy == "keep" or not found:
      return
    names = [f"{name} ({count:,} of {np.prod(files.tensors[name].shape):,})" for name, count in found.items()]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise LmxError(f"{files.directory}: weights that are NaN or infinite, in {len(names)} tensors: "
                   f"{', '.join(names[:_SHOWN])}{more}. Fix: fetch the model again, or --nonfinite=keep "
                   '(nonfinite="keep" in Python) to read it as it is.')  # fmt: skip
