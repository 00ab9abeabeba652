# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Attention as a sequence mixer, and attention to an encoder's memory: projections around one of the kernels."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from lmx.nn.attention.cache import KeyValues
from lmx.nn.attention.kernel_check import check_kernel
from lmx.nn.attention.kernels import KERNELS, Extras, Kernel, resolve_kernel
from lmx.nn.attention.masks import Mask
from lmx.nn.context import Context, EncoderMemory
from lmx.nn.layers.initializers import Initializer
from lmx.nn.layers.linear import Linear
from lmx.nn.layers.norm import NORMS, Norm
from lmx.nn.layers.positions import rotate
from lmx.nn.mixer import MixerSpec
from lmx.parallel.sharding import constrain, platform, split_over
from lmx.units import StepFlops


@dataclasses.dataclass(frozen=True)
class AttentionShape:
  """Sizes and choices of an attention layer: query heads H, key-value heads G, head width K, biases, and the kernel.

  `quantization` is that of the projections, as in `Linear`; scores and mixing are never quantized.
  """

  width: int
  heads: int
  kv_heads: int
  head_width: int
  bias: bool
  out_bias: bool
  extras: Extras
  kernel: str
  quantization: str = "none"


class Attention(nnx.Module):
  """Multi-head attention; with fewer key-value heads than query heads, grouped- or multi-query.

  Sources: https://arxiv.org/abs/1706.03762, https://arxiv.org/abs/2305.13245 (grouped), and for the normalized
  queries and keys https://arxiv.org/abs/2302.05442. Projections compute in `dtype`, the softmax in float32.
  """

  def __init__(
    self,
    shape: AttentionShape,
    *,
    query_norm: Norm | None,
    key_norm: Norm | None,
    scheme: Initializer,
    dtype: Any,
    rngs: nnx.Rngs,
  ):
    """Makes the weights.

    Args:
      shape: sizes and choices.
      query_norm, key_norm: applied before rotation: over each head (K), or over all of them (H * K and G * K).
      scheme: the initializer.
      dtype: compute dtype.
      rngs: the `params` stream is drawn from.
    """
    self.shape = shape
    self.dtype = jnp.dtype(dtype)
    embed, head = ("embed", shape.width), ("head_width", shape.head_width)
    heads, kv_heads = ("heads", shape.heads), ("kv_heads", shape.kv_heads)

    linear = functools.partial(Linear, scheme=scheme, dtype=dtype, rngs=rngs, quantization=shape.quantization)
    self.query = linear((embed,), (heads, head), bias=shape.bias, gain=_query_gain(shape))
    self.key = linear((embed,), (kv_heads, head), bias=shape.bias)
    self.value = linear((embed,), (kv_heads, head), bias=shape.bias)
    self.out = linear((heads, head), (embed,), bias=shape.out_bias, residual=True)
    self.query_norm = query_norm
    self.key_norm = key_norm

  def __call__(
    self, x_BLD: jax.Array, context: Context, cache: KeyValues | None, layer: int | jax.Array, key: jax.Array | None
  ) -> tuple[jax.Array, KeyValues | None]:
    """Mixes tokens along the length.

    Args:
      x_BLD: normalized residual stream.
      context: segments, rotary tables, cache slots and so on.
      cache: keys and values of all layers; the new ones are written to it, and all of it is attended to.
      layer: this layer's number in the cache.
      key: for dropout on the probabilities; None: off.

    Returns:
      (B, L, D) in the compute dtype, and the cache with the tokens of x in it.
    """
    q_BLHK = self.queries(x_BLD)
    k_BLGK, v_BLGK = self.keys_and_values(x_BLD)
    if context.rotary is not None:  # Keys are cached rotated: the angle between two tokens depends on their distance.
      q_BLHK, k_BLGK = rotate(q_BLHK, context.rotary), rotate(k_BLGK, context.rotary)
    q_BLHK = checkpoint_name(q_BLHK, "queries")
    k_BLGK, v_BLGK = checkpoint_name(k_BLGK, "keys"), checkpoint_name(v_BLGK, "values")
    if cache is not None and context.slots is not None:
      cache = cache.write(layer, context.slots, k_BLGK, v_BLGK)
      return self._output(self._attend_cached(q_BLHK, *cache.read(layer), context)), cache
    segments, prefix = context.segment_ids, context.prefix
    mask = Mask(segments, segments, key_prefix=prefix, causal=context.causal, window=context.window)
    q_BLHK, k_BLGK, v_BLGK, bias = sequence_to_heads(q_BLHK, k_BLGK, v_BLGK, context.bias)
    kernel = self._kernel()
    attn_out_BLHK = kernel.attend(q_BLHK, k_BLGK, v_BLGK, mask, self.shape.extras, key, bias)
    return self._output(_named(attn_out_BLHK, kernel)), cache

  def queries(self, x_BLD: jax.Array) -> jax.Array:
    """(B, L, H, K) queries, normalized but not rotated."""
    q_BLHK = constrain(self.query(x_BLD), "batch", "length", "heads", "head_width")
    return q_BLHK if self.query_norm is None else _normalized(self.query_norm, q_BLHK)

  def keys_and_values(self, x_BSD: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(B, S, G, K) keys, normalized but not rotated, and values."""
    k_BSGK = constrain(self.key(x_BSD), "batch", "length", "kv_heads", "head_width")
    v_BSGK = constrain(self.value(x_BSD), "batch", "length", "kv_heads", "head_width")
    return k_BSGK if self.key_norm is None else _normalized(self.key_norm, k_BSGK), v_BSGK

  def _output(self, attn_out_BLHK: jax.Array) -> jax.Array:
    return self.out(constrain(attn_out_BLHK, "batch", "length", "heads", "head_width"))

  def _kernel(self) -> Kernel:
    """The fastest kernel that applies on the devices at hand, or the one that the config names."""
    shape = self.shape
    name = resolve_kernel(
      shape.kernel, platform=platform(), dtype=self.dtype.name, head_width=shape.head_width, extras=shape.extras
    )
    return KERNELS[name]

  def _attend_cached(self, q_BLHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, context: Context) -> jax.Array:
    """A few queries against every slot of the cache: bound by reading it, so the plain kernel is fast everywhere.

    A token's slot is its position, so the causal mask hides empty slots, which come after the query's.
    """
    prefix_BS = None
    if context.prefix is not None:
      rows = jnp.arange(context.prefix.shape[0], dtype=jnp.int32)[:, None]
      empty = jnp.zeros((k_BSGK.shape[0], k_BSGK.shape[1]), context.prefix.dtype)
      prefix_BS = empty.at[rows, context.slots].set(context.prefix, mode="drop")
    mask = Mask(query_index=context.slots, key_prefix=prefix_BS, causal=True, window=context.window)
    return KERNELS["einsum"].attend(q_BLHK, k_BSGK, v_BSGK, mask, self.shape.extras, None, context.bias)


class CrossAttention(Attention):
  """Queries from the decoder, keys and values from the encoder's memory. https://arxiv.org/abs/1706.03762, 3.2.3."""

  def read(
    self, x_BLD: jax.Array, context: Context, cache: KeyValues | None, layer: int | jax.Array, key: jax.Array | None
  ) -> jax.Array:
    """Attends to the encoder's memory, (B, L, D).

    Args:
      x_BLD: normalized residual stream of the decoder.
      context: its `memory` holds the encoder's hidden states, and who sees which.
      cache: keys and values of the memory for all layers, from `keys_and_values`; None: they are computed here.
      layer: this layer's number in the cache.
      key: for dropout on the probabilities; None: off.
    """
    memory = EncoderMemory() if context.memory is None else context.memory
    q_BLHK = self.queries(x_BLD)
    k_BMGK, v_BMGK = self.keys_and_values(memory.hidden) if cache is None else cache.read(layer)
    mask = Mask(memory.query_segments, memory.key_segments, causal=False)
    q_BLHK, k_BMGK, v_BMGK, _ = sequence_to_heads(q_BLHK, k_BMGK, v_BMGK)
    kernel = self._kernel()
    attn_out_BLHK = kernel.attend(q_BLHK, k_BMGK, v_BMGK, mask, self.shape.extras, key, None)
    return self._output(_named(attn_out_BLHK, kernel))


def _named(attn_out_BLHK: jax.Array, kernel: Kernel) -> jax.Array:
  """Marks the result for rematerialization; a fused kernel's is found by its primitive (see REMATS in stack.py)."""
  return attn_out_BLHK if kernel.fused else checkpoint_name(attn_out_BLHK, "attention")


def sequence_to_heads(
  q_BLHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, bias: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
  """Reshards from a part of the sequence on each device to full sequences of a part of the heads (Ulysses).

  An all-to-all, reversed after attention: https://arxiv.org/abs/2309.14509. Packing and masks are then those of one
  device, and all devices have equal work. Key-value heads are copied where there are fewer than devices.

  Args:
    q_BLHK, k_BSGK, v_BSGK: queries, keys and values.
    bias: (B or 1, H, L, S), or None.

  Returns:
    The arguments, resharded; unchanged where no sequence is split.
  """
  if split_over("length") == 1:
    return q_BLHK, k_BSGK, v_BSGK, bias
  heads, kv_heads, devices = q_BLHK.shape[2], k_BSGK.shape[2], split_over("mixed_heads")
  if kv_heads % devices and heads % devices == 0:
    copies = math.lcm(kv_heads, devices) // kv_heads
    k_BSGK, v_BSGK = jnp.repeat(k_BSGK, copies, axis=2), jnp.repeat(v_BSGK, copies, axis=2)
  k_BSGK, v_BSGK = (constrain(x, "batch", None, "mixed_kv_heads", "head_width") for x in (k_BSGK, v_BSGK))
  bias = None if bias is None else constrain(bias, "batch" if bias.shape[0] > 1 else None, "mixed_heads", None, None)
  return constrain(q_BLHK, "batch", None, "mixed_heads", "head_width"), k_BSGK, v_BSGK, bias


def _query_gain(shape: AttentionShape) -> float:
  """The factor on the queries' initial weights that offsets a custom scale: scores start as large as with 1 / sqrt(K).

  Source: T5, which leaves the scale out of the scores and puts it into the first queries
  (https://github.com/tensorflow/mesh, mesh_tensorflow/transformer/attention.py).
  """
  return 1.0 if shape.extras.scale is None else 1 / (shape.extras.scale * math.sqrt(shape.head_width))


def _normalized(norm: Norm, x_BLHK: jax.Array) -> jax.Array:
  """Normalizes each head by itself, or all heads of a token together where the norm is that wide."""
  if norm.width == x_BLHK.shape[-1]:
    return norm(x_BLHK)
  B, L, H, K = x_BLHK.shape
  return norm(x_BLHK.reshape(B, L, H * K)).reshape(B, L, H, K)


# ----------------------------------------------------------------------------------------- attention as a row of MIXERS


def make_attention(
  spec: Any, scheme: Initializer, rngs: nnx.Rngs, kind: Callable[..., Any] = Attention, bias: bool = True
) -> Any:
  """The attention of one layer.

  Args:
    spec: the model's.
    scheme: the initializer.
    rngs: the `params` stream is drawn from.
    kind: `Attention`, or `CrossAttention`.
    bias: whether it adds the model's bias on scores, where the model has one.
  """
  shape = AttentionShape(
    width=spec.width,
    heads=spec.heads,
    kv_heads=spec.kv_heads,
    head_width=spec.head_width,
    bias=spec.attention_bias,
    out_bias=spec.attention_out_bias,
    extras=spec.extras if bias else dataclasses.replace(spec.extras, bias=False),
    kernel=spec.attention,
    quantization=spec.quantization,
  )
  norm = functools.partial(NORMS[spec.norm], eps=spec.norm_eps, bias=False, dtype=spec.dtype)
  query_norm = key_norm = None
  if spec.qk_norm == "head":
    query_norm, key_norm = norm("head_width", spec.head_width), norm("head_width", spec.head_width)
  elif spec.qk_norm == "width":
    query_norm = norm("heads", spec.heads * spec.head_width)
    key_norm = norm("kv_heads", spec.kv_heads * spec.head_width)
  return kind(shape, query_norm=query_norm, key_norm=key_norm, scheme=scheme, dtype=spec.dtype, rngs=rngs)


def empty_cache(spec: Any, layers: int, batch: int, slots: int) -> KeyValues:
  """As `MixerSpec.empty`."""
  return KeyValues.empty(layers, batch, slots, spec.kv_heads, spec.head_width, spec.dtype)


def matmul_parameters(spec: Any) -> int:
  """Weights of the four projections of one layer."""
  return 2 * spec.width * spec.head_width * (spec.heads + spec.kv_heads)


def flops(spec: Any, layers: int, length: int, *, causal: bool) -> StepFlops:
  """FLOPs of scores and mixing of one training token: 12 * H * K for each layer and token within reach.

  Source: PaLM (https://arxiv.org/abs/2204.02311, appendix B). `StepFlops.causal` counts half of what is within reach
  where attention is causal.
  """
  attention = 12.0 * layers * spec.heads * spec.head_width * _within_reach(spec, length)
  return StepFlops(causal=attention / 2 if causal else attention, full=attention)


def _within_reach(spec: Any, length: int) -> float:
  """Tokens within reach of a query, as a mean over layers; both sides of a window count where there are two."""
  if spec.window is None:
    return length
  local = min(length, spec.window if spec.causal else 2 * spec.window - 1)
  share = spec.local_layers / spec.layers
  return share * local + (1 - share) * length


def describe(spec: Any) -> str:
  """The heads, for people."""
  return f"{spec.heads} heads" + (f" ({spec.kv_heads} key-value)" if spec.kv_heads != spec.heads else "")


def kernel_of(spec: Any, platform: str) -> str:
  """As `MixerSpec.kernel`: the row of `KERNELS` for a backend ("cpu", "gpu", "tpu")."""
  return resolve_kernel(
    spec.attention, platform=platform, dtype=spec.dtype, head_width=spec.head_width, extras=spec.extras
  )


def check_kernel_of(spec: Any, platform: str) -> str:
  """As `MixerSpec.check_kernel`."""
  name = kernel_of(spec, platform)
  error = max(
    check_kernel(
      name,
      heads=spec.heads,
      kv_heads=spec.kv_heads,
      head_width=spec.head_width,
      dtype=spec.dtype,
      window=spec.window,
      extras=spec.extras,
      causal=causal,
    )
    for causal in spec.attention_ways
  )
  return f"{name}, checked here against the reference: values and gradients within {error:.0e}"


ROW = MixerSpec(
  make=make_attention,
  empty=empty_cache,
  matmul_parameters=matmul_parameters,
  flops=flops,
  describe=describe,
  kernel=kernel_of,
  check_kernel=check_kernel_of,
)
