# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The contract of a model: what training, inference, planning and export rely on, whatever the family.

A new family is one file with a spec and a model that satisfy these protocols, and one row of `MODELS`; mypy checks the
rows against them.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from lmx.nn.attention.cache import Cache
from lmx.nn.outputs import Outputs
from lmx.units import StepFlops


@runtime_checkable
class ModelSpec(Protocol):
  """The frozen, hashable record of a model's sizes and choices; making one raises LmxError for impossible values.

  Its fields are keys of config.model and config.compute, and these that are known only with data and objective:

  Attributes:
    vocab_size: ids of the tokenizer; an id beyond it has no probability.
    head: a row of `lmx.nn.heads.HEADS`.
    outputs: scores of a row or token (labels), for heads that have them.
    layers, width, context: N, D, and the most tokens of a row.
    dtype: compute dtype; parameters are float32.
  """

  @property
  def vocab_size(self) -> int: ...
  @property
  def head(self) -> str: ...
  @property
  def outputs(self) -> int: ...
  @property
  def layers(self) -> int: ...
  @property
  def width(self) -> int: ...
  @property
  def context(self) -> int: ...
  @property
  def dtype(self) -> str: ...

  @property
  def vocab_rows(self) -> int:
    """Rows of the embedding table, padding included."""
    ...

  @property
  def unlimited(self) -> bool:
    """Whether a row may be longer than the context."""
    ...

  def describe(self) -> str:
    """One line for people: shape and parts."""
    ...

  def kernel(self, platform: str) -> str:
    """The attention kernel on a backend ("cpu", "gpu", "tpu"), or "none"; raises LmxError where it can't run."""
    ...

  def check_kernels(self, platform: str) -> dict[str, str]:
    """Compares kernels with references on this machine: part -> a sentence; raises LmxError where they differ."""
    ...

  def matmul_parameters(self) -> int:
    """Weights that a token is multiplied with, the output table included."""
    ...

  def flops_per_token(self, length: int, encoder_length: int) -> StepFlops:
    """FLOPs of one training token, forward and backward; recomputation under remat is not counted.

    Args:
      length: L, tokens in a row; of the decoder, in models with two parts.
      encoder_length: M, tokens in a row of the encoder; models without cross-attention don't use it.
    """
    ...


@runtime_checkable
class Model(Protocol):
  """A Flax module whose variables are float32 `nnx.Param` with `axes`, a logical axis or None for each dimension."""

  @property
  def spec(self) -> ModelSpec: ...

  @property
  def inputs(self) -> tuple[str, ...]:
    """The arrays of a batch that a call takes by these names, "tokens" first; a batch may lack all others."""
    ...

  def __call__(
    self,
    tokens: jax.Array,
    *,
    segment_ids: jax.Array | None = None,
    positions: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
    keep_layers: bool = False,
  ) -> Outputs:
    """Runs the model over rows of tokens.

    Args:
      tokens: (B, L) int32.
      segment_ids: (B, L) int32; tokens of different segments don't see each other, 0 is padding. None: one segment.
      positions: (B, L) int32, offsets within the segment; None: counted.
      dropout_key: turns dropout on.
      keep_layers: whether `Outputs.layers` is filled.
    """
    ...


@runtime_checkable
class Decoder(Model, Protocol):
  """A model that generates: its call also takes `cache`, and then `Outputs.cache` is the state after the tokens."""

  def init_cache(self, batch: int, length: int, **memory: jax.Array) -> Cache:
    """The state before the first token.

    Args:
      batch: B rows, one document each.
      length: tokens of a row, at most.
      **memory: with an encoder, `encoder_tokens` (B, M) and `encoder_segment_ids` (B, M).

    Raises:
      LmxError: more tokens than the model has positions for.
    """
    ...


@runtime_checkable
class RecurrentSpec(ModelSpec, Protocol):
  """The spec of a model that may carry its state from batch to batch (config.model.carry_state)."""

  def carry_shapes(self, batch: int) -> Mapping[str, Any]:
    """The carried state of B rows: {name: jax.ShapeDtypeStruct of (B, ...)}; it starts as zeros."""
    ...
