# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""What a language model returns: hidden states, and the means to turn them into logits."""

import dataclasses
from typing import Any

import jax

from lmx.nn.losses import Head, logits


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
  """The result of a forward pass. Losses work from `hidden` and `unembedding`, so that logits need not be kept.

  Attributes:
    hidden: (B, L, D) final hidden states, compute dtype.
    unembedding: (V, D) float32 output table, with the padding rows of the vocabulary.
    cache: the decoding state after these tokens, or None.
    head: real vocabulary size and soft-cap.
  """

  hidden: jax.Array
  unembedding: jax.Array
  cache: Any
  head: Head = dataclasses.field(metadata={"static": True})

  def logits(self) -> jax.Array:
    """(B, L, V) float32 over the real vocabulary, padding rows left out."""
    return logits(self.hidden, self.unembedding, self.head)[..., : self.head.vocab_size]
