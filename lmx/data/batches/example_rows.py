# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Rows of examples: padded (one per row) or packed (several per row).

An example may have several groups of tokens ("tokens", "encoder_tokens", "rejected_tokens", ...), each with its own
capacity in a row. A packed row holds examples that fit into it in every group.
"""

from collections.abc import Mapping

import numpy as np

from lmx.data.batches.rows import BLOCK, RowPlan, Segment, best_fit, cached_plan, fill_rows
from lmx.data.cache.store import ExampleStore
from lmx.errors import LmxError, choose

_GROUPS_BLOCK = 2048  # Examples packed together; fewer than BLOCK because each is compared with all rows.


def best_fit_groups(sizes: np.ndarray, capacity: np.ndarray) -> np.ndarray:
  """Packs examples of several groups into rows by best-fit decreasing; returns each example's row, (examples,).

  Largest first, each into the fullest row, over all groups, that has room for it in every group. If the lengths of the
  groups are independent, about 3 % of the scarcer capacity stays empty.

  Args:
    sizes: (examples, groups) tokens; none exceeds its group's capacity.
    capacity: (groups,) tokens per row.
  """
  if sizes.shape[1] == 1:
    return best_fit(sizes[:, 0], int(capacity[0]))
  left = np.tile(capacity, (len(sizes), 1))  # Tokens free in each row, by group; the first `rows` are in use.
  free = np.full(len(sizes), float(len(capacity)))  # The sum of the free fractions of all groups.
  shares = (sizes / capacity).sum(axis=1)
  row_of = np.empty(len(sizes), np.int64)
  rows = 0
  for example in np.argsort(-shares, kind="stable").tolist():
    fits = (left[:rows] >= sizes[example]).all(axis=1)
    if fits.any():
      row = int(np.where(fits, free[:rows], np.inf).argmin())
    else:
      row, rows = rows, rows + 1
    left[row] -= sizes[example]
    free[row] -= shares[example]
    row_of[example] = row
  return row_of


def plan_packed(sizes: np.ndarray, capacity: np.ndarray) -> RowPlan:
  """Several examples per row; the arguments are those of `best_fit_groups`."""
  block = BLOCK if sizes.shape[1] == 1 else _GROUPS_BLOCK
  return _plan(*fill_rows(sizes, lambda part: best_fit_groups(part, capacity), block), sizes)


def plan_padded(sizes: np.ndarray, capacity: np.ndarray) -> RowPlan:
  """One example per row; the arguments are those of `best_fit_groups`."""
  return _plan(np.arange(len(sizes)), np.arange(len(sizes) + 1), sizes)


def _plan(order: np.ndarray, first: np.ndarray, sizes: np.ndarray) -> RowPlan:
  return RowPlan(order, np.zeros(len(order), np.int64), sizes[order].sum(axis=1), first)


EXAMPLE_PACKINGS = {"packed": plan_packed, "padded": plan_padded}


class ExampleRows:
  """Rows of examples that follow a plan.

  Attributes:
    targets: tokens of the first group, in all rows.
    bytes: 0, since a loss over examples doesn't convert to bits per byte.
  """

  def __init__(self, store: ExampleStore, plan: RowPlan):
    self._store, self._plan = store, plan
    self.targets = int(store.lengths()[:, 0].sum())
    self.bytes = 0

  def __len__(self) -> int:
    return len(self._plan.first) - 1

  def __getitem__(self, index: int) -> list[Segment]:
    first, stop = int(self._plan.first[index]), int(self._plan.first[index + 1])
    return [Segment(self._store[example]) for example in self._plan.document[first:stop].tolist()]


def make_example_rows(store: ExampleStore, *, packing: str, lengths: Mapping[str, int]) -> ExampleRows:
  """The rows of a store of examples.

  Args:
    store: encoded examples.
    packing: packed | padded.
    lengths: group -> tokens per row; "" for the groups that are not named.

  Raises:
    LmxError: a packing that can't hold examples, an empty store, or an example that is longer than a row.
  """
  make = choose("config.data.packing", packing, EXAMPLE_PACKINGS, fix="examples are packed or padded, never split")
  if not store.documents:
    raise LmxError(f"{store.folder} has no examples.")
  sizes = store.lengths()
  capacity = np.array([lengths[group] if group in lengths else lengths[""] for group in store.groups])
  _check_capacity(store, sizes, capacity)
  name = f"{packing}-" + "-".join(map(str, capacity))
  return ExampleRows(store, cached_plan(store.folder, name, lambda: make(sizes, capacity)))


def _check_capacity(store: ExampleStore, sizes: np.ndarray, capacity: np.ndarray) -> None:
  over = np.argwhere(sizes > capacity)
  if not len(over):
    return
  example, group = over[0].tolist()
  count = len(set(over[:, 0].tolist()))
  longest, name = int(sizes[:, group].max()), store.groups[group] + "tokens"
  key = "encoder_length" if store.groups[group] == "encoder_" else "length"
  raise LmxError(
    f"config.data.{key}: got {capacity[group]}, but {count:,} of {len(sizes):,} examples are longer; "
    f"number {example} has {sizes[example, group]} {name}, the longest {longest}. "
    f"Fix: --config.data.{key}={longest} (and --config.model.context={longest} if that is smaller)."
  )
