# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Output heads: a vocabulary, or scores for rows, tokens and spans.

Whatever belongs to a head is under `head.` in a model, so that a model of another head can start from its backbone;
the output table of a vocabulary is the model's own (`unembedding`, or the embedding table).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.nn.layers.activations import Elementwise
from lmx.nn.layers.dropout import dropout, fold
from lmx.nn.layers.initializers import Initializer
from lmx.nn.layers.linear import Linear
from lmx.nn.layers.norm import Norm

POOLINGS = ("cls", "mean", "last")
ROW_HEADS = ("classification", "regression", "embedding")  # Those that read one vector of a row.


@dataclasses.dataclass(frozen=True)
class HeadShape:
  """Sizes and choices of an output head.

  Attributes:
    width: D of the hidden states.
    vocab_rows: rows of the output table.
    outputs: scores of a row or token (labels).
    pooling: a name of `POOLINGS`.
    pooler: whether a dense layer with tanh follows the pooling.
    bias: whether the scores of a row have one.
    transform: whether scores are those of norm(f(W x + b)), as masked models have before the output table.
    transform_bias: whether that has the b.
    output_bias: whether the logits of the language head have one.
    dropout: before the scores.
    function: the model's activation, the transform's f.
    make_norm: makes a norm over the width.
  """

  width: int
  vocab_rows: int
  outputs: int
  pooling: str
  pooler: bool
  bias: bool
  transform: bool
  transform_bias: bool
  output_bias: bool
  dropout: float
  function: Elementwise
  make_norm: Callable[[], Norm]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeadOutput:
  """The result of an output head.

  Attributes:
    hidden: (B, L, D), what an output table is applied to.
    bias: (V,) added to the logits, or None.
    scores: float32, of the task's shape; None for a vocabulary.
  """

  hidden: jax.Array
  bias: jax.Array | None = None
  scores: jax.Array | None = None


class VocabularyHead(nnx.Module):
  """No layers before the output table; optionally a bias on the logits."""

  vocabulary: ClassVar[bool] = True

  def __init__(self, shape: HeadShape, *, scheme: Initializer, dtype: Any, rngs: nnx.Rngs):
    self.bias: Any = _output_bias(shape) if shape.output_bias else None

  def __call__(self, hidden_BLD: jax.Array, segment_ids_BL: jax.Array | None, key: jax.Array | None) -> HeadOutput:
    """Applies the head to the final hidden states.

    Args:
      hidden_BLD: final hidden states.
      segment_ids_BL: 0 marks padding; None: there is none.
      key: for dropout; None: off.
    """
    return HeadOutput(hidden_BLD, bias=None if self.bias is None else self.bias[...])


class MaskedHead(VocabularyHead):
  """norm(f(W x + b)), then the output table and a bias. Source: BERT (https://github.com/google-research/bert)."""

  def __init__(self, shape: HeadShape, *, scheme: Initializer, dtype: Any, rngs: nnx.Rngs):
    _make_transform(self, shape, True, scheme, dtype, rngs)
    self.bias = _output_bias(shape)

  def __call__(self, hidden_BLD: jax.Array, segment_ids_BL: jax.Array | None, key: jax.Array | None) -> HeadOutput:
    """As `VocabularyHead.__call__`."""
    return HeadOutput(_transformed(self, hidden_BLD), bias=self.bias[...])


class RowHead(nnx.Module):
  """Scores of a row, (B, C): a pooled token, perhaps tanh(W x + b) or norm(f(W x + b)), and a linear map."""

  vocabulary: ClassVar[bool] = False

  def __init__(self, shape: HeadShape, *, scheme: Initializer, dtype: Any, rngs: nnx.Rngs):
    self.pooling = shape.pooling
    self.dropout_rate = shape.dropout
    self.pooler = _dense(shape.width, "embed_out", shape.width, scheme, dtype, rngs) if shape.pooler else None
    _make_transform(self, shape, shape.transform, scheme, dtype, rngs)
    self.out = _dense(shape.width, "labels", shape.outputs, scheme, dtype, rngs, bias=shape.bias)

  def __call__(self, hidden_BLD: jax.Array, segment_ids_BL: jax.Array | None, key: jax.Array | None) -> HeadOutput:
    """As `VocabularyHead.__call__`."""
    x_BD = pool(self.pooling, hidden_BLD, segment_ids_BL).astype(hidden_BLD.dtype)
    if self.pooler is not None:
      x_BD = jnp.tanh(self.pooler(x_BD))
    x_BD = _transformed(self, x_BD)
    scores = self.out(dropout(x_BD, self.dropout_rate, fold(key, 0)))
    return HeadOutput(hidden_BLD, scores=self.shaped(scores.astype(jnp.float32)))

  def shaped(self, scores_BC: jax.Array) -> jax.Array:
    return scores_BC


class RegressionHead(RowHead):
  """One number for each row, (B,)."""

  def __init__(self, shape: HeadShape, **rest: Any):
    super().__init__(dataclasses.replace(shape, outputs=1), **rest)

  def shaped(self, scores_BC: jax.Array) -> jax.Array:
    return scores_BC[:, 0]


class TokenHead(nnx.Module):
  """Scores of every token, (B, L, C): perhaps norm(f(W x + b)), and a linear map."""

  vocabulary: ClassVar[bool] = False

  def __init__(self, shape: HeadShape, *, scheme: Initializer, dtype: Any, rngs: nnx.Rngs):
    self.dropout_rate = shape.dropout
    _make_transform(self, shape, shape.transform, scheme, dtype, rngs)
    self.out = _dense(shape.width, "labels", shape.outputs, scheme, dtype, rngs)

  def __call__(self, hidden_BLD: jax.Array, segment_ids_BL: jax.Array | None, key: jax.Array | None) -> HeadOutput:
    """As `VocabularyHead.__call__`."""
    scores = self.out(dropout(_transformed(self, hidden_BLD), self.dropout_rate, fold(key, 0)))
    return HeadOutput(hidden_BLD, scores=scores.astype(jnp.float32))


class SpanHead(TokenHead):
  """Logits of an answer's start and end at each token, (B, L, 2)."""

  def __init__(self, shape: HeadShape, **rest: Any):
    super().__init__(dataclasses.replace(shape, outputs=2), **rest)


class EmbeddingHead(nnx.Module):
  """A vector for each row, (B, D), not normalized; no parameters."""

  vocabulary: ClassVar[bool] = False

  def __init__(self, shape: HeadShape, *, scheme: Initializer, dtype: Any, rngs: nnx.Rngs):
    self.pooling = shape.pooling

  def __call__(self, hidden_BLD: jax.Array, segment_ids_BL: jax.Array | None, key: jax.Array | None) -> HeadOutput:
    """As `VocabularyHead.__call__`."""
    return HeadOutput(hidden_BLD, scores=pool(self.pooling, hidden_BLD, segment_ids_BL))


def pool(pooling: str, hidden_BLD: jax.Array, segment_ids_BL: jax.Array | None) -> jax.Array:
  """One vector for each row, (B, D) float32: its first token, the mean of its real tokens, or the last of them.

  Under mean, a row of only padding gives zeros.
  """
  x_BLD = hidden_BLD.astype(jnp.float32)
  if pooling == "cls":
    return x_BLD[:, 0]
  if segment_ids_BL is None:
    return x_BLD[:, -1] if pooling == "last" else jnp.mean(x_BLD, axis=1)
  real_BL1 = (segment_ids_BL > 0)[:, :, None]
  if pooling == "last":
    columns = jnp.arange(x_BLD.shape[1], dtype=jnp.int32)[None, :, None]
    last_B11 = jnp.max(jnp.where(real_BL1, columns, 0), axis=1, keepdims=True)
    return jnp.take_along_axis(x_BLD, last_B11, axis=1)[:, 0]
  return jnp.sum(jnp.where(real_BL1, x_BLD, 0), axis=1) / jnp.maximum(jnp.sum(real_BL1, axis=1), 1)


def _make_transform(head: Any, shape: HeadShape, wanted: bool, scheme: Initializer, dtype: Any, rngs: nnx.Rngs) -> None:
  """Gives a head its transform, or None: models of another head start from it where both have it."""
  width, bias = shape.width, shape.transform_bias
  head.transform = _dense(width, "embed_out", width, scheme, dtype, rngs, bias=bias) if wanted else None
  head.norm = shape.make_norm() if wanted else None
  head.function = shape.function


def _transformed(head: Any, x: jax.Array) -> jax.Array:
  """norm(f(W x + b)) of (..., D), or x where the head has no transform."""
  return x if head.transform is None else head.norm(head.function(head.transform(x)))


def _output_bias(shape: HeadShape) -> nnx.Param[Any]:
  return nnx.Param(jnp.zeros((shape.vocab_rows,), jnp.float32), axes=("vocab",))


def _dense(
  width: int, axis: str, outputs: int, scheme: Initializer, dtype: Any, rngs: nnx.Rngs, *, bias: bool = True
) -> Linear:
  return Linear((("embed", width),), ((axis, outputs),), bias=bias, scheme=scheme, dtype=dtype, rngs=rngs)


HeadModule = VocabularyHead | RowHead | TokenHead | EmbeddingHead
HEADS: dict[str, type[HeadModule]] = {
  "language": VocabularyHead,
  "masked": MaskedHead,
  "classification": RowHead,
  "regression": RegressionHead,
  "span": SpanHead,
  "tagging": TokenHead,
  "embedding": EmbeddingHead,
}
