# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""The LSTM language model: embedding, a stack of LSTM layers, output table; and the record that describes it.

Source: https://arxiv.org/abs/1409.2329 (Zaremba et al.: dropout between layers, never from token to
token).
"""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.config.table import default
from lmx.errors import Problems
from lmx.models.spec_check import check_values
from lmx.nn.attention.cache import Cache
from lmx.nn.heads import HEADS, HeadShape
from lmx.nn.layers.dropout import dropout, fold
from lmx.nn.layers.embedding import Embedding, Unembedding
from lmx.nn.layers.initializers import make_scheme
from lmx.nn.layers.lstm import LSTMLayer
from lmx.nn.layers.norm import LayerNorm
from lmx.nn.layers.positions import segment_positions
from lmx.nn.losses import Head
from lmx.nn.outputs import Outputs
from lmx.nn.stack import stacked, unstack
from lmx.shapes import check
from lmx.units import StepFlops, counted

LSTM_POOLINGS = ("last", "mean")  # Its first token sees no other.
LSTM_HEADS = tuple(name for name in HEADS if name != "masked")  # It cannot see what follows a mask.


@dataclasses.dataclass(frozen=True)
class LSTMSpec:
  """An LSTM language model. Fields are keys of `config.model` (their meaning is in configs/base.py), then:

  Attributes:
    vocab_size: the tokenizer's; tables are padded up to a multiple of vocab_multiple, and padding has no probability.
    dtype: compute dtype; parameters, gates, c, softmax and loss are float32.
    head: a row of `HEADS`.
    outputs: scores of a row or token (labels), for heads that have them.

  Raises:
    LmxError: names every value that is impossible.
  """

  vocab_size: int
  layers: int
  width: int
  context: int
  vocab_multiple: int = default("model.vocab_multiple")
  logits_softcap: float | None = default("model.logits_softcap")
  tied: bool = default("model.tied")
  dropout: float = default("model.dropout")
  init: str = default("model.init")
  init_std: float = default("model.init_std")
  pooling: Any = None  # last
  pooler: Any = None  # False
  head_bias: Any = None  # False
  carry_state: bool = default("model.carry_state")
  dtype: str = default("compute.dtype")
  loss_chunks: int = default("compute.loss_chunks")
  head: str = "language"
  outputs: int = 1

  def __post_init__(self) -> None:
    problems = Problems()
    check_values(self, problems)
    if self.pooling not in (None, *LSTM_POOLINGS):
      problems.add("config.model.pooling", got=self.pooling, allowed=LSTM_POOLINGS)
    if self.head not in LSTM_HEADS:
      problems.add("head of an lstm", got=self.head, allowed=LSTM_HEADS)
    problems.raise_if_any()
    for key, value in {"pooling": "last", "pooler": False, "head_bias": False}.items():
      if getattr(self, key) is None:
        object.__setattr__(self, key, value)

  def kernel(self, platform: str) -> str:
    """There is no attention, so there is no kernel to choose."""
    return "none"

  def check_attention(self, platform: str) -> str:
    """A sentence for the run's introduction, where other models name the attention kernel that was checked."""
    return "none: an LSTM remembers in its state"

  def check_kernels(self, platform: str) -> dict[str, str]:
    """As `StackSpec.check_kernels`."""
    return {"attention": self.check_attention(platform)}

  @property
  def unlimited(self) -> bool:
    """Whether a row may be longer than the context: yes, the context is only what gradients go back over."""
    return True

  @property
  def vocab_rows(self) -> int:
    """Rows of the embedding table: the vocabulary, up to a multiple of vocab_multiple."""
    return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

  @property
  def head_shape(self) -> HeadShape:
    """Sizes and choices of its output head."""
    norm = functools.partial(LayerNorm, "embed", self.width, eps=1e-5, bias=True, dtype=self.dtype)
    return HeadShape(
      width=self.width,
      vocab_rows=self.vocab_rows,
      outputs=self.outputs,
      pooling=self.pooling,
      pooler=self.pooler,
      bias=self.head_bias,
      transform=False,
      transform_bias=True,
      output_bias=False,
      dropout=self.dropout,
      function=jnp.tanh,
      make_norm=norm,
    )

  def carry_shapes(self, batch: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What `Outputs.carry` holds for a batch of `batch` rows: {name: shape and dtype}; it starts as zeros."""
    shape = (batch, self.layers, self.width)
    return {"h": jax.ShapeDtypeStruct(shape, jnp.dtype(self.dtype)), "c": jax.ShapeDtypeStruct(shape, jnp.float32)}

  def describe(self) -> str:
    """One line for people: shape and parts."""
    parts = f"dropout {self.dropout:g}, {'carried' if self.carry_state else 'fresh'} state"
    return f"LSTM, {counted(self.layers, 'layer')}, width {self.width}; {parts}"

  def matmul_parameters(self) -> int:
    """Weights that a token is multiplied with: gates and the output table (tied or not), not lookups."""
    table = self.vocab_rows * self.width if HEADS[self.head].vocabulary else 0
    return self.layers * 8 * self.width**2 + table

  def flops_per_token(self, length: int, encoder_length: int) -> StepFlops:
    """FLOPs of one training token, 6 for each weight it is multiplied with, whatever the lengths."""
    flops = 6.0 * self.matmul_parameters()
    return StepFlops(causal=flops, full=flops, matmuls=flops)


class LSTM(nnx.Module):
  """An LSTM language model. Parameters are float32; products are in `spec.dtype`.

  Where `carry` goes from batch to batch, it is trained by truncated backpropagation; otherwise on complete documents.
  """

  inputs: ClassVar[tuple[str, ...]] = ("tokens", "segment_ids", "positions", "carry")

  def __init__(self, spec: LSTMSpec, *, rngs: nnx.Rngs):
    """Makes the weights.

    Args:
      spec: what to build.
      rngs: the `params` stream is drawn from: `nnx.Rngs(seed)`.
    """
    scheme = make_scheme(spec.init, std=spec.init_std, layers=spec.layers)
    self.spec = spec
    self.token_embedding = Embedding("vocab", spec.vocab_rows, spec.width, scheme=scheme, dtype=spec.dtype, rngs=rngs)
    make_layer = lambda rngs: LSTMLayer(spec.width, scheme=scheme, dtype=spec.dtype, rngs=rngs)  # noqa: E731
    self.layers = stacked(make_layer, spec.layers, rngs)
    untied = HEADS[spec.head].vocabulary and not spec.tied
    self.unembedding = Unembedding(spec.vocab_rows, spec.width, scheme=scheme, rngs=rngs) if untied else None
    self.head = HEADS[spec.head](spec.head_shape, scheme=scheme, dtype=spec.dtype, rngs=rngs)

  def __call__(
    self,
    tokens: jax.Array,
    *,
    segment_ids: jax.Array | None = None,
    positions: jax.Array | None = None,
    carry: dict[str, jax.Array] | None = None,
    cache: Cache | None = None,
    dropout_key: jax.Array | None = None,
    keep_layers: bool = False,
  ) -> Outputs:
    """Runs the model over rows of tokens.

    Args:
      tokens: (B, L) int32.
      segment_ids: (B, L) int32; tokens of segment 0 are padding and leave the state as it was. None: all are real.
      positions: (B, L) int32; the state is zero before a token of position 0. None: before the first token of each
        segment, but for a row's first token where there is a carry or a cache.
      carry: the state before the first token, as `spec.carry_shapes` has it, a constant to the gradient; None: zeros.
        Where it is given, the result has the state after the last token.
      cache: the state after the tokens before these, as `carry`, for generation: a row is one document.
      dropout_key: turns dropout on.
      keep_layers: whether the result has the hidden states between layers.

    Raises:
      ValueError: shapes that don't fit each other.
    """
    check("LSTM", "BL ?BL ?BL", tokens, segment_ids, positions)
    spec = self.spec
    real_BL = jnp.ones(tokens.shape, bool) if segment_ids is None else segment_ids > 0
    starts_BL = jnp.zeros(tokens.shape, bool)
    if cache is None:
      starts_BL = _starts(segment_ids, positions, continues=carry is not None, shape=tokens.shape) & real_BL
    states = self._first_states(tokens.shape[0], carry, cache)
    x_BLD = dropout(self.token_embedding(tokens), spec.dropout, fold(dropout_key, 0))
    kept, after = [x_BLD], []
    for number, layer in enumerate(unstack(self.layers, spec.layers)):
      y_BLD, last = layer(x_BLD, (states["h"][number], states["c"][number]), starts_BL, real_BL)
      x_BLD = dropout(y_BLD, spec.dropout, fold(dropout_key, number + 1))
      kept.append(x_BLD)
      after.append(last)
    ending = self.head(x_BLD, segment_ids, fold(dropout_key, spec.layers + 1))
    layers = {name: jnp.stack(parts) for name, parts in zip(("h", "c"), zip(*after, strict=True), strict=True)}
    return Outputs(
      ending.hidden,
      self._output_table(),
      None if cache is None else Cache(cache.length + jnp.sum(real_BL, axis=1, dtype=jnp.int32), layers),
      Head(spec.vocab_size, spec.logits_softcap, chunks=spec.loss_chunks),
      bias=ending.bias,
      scores=ending.scores,
      layers=jnp.stack(kept) if keep_layers else None,
      carry=None if carry is None else {name: part.swapaxes(0, 1) for name, part in layers.items()},
    )

  def init_cache(self, batch: int, length: int) -> Cache:
    """The state before the first token of `batch` documents; it doesn't grow with `length`."""
    layers = {name: jnp.zeros(x.shape, x.dtype).swapaxes(0, 1) for name, x in self.spec.carry_shapes(batch).items()}
    return Cache(jnp.zeros((batch,), jnp.int32), layers)

  def _first_states(self, batch: int, carry: Any, cache: Cache | None) -> dict[str, Any]:
    """h and c of all layers before the first token, (N, B, D)."""
    if carry is not None:
      return {name: jax.lax.stop_gradient(part).swapaxes(0, 1) for name, part in carry.items()}
    return (self.init_cache(batch, 0) if cache is None else cache).layers

  def _output_table(self) -> jax.Array | None:
    if not HEADS[self.spec.head].vocabulary:
      return None
    return (self.token_embedding.embedding if self.unembedding is None else self.unembedding.kernel)[...]


def _starts(
  segment_ids: jax.Array | None, positions: jax.Array | None, *, continues: bool, shape: tuple[int, ...]
) -> jax.Array:
  """Where a document starts, (B, L) bool."""
  if positions is not None:
    return positions == 0
  if segment_ids is None:
    return jnp.zeros(shape, bool)
  starts_BL = segment_positions(segment_ids) == 0
  return starts_BL.at[:, 0].set(False) if continues else starts_BL
