# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Interface of objectives: preparing examples, and the loss of a model on them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from lmx.config.table import check_values, keys_taken
from lmx.data.cache.encoding import ExampleEncoder
from lmx.data.document import TEXT, RequiredColumns
from lmx.data.tokenizers.vocabulary import Tokenizer
from lmx.nn.outputs import Outputs

Batch = Mapping[str, Any]
Arrays = dict[str, np.ndarray]
# Window objectives: (window of token ids, random generator) -> the row's arrays. Example objectives: (the encoder's
# fields, random generator) -> the row's arrays.
Prepare = Callable[[Any, np.random.Generator], Arrays]
Predictions = dict[str, np.ndarray]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Loss:
  """A sum and a weight, float32 scalars: divided once, after every micro-batch and device has been added.

  Attributes:
    sum: what is differentiated.
    weight: what it is divided by.
    metrics: name -> (sum, weight), for the logs.
    predictions: name -> (B, ...) arrays, one row for each example, for metrics that are not means; read in evaluations
      only. "weights" (B,) is among them wherever there are any: rows of zero weight are padding.
    carry: state that a recurrent model passes to the next batch, or None.
  """

  sum: jax.Array
  weight: jax.Array
  metrics: dict[str, tuple[jax.Array, jax.Array]]
  predictions: dict[str, jax.Array] = dataclasses.field(default_factory=dict)
  carry: Any = None


LossFunction = Callable[[Any, Batch, "jax.Array | None", Any], Loss]


@dataclasses.dataclass(frozen=True)
class ObjectiveContext:
  """What an objective gets from the run, in addition to its keys of config.objective.

  Attributes:
    tokenizer: the run's.
    length: L, tokens of a row.
    encoder_length: M, tokens of an encoder's row.
    architecture: the model's family: transformer | encoder | encoder_decoder | lstm.
    labels: of classification and tagging, resolved; () for the others.
    token_types: rows of the model's table of token types (which of two texts); 0: it has none.
    framing: which special tokens texts get, a name of `lmx.objectives.examples.FRAMINGS`.
  """

  tokenizer: Tokenizer
  length: int
  encoder_length: int
  architecture: str
  labels: tuple[str, ...] = ()
  token_types: int = 0
  framing: str = "own"


@dataclasses.dataclass(frozen=True)
class Objective:
  """One way to train a model.

  Attributes:
    name: its row in `OBJECTIVES`.
    prepare: makes a row's arrays, numpy. Arrays of one group have one length: the group "" (`tokens`, `targets`,
      `loss_weights`, ...), and each group named by a prefix P that has P + "tokens" ("encoder_", "rejected_", "pair_").
    loss: (model, batch, dropout key or None, reference model or None) -> Loss.
    lookahead: window objectives: tokens of a window beyond the positions that it fills.
    window_length: window objectives: positions planned for a row's windows; None: `ObjectiveContext.length`.
    encoder: example objectives: turns a row of columns into the fields that prepare gets. None: windows of text.
    per_row: names of arrays with one value (of any shape) for each row, not for each token: they are never padded.
    score: {name: predictions over a complete split, without padding} -> metrics; None: all metrics are means.
    reports_bits_per_byte: whether the loss is the length of a code for the complete text.
  """

  name: str
  prepare: Prepare
  loss: LossFunction
  lookahead: int = 0
  window_length: int | None = None
  encoder: ExampleEncoder | None = None
  per_row: tuple[str, ...] = ()
  score: Callable[[Predictions], dict[str, float]] | None = None
  reports_bits_per_byte: bool = False


@dataclasses.dataclass(frozen=True)
class ObjectiveSpec:
  """One row of `OBJECTIVES`: what is known of an objective without data or tokenizer.

  Attributes:
    make: (context, *, options) -> Objective. Its keyword-only parameters are the keys of config.objective that it
      reads.
    head: the model's output head, a row of `lmx.nn.heads.HEADS`.
    families: the model families it can train.
    packings: the values of config.data.packing that it takes, the best first.
    reference: "" | "start" (a frozen copy of the first parameters) | "teacher" (another run's model).
    splits: whether a batch may be run in micro-batches (in-batch negatives may not).
    texts: the columns whose text a tokenizer is trained on.
    labelled: whether it reads config.objective.labels, which it gets as `ObjectiveContext.labels`.
  """

  make: Callable[..., Objective]
  head: str
  families: tuple[str, ...]
  packings: tuple[str, ...] = ("packed", "concatenated", "padded")
  reference: str = ""
  splits: bool = True
  labelled: bool = False
  texts: RequiredColumns = TEXT

  @property
  def options(self) -> tuple[str, ...]:
    """The keys of config.objective that `make` takes."""
    return keys_taken(self.make)

  @property
  def reads(self) -> tuple[str, ...]:
    """The keys of config.objective that change the objective, or what it is trained on."""
    labels = ("labels",) if self.labelled else ()
    return (*self.options, *labels, *(("teacher",) if self.reference == "teacher" else ()))

  def build(self, context: ObjectiveContext, options: Mapping[str, Any]) -> Objective:
    """The objective.

    Args:
      context: the run's.
      options: config.objective, of which `make` gets the keys that it takes.

    Raises:
      ConfigError: an option out of range.
      LmxError: what the objective needs and the run doesn't have, such as sentinels in the tokenizer.
    """
    given = {name: options[name] for name in self.options}
    check_values("objective", given)
    return self.make(context, **given)

  @property
  def reads_documents(self) -> bool:
    """Whether it reads windows of documents, with their start and end, instead of examples."""
    return self.texts == TEXT


def run_model(model: Any, batch: Batch, dropout_key: jax.Array | None, group: str = "") -> Outputs:
  """The model on one group of a batch: it gets those arrays that it names in `inputs`, and the batch's carry.

  Args:
    model: its `inputs` are names of batch arrays, "tokens" first.
    batch: has group + "tokens" and may have the others.
    dropout_key: turns dropout on.
    group: prefix of the arrays' names ("rejected_", "pair_").
  """
  return model(**model_inputs(model, batch, group), dropout_key=dropout_key)


def model_inputs(model: Any, batch: Batch, group: str = "") -> dict[str, Any]:
  """The arrays of one group of a batch that the model names in `inputs`; arguments as of `run_model`."""
  return {name: batch[group + name] for name in model.inputs if group + name in batch}
