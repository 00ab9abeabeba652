# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Flash attention (https://arxiv.org/abs/2205.14135) by maintained kernels: tokamax on GPUs, splash on TPUs.

The full matrix of scores is never in memory, and blocks of keys that no query of a block sees are skipped, including
those of other documents in a packed row. The compiler cannot split such a kernel over devices, so each device runs it
on its own rows and heads.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from lmx.nn.attention.masks import Mask
from lmx.parallel.sharding import on_each_device, platform

_ROWS = ("batch", None)
_QUERIES, _KEYS = (*_ROWS, "mixed_heads", "head_width"), (*_ROWS, "mixed_kv_heads", "head_width")


def segment_starts(segment_ids: jax.Array) -> jax.Array:
  """(B, L) int32: the column at which each token's run of equal ids begins."""
  columns = jnp.arange(segment_ids.shape[1], dtype=jnp.int32)[None]
  begins = segment_ids != jnp.pad(segment_ids[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
  return jax.lax.cummax(jnp.where(begins, columns, 0), axis=1)


def segment_ends(segment_ids: jax.Array) -> jax.Array:
  """(B, L) int32: the column after the last of each token's run of equal ids."""
  length = segment_ids.shape[1]
  return length - segment_starts(segment_ids[:, ::-1])[:, ::-1]


def seen_range(mask: Mask, length: int) -> tuple[jax.Array | None, jax.Array | None]:
  """The first key that each query sees, and the one after the last, (B or 1, L) int32; None: no such limit.

  A causal mask's own limit at the query is left out. Segments are runs of equal ids, as packing makes them.
  """
  columns = jnp.arange(length, dtype=jnp.int32)[None]
  start = end = None
  if mask.query_segments is not None:
    start = segment_starts(mask.query_segments)
    end = None if mask.causal else segment_ends(mask.query_segments)
  if mask.window is not None:
    first = columns - (mask.window - 1)
    start = jnp.maximum(first, 0) if start is None else jnp.maximum(first, start)
    if not mask.causal:
      last = columns + mask.window
      end = jnp.minimum(last, length) if end is None else jnp.minimum(last, end)
  return start, end


def tokamax_attention(
  q_BLHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, mask: Mask, scale: float, softcap: float | None
) -> jax.Array:
  """tokamax's Pallas kernel for GPUs from Hopper on, https://github.com/openxla/tokamax; (B, L, H, K)."""
  from tokamax._src.ops.attention import base, pallas_mosaic_gpu

  attend = pallas_mosaic_gpu.PallasMosaicGpuFlashAttention()

  def local(q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask) -> jax.Array:
    length = q.shape[1]
    # A range of keys for each query lets the kernel skip blocks; prefixes and explicit orders have no such range.
    if mask.key_prefix is None and mask.query_index is None and mask.query_segments is mask.key_segments:
      start, end = (None if x is None else x[:, None] for x in seen_range(mask, length))
      seen = base.Mask(is_causal=mask.causal, k_start=start, k_end=end)
    else:
      seen = base.Mask(mask.dense(length, k.shape[1]))
    return attend(q, k, v, mask=seen, logits_scale=scale, logits_soft_cap=softcap)

  return _each_device(local, q_BLHK, k_BSGK, v_BSGK, mask)


def splash_attention(
  q_BLHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, mask: Mask, scale: float, softcap: float | None
) -> jax.Array:
  """JAX's Pallas kernel for TPUs, jax/experimental/pallas/ops/tpu/splash_attention; (B, L, H, K).

  Elsewhere it is interpreted, which is for tests.
  """
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash

  def local(q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask) -> jax.Array:
    rows, length, heads, _ = q.shape
    queries, keys = (-(-x.shape[1] // _SPLASH_MULTIPLE) * _SPLASH_MULTIPLE for x in (q, k))
    kernel = splash.make_splash_mha(
      _splash_mask(heads, queries, keys, mask.causal, mask.window),
      head_shards=1,
      q_seq_shards=1,
      block_sizes=_block_sizes(queries, keys),
      attn_logits_soft_cap=softcap,
      interpret=platform() != "tpu",
    )
    # Rows are padded to a multiple of 128. Under a causal mask no real query sees the padding; otherwise segment ids
    # hide it (padding gets segment 0).
    segments = None
    if mask.query_segments is not None:
      segments = splash.SegmentIds(_padded(mask.query_segments, queries), _padded(mask.key_segments, keys))
    elif not mask.causal and keys > k.shape[1]:
      own = lambda x, size: _padded(jnp.ones((rows, x.shape[1]), jnp.int32), size)  # noqa: E731
      segments = splash.SegmentIds(own(q, queries), own(k, keys))
    q, k, v = (jnp.swapaxes(_padded(x, n), 1, 2) for x, n in ((q * scale, queries), (k, keys), (v, keys)))
    out = jax.vmap(kernel)(q, k, v, segments)
    return jnp.swapaxes(out, 1, 2)[:, :length]

  return _each_device(local, q_BLHK, k_BSGK, v_BSGK, mask)


_SPLASH_MULTIPLE = 128  # A row's length must be a multiple of it.
_SPLASH_BLOCKS = (512, 256, 128)


def _padded(x: jax.Array, size: int) -> jax.Array:
  """(B, L, ...) filled up with zeros to (B, size, ...)."""
  return x if x.shape[1] == size else jnp.pad(x, ((0, 0), (0, size - x.shape[1]), *[(0, 0)] * (x.ndim - 2)))


def _block_sizes(queries: int, keys: int) -> Any:
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash

  q, k = (next(block for block in _SPLASH_BLOCKS if size % block == 0) for size in (queries, keys))
  return splash.BlockSizes(
    block_q=q, block_kv=k, block_kv_compute=k, block_q_dkv=q, block_kv_dkv=k, block_kv_dkv_compute=k, block_q_dq=q,
    block_kv_dq=k,
  )  # fmt: skip


@functools.cache
def _splash_mask(heads: int, queries: int, keys: int, causal: bool, window: int | None) -> Any:
  from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

  shape = (queries, keys)
  if window is not None:
    one: Any = masks.LocalMask(shape, (window - 1, 0 if causal else window - 1), 0)
  else:
    one = masks.CausalMask(shape) if causal else masks.FullMask(shape)
  return masks.MultiHeadMask([one] * heads)


def _each_device(function: Any, q_BLHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, mask: Mask) -> jax.Array:
  """function(q, k, v, mask) by each device on its own rows and heads."""
  arrays = [name for name in ("query_segments", "key_segments", "query_index", "key_index", "key_prefix")
            if getattr(mask, name) is not None]  # fmt: skip
  # Self-attention passes one array as both; inside, the two must be one again, by which tokamax_attention knows it.
  same = mask.query_segments is mask.key_segments

  def local(q: jax.Array, k: jax.Array, v: jax.Array, *given: jax.Array) -> jax.Array:
    parts: dict[str, Any] = dict(zip(arrays, given, strict=True))
    own = dataclasses.replace(mask, **parts)
    if same:
      own = dataclasses.replace(own, key_segments=own.query_segments)
    return function(q, k, v, own)

  inputs = [(q_BLHK, _QUERIES), (k_BSGK, _KEYS), (v_BSGK, _KEYS), *((getattr(mask, name), _ROWS) for name in arrays)]
  return on_each_device(local, inputs, _QUERIES)
