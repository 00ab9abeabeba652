# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""A model's outputs: hidden states, and what turns them into logits or scores."""

import dataclasses
from typing import Any

import jax

from lmx.nn.losses import Head, logits

Sums = dict[str, tuple[jax.Array, jax.Array]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
  """The result of a forward pass. Losses work from `hidden` and `unembedding`, so that logits need not be kept.

  Attributes:
    hidden: (B, L, D) final hidden states, compute dtype; the input of the unembedding.
    unembedding: (V, D) float32 output table, with the padding rows of the vocabulary; None for a model with another
      head than a vocabulary.
    cache: the decoding state after these tokens, or None.
    head: real vocabulary size, soft-cap and scale of the logits.
    bias: (V,) float32, added to the logits; None where there is none.
    scores: the output of a task's head, float32: (B, C) for classification, (B,) for regression, (B, L, 2) for the
      start and end of spans, (B, L, C) for tagging, (B, D) for embeddings (not normalized); None for a vocabulary.
    auxiliary: name -> (weighted sum over tokens, number of tokens): losses of the model's own parts, which objectives
      add to theirs (a mixture of experts balances its load so). Float32 scalars.
    layers: (N + 1, B, L, D): the input of the first block, then each block's output; None unless requested.
    encoder_layers: (N + 1, B, M, D), the same of an encoder before the decoder; None unless requested.
    carry: a recurrent model's state for the next batch, or None.
  """

  hidden: jax.Array
  unembedding: jax.Array | None
  cache: Any
  head: Head = dataclasses.field(metadata={"static": True})
  bias: jax.Array | None = None
  scores: jax.Array | None = None
  auxiliary: Sums = dataclasses.field(default_factory=dict)
  layers: jax.Array | None = None
  encoder_layers: jax.Array | None = None
  carry: Any = None

  def logits(self) -> jax.Array:
    """(B, L, V) float32 over the real vocabulary, padding rows left out.

    Raises:
      ValueError: the model has another output head than a vocabulary.
    """
    if self.unembedding is None:
      raise ValueError("this model's output head has no vocabulary, so there are no logits; its result is in `scores`")
    return logits(self.hidden, self.unembedding, self.head, self.bias)[..., : self.head.vocab_size]
