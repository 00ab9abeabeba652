# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Attention kernels: implementations of one function for different machines.

Every row of `KERNELS` computes, for each query head h and its key-value head h * G // H,
`softmax(softcap(scale * q k^T) + bias over the keys that the mask shows) v`. The softmax is float32 in all of them.
`reference` is the definition that the others are compared with (see kernel_check.py).
"""

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lmx.errors import LmxError, choose, message
from lmx.nn.attention.flash import splash_attention, tokamax_attention
from lmx.nn.attention.masks import Mask
from lmx.nn.attention.saved import attend_saving_probabilities
from lmx.nn.layers.dropout import dropout
from lmx.parallel.sharding import GPU

Array = jax.Array
_HIDDEN = -1e30  # A masked score. Finite, so that a row without any visible key gives no NaN; its exponential is 0.


@dataclasses.dataclass(frozen=True)
class Extras:
  """Options of an attention layer beyond softmax(q k^T / sqrt(K)) v; every kernel can scale, not all do the rest.

  Attributes:
    softcap: on the scores; None: off.
    dropout: on the probabilities.
    scale: scores are multiplied by it; None: 1 / sqrt(K).
    bias: whether an array is added to the scores, after the scale and before the mask.
  """

  softcap: float | None = None
  dropout: float = 0.0
  scale: float | None = None
  bias: bool = False

  def score_scale(self, head_width: int) -> float:
    """The factor on the scores of heads of that width."""
    return 1 / math.sqrt(head_width) if self.scale is None else self.scale

  @property
  def special(self) -> frozenset[str]:
    """The options in use that not every kernel has."""
    asked = {"softcap": self.softcap is not None, "dropout": self.dropout > 0, "bias": self.bias}
    return frozenset(name for name, is_asked in asked.items() if is_asked)


_SPECIAL = {"softcap": "a soft-cap on scores", "dropout": "dropout on probabilities", "bias": "a bias on scores"}


def soft_cap(x: jax.Array, cap: float | None) -> jax.Array:
  """cap * tanh(x / cap), or x. Source: Gemma 2 (https://arxiv.org/abs/2408.00118, section 2)."""
  return x if cap is None else cap * jnp.tanh(x / cap)


def _reference(
  q_BLHK: Array, k_BSGK: Array, v_BSGK: Array, mask: Mask, extras: Extras, key: Array | None, bias: Array | None = None
) -> Array:
  """The definition: float32 at the highest matmul precision, every key-value head repeated."""
  q, k, v = (x.astype(jnp.float32) for x in (q_BLHK, k_BSGK, v_BSGK))
  repeats = q.shape[2] // k.shape[2]
  k, v = jnp.repeat(k, repeats, axis=2), jnp.repeat(v, repeats, axis=2)
  scores = jnp.einsum("blhk,bshk->bhls", q, k, precision="highest") * extras.score_scale(q.shape[-1])
  scores = soft_cap(scores, extras.softcap)
  scores = scores if bias is None else scores + bias
  scores = jnp.where(mask.dense(q.shape[1], k.shape[1]), scores, _HIDDEN)
  probabilities = dropout(jax.nn.softmax(scores, axis=-1), extras.dropout, key)
  return jnp.einsum("bhls,bshk->blhk", probabilities, v, precision="highest").astype(q_BLHK.dtype)


def _einsum(
  q_BLHK: Array, k_BSGK: Array, v_BSGK: Array, mask: Mask, extras: Extras, key: Array | None, bias: Array | None = None
) -> Array:
  """Matmuls in the compute dtype, key-value heads shared without a copy; does everything, on every machine."""
  B, L, H, K = q_BLHK.shape
  G, S = k_BSGK.shape[2], k_BSGK.shape[1]
  # Query heads in G groups of R = H / G, one group for each key-value head.
  q_BLGRK = q_BLHK.reshape(B, L, G, H // G, K)
  scores = jnp.einsum("blgrk,bsgk->bgrls", q_BLGRK, k_BSGK, preferred_element_type=jnp.float32)
  scores = soft_cap(scores * extras.score_scale(K), extras.softcap)
  scores = scores if bias is None else scores + bias.reshape(-1, G, H // G, L, S)
  scores = jnp.where(mask.dense(L, S)[:, :, None], scores, _HIDDEN)
  probabilities = dropout(jax.nn.softmax(scores, axis=-1), extras.dropout, key).astype(q_BLHK.dtype)
  return jnp.einsum("bgrls,bsgk->blgrk", probabilities, v_BSGK).reshape(B, L, H, K)


def _cpu(
  q_BLHK: Array, k_BSGK: Array, v_BSGK: Array, mask: Mask, extras: Extras, key: Array | None, bias: Array | None = None
) -> Array:
  """Heads before length, probabilities saved for the backward pass: less memory traffic on a CPU."""
  dense = mask.dense(q_BLHK.shape[1], k_BSGK.shape[1])
  return attend_saving_probabilities(q_BLHK, k_BSGK, v_BSGK, dense, extras.score_scale(q_BLHK.shape[-1]))


def _xla(
  q_BLHK: Array, k_BSGK: Array, v_BSGK: Array, mask: Mask, extras: Extras, key: Array | None, bias: Array | None = None
) -> Array:
  """JAX's own, left to the compiler."""
  dense = mask.dense(q_BLHK.shape[1], k_BSGK.shape[1])
  return jax.nn.dot_product_attention(
    q_BLHK, k_BSGK, v_BSGK, bias=bias, mask=dense, scale=extras.scale, implementation="xla"
  )


def _cudnn(
  q_BLHK: Array, k_BSGK: Array, v_BSGK: Array, mask: Mask, extras: Extras, key: Array | None, bias: Array | None = None
) -> Array:
  """cuDNN's fused attention; packed rows go in as a mask, plain rows without one."""
  attend = functools.partial(jax.nn.dot_product_attention, scale=extras.scale, implementation="cudnn")
  if mask.is_regular and (mask.causal or mask.window is None):
    window = None if mask.window is None else (mask.window - 1, 0)
    return attend(q_BLHK, k_BSGK, v_BSGK, is_causal=mask.causal, local_window_size=window)
  return attend(q_BLHK, k_BSGK, v_BSGK, mask=mask.dense(q_BLHK.shape[1], k_BSGK.shape[1]))


def _mosaic(
  q_BLHK: Array, k_BSGK: Array, v_BSGK: Array, mask: Mask, extras: Extras, key: Array | None, bias: Array | None = None
) -> Array:
  """tokamax's flash attention."""
  scale = extras.score_scale(q_BLHK.shape[-1])
  return tokamax_attention(q_BLHK, k_BSGK, v_BSGK, mask, scale, extras.softcap)


def _splash(
  q_BLHK: Array, k_BSGK: Array, v_BSGK: Array, mask: Mask, extras: Extras, key: Array | None, bias: Array | None = None
) -> Array:
  """Splash attention; rows with a prefix, which it cannot mask, use the plain kernel."""
  if mask.key_prefix is not None:
    return _einsum(q_BLHK, k_BSGK, v_BSGK, mask, extras, key)
  return splash_attention(q_BLHK, k_BSGK, v_BSGK, mask, extras.score_scale(q_BLHK.shape[-1]), extras.softcap)


@dataclasses.dataclass(frozen=True)
class Kernel:
  """One way to compute attention, and where it applies.

  Attributes:
    attend: (q_BLHK, k_BSGK, v_BSGK, mask, extras, dropout key, bias (B or 1, H, L, S) or None) -> (B, L, H, K) in q's
      dtype.
    platforms: the backends it runs on; (): all.
    dtypes: the compute dtypes it takes.
    special: the options of `Extras.special` that it has.
    unpacked_way: it has another code path for rows that are not packed, which is checked separately.
    fused: it is one operation to the compiler, and saves what its gradient needs.
    head_multiple, head_limit: K must be a multiple of the one and at most the other.
    package: one that must be installed.
  """

  attend: Callable[..., jax.Array]
  platforms: tuple[str, ...] = ()
  dtypes: tuple[str, ...] = ("float32", "bfloat16")
  special: frozenset[str] = frozenset()
  unpacked_way: bool = False
  fused: bool = False
  head_multiple: int = 1
  head_limit: int | None = None
  package: str | None = None

  def obstacle(self, platform: str, dtype: str, head_width: int, extras: Extras) -> str | None:
    """Why this kernel can't run there, as the end of a sentence; None when it can."""
    if self.platforms and platform not in self.platforms:
      return f"it runs on {' or '.join(self.platforms)} only, and this is {platform}"
    if dtype not in self.dtypes:
      return f"it computes in {' or '.join(self.dtypes)}, not {dtype}"
    if missing := extras.special - self.special:
      return "it has no " + " and no ".join(_SPECIAL[name].removeprefix("a ") for name in sorted(missing))
    if head_width % self.head_multiple or (self.head_limit is not None and head_width > self.head_limit):
      return f"head_width must be a multiple of {self.head_multiple} up to {self.head_limit}, and is {head_width}"
    if self.package is not None and importlib.util.find_spec(self.package) is None:
      return f"it needs the package {self.package}: pip install {self.package}"
    return None


KERNELS: dict[str, Kernel] = {
  "reference": Kernel(_reference, special=frozenset(_SPECIAL)),
  "einsum": Kernel(_einsum, special=frozenset(_SPECIAL)),
  "xla": Kernel(_xla, special=frozenset({"bias"})),
  "cpu": Kernel(_cpu, platforms=("cpu",)),
  "cudnn": Kernel(
    _cudnn, platforms=GPU, dtypes=("bfloat16",), unpacked_way=True, fused=True, head_multiple=8, head_limit=128
  ),
  "mosaic": Kernel(
    _mosaic,
    platforms=GPU,
    dtypes=("bfloat16",),
    special=frozenset({"softcap"}),
    unpacked_way=True,
    fused=True,
    head_multiple=64,
    head_limit=256,
    package="tokamax",
  ),
  "splash": Kernel(
    _splash, platforms=("tpu",), special=frozenset({"softcap"}), unpacked_way=True, fused=True, head_multiple=8
  ),
}
# What "auto" tries, best first; the last does everything.
PREFERENCE = {
  "cpu": ("cpu", "einsum"),
  "tpu": ("splash", "xla", "einsum"),
  # mosaic is faster on packed rows, but has not run a complete step: tools/bench/results/accelerator.md.
  "gpu": ("cudnn", "xla", "einsum"),
}
KERNEL_CHOICES = ("auto", *KERNELS)


def resolve_kernel(name: str, *, platform: str, dtype: str, head_width: int, extras: Extras) -> str:
  """The kernel that `name` means on that backend: itself, or for "auto" the first of `PREFERENCE` that applies.

  Raises:
    LmxError: an unknown name, or a named kernel that doesn't apply. Nothing falls back silently.
  """
  if name == "auto":
    order = PREFERENCE["gpu" if platform in GPU else platform if platform in PREFERENCE else "tpu"]
    return next(n for n in order if KERNELS[n].obstacle(platform, dtype, head_width, extras) is None)
  obstacle = choose("config.compute.attention", name, KERNELS).obstacle(platform, dtype, head_width, extras)
  if obstacle is not None:
    usable = [n for n, k in KERNELS.items() if k.obstacle(platform, dtype, head_width, extras) is None]
    fix = f"--config.compute.attention=auto ({name}: {obstacle})"
    raise LmxError(message("config.compute.attention", got=name, allowed=["auto", *usable], fix=fix))
  return name
