# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Rows of examples: one in each row, or several side by side.

An example may have several groups of tokens ("tokens", "encoder_tokens", "rejected_tokens", ...), each with its own
room in a row. Packed, a row holds examples whose groups all fit.
"""

from collections.abc import Mapping

import numpy as np

from lmx.data.batches.rows import BLOCK, Piece, RowPlan, best_fit, fill_rows, kept_plan
from lmx.data.cache.store import ExampleStore
from lmx.errors import LmxError, choose

_GROUPS_BLOCK = 2048  # Examples packed together: each is compared with all rows of its block.


def best_fit_groups(sizes: np.ndarray, room: np.ndarray) -> np.ndarray:
  """Puts examples into rows with several kinds of room; returns each example's row.

  Largest first, each into the row with the least room, over all groups, of those in which every group of it fits. With
  lengths that have nothing to do with each other this leaves about 3 % of the scarcer room empty.

  Args:
    sizes: (examples, groups); none is over its room.
    room: (groups,)
  """
  if sizes.shape[1] == 1:
    return best_fit(sizes[:, 0], int(room[0]))
  left = np.tile(room, (len(sizes), 1))  # Room in each row; the first `rows` are in use.
  free = np.full(len(sizes), float(len(room)))  # The same as one number: the sum of the shares that are free.
  shares = (sizes / room).sum(axis=1)
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


def plan_packed(sizes: np.ndarray, room: np.ndarray) -> RowPlan:
  """Several examples in a row."""
  block = BLOCK if sizes.shape[1] == 1 else _GROUPS_BLOCK
  return _plan(*fill_rows(sizes, lambda part: best_fit_groups(part, room), block), sizes)


def plan_padded(sizes: np.ndarray, room: np.ndarray) -> RowPlan:
  """One example in each row."""
  return _plan(np.arange(len(sizes)), np.arange(len(sizes) + 1), sizes)


def _plan(order: np.ndarray, first: np.ndarray, sizes: np.ndarray) -> RowPlan:
  return RowPlan(order, np.zeros(len(order), np.int64), sizes[order].sum(axis=1), first)


EXAMPLE_PACKINGS = {"packed": plan_packed, "padded": plan_padded}


class ExampleRows:
  """Rows of examples, by a plan.

  Attributes:
    targets: places of "tokens" filled.
    bytes: 0: a loss over examples is not the length of a text's code.
  """

  def __init__(self, store: ExampleStore, plan: RowPlan):
    self._store, self._plan = store, plan
    self.targets = int(store.lengths()[:, 0].sum())
    self.bytes = 0

  def __len__(self) -> int:
    return len(self._plan.first) - 1

  def __getitem__(self, index: int) -> list[Piece]:
    first, stop = int(self._plan.first[index]), int(self._plan.first[index + 1])
    return [Piece(self._store[example]) for example in self._plan.document[first:stop].tolist()]


def make_example_rows(store: ExampleStore, *, packing: str, lengths: Mapping[str, int]) -> ExampleRows:
  """The rows of a store of examples.

  Args:
    store: encoded examples.
    packing: packed | padded.
    lengths: group -> places of a row, "" for the groups that are not named.

  Raises:
    LmxError: a packing that is not for examples, or an example that is longer than a row.
  """
  make = choose("config.data.packing", packing, EXAMPLE_PACKINGS, fix="examples are packed or padded, never cut")
  if not store.documents:
    raise LmxError(f"{store.folder} has no examples.")
  sizes = store.lengths()
  room = np.array([lengths[group] if group in lengths else lengths[""] for group in store.groups])
  _check_room(store, sizes, room)
  name = f"{packing}-" + "-".join(map(str, room))
  return ExampleRows(store, kept_plan(store.folder, name, lambda: make(sizes, room)))


def _check_room(store: ExampleStore, sizes: np.ndarray, room: np.ndarray) -> None:
  over = np.argwhere(sizes > room)
  if not len(over):
    return
  example, group = over[0].tolist()
  count = len(set(over[:, 0].tolist()))
  longest, name = int(sizes[:, group].max()), store.groups[group] + "tokens"
  key = "encoder_length" if store.groups[group] == "encoder_" else "length"
  raise LmxError(
    f"config.data.{key}: got {room[group]}, but {count:,} of {len(sizes):,} examples are longer; "
    f"number {example} has {sizes[example, group]} {name}, the longest {longest}. "
    f"Fix: --config.data.{key}={longest} (and --config.model.context={longest} if it is less)."
  )
