# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Where a run's first state comes from. This is the one place that decides it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from lmx.optim.optimizers import Optimizer
from lmx.training.checkpoint import Checkpointer, find_checkpoint, restore_model
from lmx.training.state import Arrays, Blueprint, MakeModel, TrainState, init_state, start_state


@dataclasses.dataclass(frozen=True)
class Start:
  """A state to train from.

  Attributes:
    state: on the mesh of the template.
    source: what to tell the user: "resumed", "started from" or "fresh".
    extra: what the resumed checkpoint was saved with; None otherwise.
    origin: the checkpoint's folder, or None.
  """

  state: TrainState
  source: str
  extra: dict[str, Any] | None = None
  origin: Path | None = None


def begin(
  checkpointer: Checkpointer,
  abstract: TrainState,
  plan: Blueprint,
  optimizer: Optimizer,
  make_model: MakeModel,
  key: jax.Array,
  *,
  start_from: str | Path | None = None,
  imported: Callable[[Arrays], Arrays] | None = None,
) -> Start:
  """The state a run starts with.

  Args:
    checkpointer: of this run.
    abstract, plan, optimizer: the template, and what it was made from.
    make_model, key: for fresh parameters.
    start_from: another run's `checkpoints` folder.
    imported: given the parameters' template, the parameters from elsewhere (Hugging Face).

  Raises:
    LmxError: a checkpoint that doesn't fit the template, or `start_from` without a checkpoint.
  """
  # Restore precedence:
  # 1. This run's newest whole checkpoint, with the optimizer and the data position. Once a run has saved anything,
  #    nothing else is looked at: a resumed run must not start over because a config names a start_from.
  step = checkpointer.latest()
  if step is not None:
    state, extra = checkpointer.restore(abstract, step)
    return Start(state, "resumed", extra, find_checkpoint(checkpointer.directory, step))
  # 2. Another run's newest whole checkpoint: its averaged parameters where it kept an average, else its parameters;
  #    never its optimizer, step or data position.
  if start_from is not None:
    origin = find_checkpoint(start_from)
    return Start(
      start_state(restore_model(start_from, abstract.params), optimizer, abstract), "started from", None, origin
    )
  # 3. Parameters from another program.
  if imported is not None:
    return Start(start_state(imported(abstract.params), optimizer, abstract), "imported")
  # 4. Fresh parameters from the seed.
  return Start(init_state(make_model, key, plan, optimizer, abstract), "fresh")
