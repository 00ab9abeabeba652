# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Prints a row of a batch: decoded text, segments, padding, labels, and which tokens count in the loss."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmx.units import counted

_SEGMENT_COLOURS = ("cyan", "yellow", "green", "magenta")
_UNTRAINED = "dim strike"  # Tokens whose prediction has no weight in the loss.
_TOKENS = "tokens"
# Arrays that the table of positions always shows, in columns of fixed order.
_SHOWN = (_TOKENS, "targets", "loss_weights", "segment_ids", "positions")
Row = Mapping[str, np.ndarray]


class RowView:
  """Prints rows of batches on a console."""

  def __init__(self, out: Console, tokenizer: Any, labels: Sequence[str]):
    """Prepares the tables of special tokens.

    Args:
      out: the console.
      tokenizer: decodes the tokens.
      labels: names of the class ids in the array "labels"; () where it doesn't contain class ids.
    """
    self._out, self._tokenizer, self._labels = out, tokenizer, labels
    own = [tokenizer.sentinel(i) for i in range(tokenizer.sentinels)]
    named = [tokenizer.bos_id, tokenizer.eos_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
    added = range(tokenizer.own_size, tokenizer.vocab_size)
    self._special = np.array(sorted({token for token in [*named, *own, *added] if token is not None}))

  def show(self, index: int, row: Row) -> None:
    """Prints a row: every array of tokens, starting with "tokens", and the labels and weight of the row.

    Args:
      index: number of the row, for the headline.
      row: arrays of one row: (L,) per token, or () and (C,) per row.
    """
    groups = sorted(name.removesuffix(_TOKENS) for name in row if name.endswith(_TOKENS))
    per_token = row["loss_weights"].ndim > 0 if "loss_weights" in row else False
    weights = row["loss_weights"] if per_token else None
    segments = row["segment_ids"]
    targets = f", {int((row['loss_weights'] > 0).sum())} targets in the loss" if per_token else ""
    summary = (
      f"row {index}: {counted(int(segments.max()), 'segment')}{targets}, {int((segments == 0).sum())} padding tokens"
    )
    self._out.print(f"\n{summary}", style="bold", markup=False)
    self._show_values(row, per_token)
    for group in groups:
      if group:
        self._out.print(f"{group}{_TOKENS}:", style="bold", markup=False)
      self._show_group(row, group, weights if not group else None)

  def _show_values(self, row: Row, per_token: bool) -> None:
    """Prints labels by name, and the weight of a row that has one."""
    if "labels" in row:
      labels, names = row["labels"], self._labels
      text = ", ".join(f"{value:g}" for value in np.atleast_1d(labels).tolist())
      if names and labels.ndim == 0:
        text += f" ({names[int(labels)]})"
      elif names and labels.dtype == np.float32 and len(labels) == len(names):
        text += f" ({', '.join(name for name, value in zip(names, labels, strict=True) if value) or 'none'})"
      self._out.print(f"labels: {text}", markup=False)
    if "loss_weights" in row and not per_token:
      self._out.print(f"weight in the loss: {float(row['loss_weights']):g}", markup=False)

  def _show_group(self, row: Row, group: str, weights: np.ndarray | None) -> None:
    """Prints each segment in its own colour, under a line with its number."""
    segments, positions = row[group + "segment_ids"], row[group + "positions"]
    for segment in range(1, int(segments.max()) + 1):
      chosen = np.flatnonzero(segments == segment)
      if not len(chosen):
        continue
      head = f"[segment {segment}: tokens {chosen[0]}-{chosen[-1]}"
      head += f", positions {positions[chosen[0]]}-{positions[chosen[-1]]}"
      if weights is not None:
        head += f", {int((weights[chosen] > 0).sum())} of {len(chosen)} targets in the loss"
      text = Text(f"{head}]\n", style="dim")
      colour = _SEGMENT_COLOURS[segment % len(_SEGMENT_COLOURS)]
      masked = np.zeros(len(chosen), bool) if weights is None else weights[chosen] == 0
      for run, untrained in self._runs(row[group + _TOKENS][chosen], masked):
        if untrained and not self._out.is_terminal:
          run = f"\u27e8masked\u27e9{run}\u27e8/masked\u27e9"
        text.append(run, _UNTRAINED if untrained else colour)
      self._out.print(text)

  def _runs(self, tokens: np.ndarray, masked: np.ndarray) -> Iterator[tuple[str, bool]]:
    """Text of consecutive tokens of the same kind, and whether they are masked; special tokens are spelled out."""
    special = np.isin(tokens, self._special)
    borders = np.flatnonzero(np.diff(special * 2 + masked)) + 1
    for part in np.split(np.arange(len(tokens)), borders):
      spelled = "".join(self._tokenizer.piece(int(t)) for t in tokens[part])
      text = spelled if special[part[0]] else self._tokenizer.decode(tokens[part])
      yield text, bool(masked[part[0]])

  def positions(self, row: Row, count: int) -> Table:
    """A table of the first `count` positions of a row: input token, target and weight."""
    table = Table(box=None)
    others = tuple(name.removesuffix(_TOKENS) for name in row if name.endswith(_TOKENS) and name != _TOKENS)
    own = [name for name, array in row.items() if array.shape == row[_TOKENS].shape and not name.startswith(others)]
    extra = [name for name in own if name not in _SHOWN]
    predicted = "targets" in row and row["targets"].shape == row[_TOKENS].shape
    weighted = "loss_weights" in row and row["loss_weights"].ndim > 0
    names = ["index", "segment", "position", "token", "", *(["target", ""] if predicted else [])]
    for name in [*names, *(["weight"] if weighted else []), *extra]:
      table.add_column(name, justify="right" if name else "left")
    for index in range(min(count, len(row[_TOKENS]))):
      cells = [str(index), str(row["segment_ids"][index]), str(row["positions"][index])]
      for name in (_TOKENS, "targets") if predicted else (_TOKENS,):
        token = int(row[name][index])
        cells += [str(token), repr(self._tokenizer.piece(token))]
      if weighted:
        cells.append(f"{row['loss_weights'][index]:g}")
      table.add_row(*(Text(cell) for cell in cells), *(Text(f"{row[name][index]:g}") for name in extra))
    return table
