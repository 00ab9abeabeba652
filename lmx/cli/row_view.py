# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A row of a batch for a person to read: decoded, with its segments, its padding, its labels, and what is trained."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

_SEGMENT_COLOURS = ("cyan", "yellow", "green", "magenta")
_UNTRAINED = "dim strike"  # Tokens whose prediction has no weight in the loss.
_TOKENS = "tokens"
# Arrays that have columns of their own in the table of places.
_SHOWN = (_TOKENS, "targets", "loss_weights", "segment_ids", "positions")
Row = Mapping[str, np.ndarray]


class RowView:
  """Prints rows."""

  def __init__(self, out: Console, tokenizer: Any, labels: Sequence[str]):
    """See the class.

    Args:
      out: where to.
      tokenizer: of the tokens.
      labels: names of the numbers in the array "labels"; () where they are no classes.
    """
    self._out, self._tokenizer, self._labels = out, tokenizer, labels
    own = [tokenizer.sentinel(i) for i in range(tokenizer.sentinels)]
    named = [tokenizer.bos_id, tokenizer.eos_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id]
    added = range(tokenizer.own_size, tokenizer.vocab_size)
    self._special = np.array(sorted({token for token in [*named, *own, *added] if token is not None}))

  def show(self, index: int, row: Row) -> None:
    """Every group of tokens, the one called "tokens" first, and what belongs to the whole row."""
    groups = sorted(name.removesuffix(_TOKENS) for name in row if name.endswith(_TOKENS))
    per_token = row["loss_weights"].ndim > 0 if "loss_weights" in row else False
    weights = row["loss_weights"] if per_token else None
    segments = row["segment_ids"]
    targets = f", {int((row['loss_weights'] > 0).sum())} targets in the loss" if per_token else ""
    summary = f"row {index}: {int(segments.max())} segments{targets}, {int((segments == 0).sum())} places of padding"
    self._out.print(f"\n{summary}", style="bold", markup=False)
    self._show_values(row, per_token)
    for group in groups:
      if group:
        self._out.print(f"{group}{_TOKENS}:", style="bold", markup=False)
      self._show_group(row, group, weights if not group else None)

  def _show_values(self, row: Row, per_token: bool) -> None:
    """Labels by name, and the weight of a row that has one."""
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
    """Each segment in its own colour, under a line with its number."""
    segments, positions = row[group + "segment_ids"], row[group + "positions"]
    for segment in range(1, int(segments.max()) + 1):
      chosen = np.flatnonzero(segments == segment)
      if not len(chosen):
        continue
      head = f"[segment {segment}: places {chosen[0]}-{chosen[-1]}"
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
    """Text of neighbouring tokens of one kind; special tokens are spelt out."""
    special = np.isin(tokens, self._special)
    borders = np.flatnonzero(np.diff(special * 2 + masked)) + 1
    for part in np.split(np.arange(len(tokens)), borders):
      pieces = [self._tokenizer.piece(int(t)) for t in tokens[part]]
      text = "".join(pieces) if special[part[0]] else self._tokenizer.decode(tokens[part])
      yield text, bool(masked[part[0]])

  def places(self, row: Row, count: int) -> Table:
    """The first places of a row, one a line: what goes in, what shall come out, and with which weight."""
    table = Table(box=None)
    others = tuple(name.removesuffix(_TOKENS) for name in row if name.endswith(_TOKENS) and name != _TOKENS)
    own = [name for name, array in row.items() if array.shape == row[_TOKENS].shape and not name.startswith(others)]
    extra = [name for name in own if name not in _SHOWN]
    predicted = "targets" in row and row["targets"].shape == row[_TOKENS].shape
    weighted = "loss_weights" in row and row["loss_weights"].ndim > 0
    names = ["place", "segment", "position", "token", "", *(["target", ""] if predicted else [])]
    for name in [*names, *(["weight"] if weighted else []), *extra]:
      table.add_column(name, justify="right" if name else "left")
    for place in range(min(count, len(row[_TOKENS]))):
      cells = [str(place), str(row["segment_ids"][place]), str(row["positions"][place])]
      for name in (_TOKENS, "targets") if predicted else (_TOKENS,):
        token = int(row[name][place])
        cells += [str(token), repr(self._tokenizer.piece(token))]
      if weighted:
        cells.append(f"{row['loss_weights'][place]:g}")
      table.add_row(*(Text(cell) for cell in cells), *(Text(f"{row[name][place]:g}") for name in extra))
    return table
