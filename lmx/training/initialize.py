# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The state that a run starts with: resumed, started from another run, or fresh. Only this file decides which."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lmx.optim.optimizers import Optimizer
from lmx.training.checkpoint import Checkpointer
from lmx.training.checkpoint_choice import find_checkpoint
from lmx.training.checkpoint_reading import restore_shared
from lmx.training.state import AbstractModel, Arrays, MakeModel, TrainState, init_parameters, init_state, start_state

# Parameters that only one of a model and the run it starts from may have: heads and low-rank adapters.
NEW_PARTS = re.compile(r"head\..*|unembedding\..*|.*\.lora_[ab]")
# (template, the run's first parameters) -> the frozen parameters of the second model.
MakeReference = Callable[[Arrays, Arrays], Arrays]


@dataclasses.dataclass(frozen=True)
class InitialState:
  """A state to train from, and its origin.

  Attributes:
    state: on the mesh of the template.
    source: "resumed", "started from" or "fresh".
    extra: the `extra` of the resumed checkpoint; None otherwise.
    origin: the checkpoint's folder, or None.
    new: names of the parameters that the origin didn't have; they are fresh.
  """

  state: TrainState
  source: str
  extra: dict[str, Any] | None = None
  origin: Path | None = None
  new: Sequence[str] = ()


def initialize(
  checkpointer: Checkpointer,
  abstract: TrainState,
  plan: AbstractModel,
  optimizer: Optimizer,
  make_model: MakeModel,
  key: jax.Array,
  *,
  start_from: str | Path | None = None,
  reference: MakeReference | None = None,
) -> InitialState:
  """The state a run starts with.

  Args:
    checkpointer: this run's.
    abstract: the state's template, from `abstract_state`.
    plan, optimizer: the model and optimizer of the template.
    make_model: key -> module, for fresh parameters.
    key: random key of fresh parameters.
    start_from: another run's `checkpoints` folder.
    reference: makes the frozen second model's parameters, where the template has one.

  Raises:
    LmxError: a checkpoint that doesn't fit the template, or `start_from` without a checkpoint.
  """
  # Restore precedence:
  # 1. This run's newest checkpoint, with the optimizer and the data position. Once a run has a checkpoint, the other
  #    sources are ignored: a resumed run must not start over because its config has a start_from.
  step = checkpointer.latest()
  if step is not None:
    state, extra = checkpointer.restore(abstract, step)
    return InitialState(state, "resumed", extra, find_checkpoint(checkpointer.directory, step))
  # 2. Another run's newest checkpoint (an imported model is one): its averaged parameters where it kept an
  #    average, else its parameters; never its optimizer, step or data position. A new head or adapter is fresh.
  if start_from is not None:
    origin = find_checkpoint(start_from)
    template: Any = abstract.params  # Shapes and shardings.
    params, new = restore_shared(start_from, template, NEW_PARTS)
    params |= init_parameters(make_model, key, plan, abstract.params, new) if new else {}
    state = start_state({name: params[name] for name in plan.shapes}, optimizer, abstract)
    return InitialState(_with_reference(state, abstract, reference), "started from", None, origin, new)
  # 3. Fresh parameters from the seed.
  state = init_state(make_model, key, plan, optimizer, abstract)
  return InitialState(_with_reference(state, abstract, reference), "fresh")


def _with_reference(state: TrainState, abstract: TrainState, make: MakeReference | None) -> TrainState:
  if abstract.reference is None or make is None:
    return state
  return dataclasses.replace(state, reference=make(abstract.reference, state.params))


def copy_of_start(template: Arrays, params: Arrays) -> Arrays:
  """The reference that is a copy of the model's initial parameters."""
  return {name: jnp.copy(params[name]) for name in template}
