# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Stand-ins for models: tables looked up by token, so that a test of an objective depends on no model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lmx.nn.losses import Head
from lmx.nn.outputs import Outputs

WIDTH = 6


@jax.tree_util.register_pytree_node_class
class TableModel:
  """Each token's hidden state is its own row of a table plus the mean over its segment of another: it mixes tokens.

  Attributes:
    params: name -> float32 array; the gradient of a loss with respect to a TableModel is one, too.
    head: language | masked | classification | regression | span | tagging | embedding.
  """

  inputs = ("tokens", "segment_ids", "positions", "token_types", "prefix", "encoder_tokens", "encoder_segment_ids")

  def __init__(self, params: dict, head: str, vocab_size: int):
    self.params, self.head, self.vocab_size = params, head, vocab_size

  def tree_flatten(self):
    return (self.params,), (self.head, self.vocab_size)

  @classmethod
  def tree_unflatten(cls, static, children):
    return cls(children[0], *static)

  def __call__(self, tokens, *, segment_ids, encoder_tokens=None, encoder_segment_ids=None, dropout_key=None, **unused):
    params = self.params
    hidden = params["own"][tokens] + segment_means(params["shared"][tokens], segment_ids, segment_ids)
    if encoder_tokens is not None:
      hidden = hidden + segment_means(params["shared"][encoder_tokens], segment_ids, encoder_segment_ids)
    make = functools.partial(Outputs, hidden, cache=None, head=Head(self.vocab_size))
    if self.head in ("language", "masked"):
      return make(params["out"])
    real = (segment_ids > 0)[..., None]
    pooled = jnp.sum(jnp.where(real, hidden, 0), axis=1) / jnp.maximum(jnp.sum(real, axis=1), 1)
    out = params["out"].T
    scores = {
      "classification": lambda: pooled @ out[:, :3],
      "regression": lambda: (pooled @ out[:, :1])[:, 0],
      "span": lambda: hidden @ out[:, :2],
      "tagging": lambda: hidden @ out[:, :3],
      "embedding": lambda: pooled,
    }[self.head]()
    return make(None, scores=scores)


def segment_means(values, segments, other_segments):
  """The mean of `values` (B, S, D) over the tokens of each token's segment, (B, L, D)."""
  same = (segments[:, :, None] == other_segments[:, None, :]).astype(jnp.float32)
  return same @ values / jnp.maximum(jnp.sum(same, axis=-1, keepdims=True), 1)


def table_model(head: str, vocab_size: int, seed: int = 0) -> TableModel:
  """A model with random parameters."""
  rng = np.random.default_rng(seed)
  names = ("own", "shared", "out")
  return TableModel({n: rng.normal(size=(vocab_size, WIDTH)).astype(np.float32) for n in names}, head, vocab_size)
