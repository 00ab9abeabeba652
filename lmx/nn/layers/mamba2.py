# Copyright 2026 The lmx authors. Licensed under the Apache License 2.0.
"""Mamba-2 as a sequence mixer, in attention's place: a state of fixed size instead of a cache that grows.

Each head keeps a (P, S) matrix: state_t = exp(-rate step_t) state_{t-1} + step_t value_t write_t, and reads
y_t = state_t read_t + skip value_t. Source: https://arxiv.org/abs/2405.21060; it calls values x, writes B, reads C,
steps dt, and the rate -A. The recurrence is computed in chunks, in chunked_scan.py.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lmx.errors import Problems
from lmx.nn.context import Context
from lmx.nn.layers.activations import silu
from lmx.nn.layers.chunked_scan import chunked_scan
from lmx.nn.layers.initializers import Initializer
from lmx.nn.layers.linear import Linear
from lmx.nn.layers.positions import segment_positions
from lmx.nn.mixer import MixerSpec
from lmx.parallel.sharding import constrain
from lmx.units import StepFlops

# Initial values as in the authors' code (https://github.com/state-spaces/mamba, mamba_ssm/modules/mamba2.py).
STEP_RANGE, STEP_FLOOR = (1e-3, 1e-1), 1e-4
RATE_RANGE = (1.0, 16.0)


@dataclasses.dataclass(frozen=True)
class MambaShape:
  """Sizes of a Mamba-2 mixer.

  Attributes:
    width: D.
    heads: H; heads * head_width is the inner width.
    head_width: P, channels of a head.
    state: S, numbers that each channel remembers.
    groups: number of groups of heads that share writes and reads; divides heads.
    conv: W, tokens that the causal convolution sees.
    chunk: tokens computed in parallel at once; the result doesn't depend on it.
    norm_eps: of the norm before the output projection.
  """

  width: int
  heads: int
  head_width: int
  state: int
  groups: int
  conv: int
  chunk: int
  norm_eps: float

  @property
  def inner(self) -> int:
    return self.heads * self.head_width

  def matmul_parameters(self) -> int:
    """Weights of one layer that a token is multiplied with."""
    return self.width * (3 * self.inner + 2 * self.groups * self.state + self.heads)

  def flops_per_token(self, length: int) -> StepFlops:
    """FLOPs of one layer's scan for one training token (forward and backward), projections not counted."""
    square = 3 * 2 * min(self.chunk, length) * (self.groups * self.state + self.inner)
    states = 3 * 2 * 2 * self.inner * self.state
    return StepFlops(causal=square / 2 + states, full=square + states)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MambaState:
  """The state of the mixers of all layers after some tokens of a document.

  Attributes:
    windows: the last W - 1 inputs of each convolution, compute dtype: "value" (N, B, W - 1, H, P), "write" and "read"
      (N, B, W - 1, G, S).
    state: (N, B, H, P, S) float32.
  """

  windows: dict[str, jax.Array]
  state: jax.Array

  @classmethod
  def empty(cls, shape: MambaShape, layers: int, batch: int, dtype: Any) -> "MambaState":
    """The state before the first token: zeros.

    Args:
      shape: of one mixer.
      layers, batch: N and B.
      dtype: of the convolutions' windows.
    """
    before = (layers, batch, shape.conv - 1)
    widths = {"value": (shape.heads, shape.head_width), **dict.fromkeys(("write", "read"), (shape.groups, shape.state))}
    windows = {name: jnp.zeros((*before, *width), dtype) for name, width in widths.items()}
    return cls(windows, jnp.zeros((layers, batch, shape.heads, shape.head_width, shape.state), jnp.float32))

  def read(self, layer: int | jax.Array) -> "MambaState":
    """One layer's part."""
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, layer, keepdims=False), self)

  def write(self, layer: int | jax.Array, one: "MambaState") -> "MambaState":
    """With one layer's part replaced."""
    return jax.tree.map(lambda x, new: x.at[layer].set(new.astype(x.dtype)), self, one)


class Convolution(nnx.Module):
  """A causal convolution of each channel on its own, with a bias, then SiLU. The kernel is (W, *channels)."""

  def __init__(self, width: int, channels: tuple[tuple[str, int], ...], *, rngs: nnx.Rngs):
    names, sizes = tuple(name for name, _ in channels), tuple(size for _, size in channels)
    bound = 1 / math.sqrt(width)
    kernel = jax.random.uniform(rngs.params(), (width, *sizes), jnp.float32, -bound, bound)
    self.kernel = nnx.Param(kernel, axes=(None, *names))
    self.bias = nnx.Param(jnp.zeros(sizes, jnp.float32), axes=names)

  def __call__(self, x: jax.Array, window: jax.Array | None, offsets_BL: jax.Array | None) -> jax.Array:
    """x (B, L, *channels) to the same, float32 inside.

    Args:
      window: (B, W - 1, *channels), the inputs before x; None: zeros.
      offsets_BL: tokens of the same segment before each; inputs from further back don't count. None: all count.
    """
    before = self.kernel.shape[0] - 1
    length, rank = x.shape[1], x.ndim
    if window is None:
      window = jnp.zeros((x.shape[0], before, *x.shape[2:]), x.dtype)
    seen = jnp.concatenate([window.astype(x.dtype), x], axis=1).astype(jnp.float32)
    y = jnp.broadcast_to(self.bias[...][None, None], x.shape)
    for place in range(before + 1):
      part = seen[:, place : place + length] * self.kernel[...][place][None, None]
      if offsets_BL is not None:
        near = offsets_BL >= before - place
        part = jnp.where(near.reshape(*near.shape, *[1] * (rank - 2)), part, 0)
      y = y + part
    return silu(y).astype(x.dtype)


class PerHead(nnx.Module):
  """One number for each head, (H,) float32; named scale, so that weight decay skips it."""

  def __init__(self, values: jax.Array):
    self.scale = nnx.Param(values, axes=("heads",))


class GatedNorm(nnx.Module):
  """RMSNorm of y * silu(gate) over the channels of each group of heads, float32 inside."""

  def __init__(self, shape: MambaShape, dtype: Any):
    self.groups, self.eps, self.dtype = shape.groups, shape.norm_eps, jnp.dtype(dtype)
    self.scale = nnx.Param(jnp.ones((shape.heads, shape.head_width), jnp.float32), axes=("heads", "head_width"))

  def __call__(self, y_BLHP: jax.Array, gate_BLHP: jax.Array) -> jax.Array:
    y = y_BLHP.astype(jnp.float32) * silu(gate_BLHP.astype(jnp.float32))
    grouped = y.reshape(*y.shape[:2], self.groups, -1)
    normalized = grouped * jax.lax.rsqrt(jnp.mean(jnp.square(grouped), axis=-1, keepdims=True) + self.eps)
    return (normalized.reshape(y.shape) * self.scale[...][None, None]).astype(self.dtype)


class Mamba2(nnx.Module):
  """The mixer. Projections and convolutions compute in `dtype`; steps, decays, states and the norm in float32.

  Names compared with Hugging Face's Mamba2: in_proj is gate, value, write, read, step one after the other
  (heads and their channels unfolded), conv1d is value_conv, write_conv, read_conv; dt_bias is step.bias, A_log
  log_rate.scale, D skip.scale, norm.weight norm.scale, out_proj out.
  """

  def __init__(self, shape: MambaShape, *, scheme: Initializer, dtype: Any, rngs: nnx.Rngs, quantization: str = "none"):
    """Makes the weights; `quantization`, as in `Linear`, of the projections in `dtype`."""
    self.shape = shape
    embed, heads = ("embed", shape.width), ("heads", shape.heads)
    channels = (heads, ("head_width", shape.head_width))
    remembered = (("groups", shape.groups), ("state", shape.state))
    linear = functools.partial(Linear, bias=False, scheme=scheme, dtype=dtype, rngs=rngs, quantization=quantization)
    self.gate = linear((embed,), channels)
    self.value = linear((embed,), channels)
    self.write = linear((embed,), remembered)
    self.read = linear((embed,), remembered)
    self.step = Linear((embed,), (heads,), bias=True, scheme=scheme, dtype=jnp.float32, rngs=rngs)
    self.step.bias = nnx.Param(_first_steps(rngs.params(), shape.heads), axes=("heads",))
    self.value_conv = Convolution(shape.conv, channels, rngs=rngs)
    self.write_conv = Convolution(shape.conv, remembered, rngs=rngs)
    self.read_conv = Convolution(shape.conv, remembered, rngs=rngs)
    rates = jax.random.uniform(rngs.params(), (shape.heads,), jnp.float32, *RATE_RANGE)
    self.log_rate = PerHead(jnp.log(rates))
    self.skip = PerHead(jnp.ones((shape.heads,), jnp.float32))
    self.norm = GatedNorm(shape, dtype)
    self.out = linear(channels, (embed,), residual=True)

  def __call__(
    self, x_BLD: jax.Array, context: Context, cache: MambaState | None, layer: int | jax.Array, key: jax.Array | None
  ) -> tuple[jax.Array, MambaState | None]:
    """Mixes tokens along the length; arguments as in `Attention.__call__`, no dropout inside.

    Without a cache the state is reset at each change of segment id. With one, a row continues one document, and tokens
    of segment 0, at its end, leave the state unchanged.
    """
    del key
    segments_BL = context.segment_ids
    before = None if cache is None else cache.read(layer)
    offsets_BL = segment_positions(segments_BL) if cache is None and segments_BL is not None else None
    value_BLHP, write_BLGS, read_BLGS = self.value(x_BLD), self.write(x_BLD), self.read(x_BLD)
    inputs = {  # Full rows of a part of the heads on each device: the scan runs along the row.
      "value": constrain(value_BLHP, "batch", None, "mixed_heads", "head_width"),
      "write": constrain(write_BLGS, "batch", None, "groups", "state"),
      "read": constrain(read_BLGS, "batch", None, "groups", "state"),
    }
    convolved = {}
    for name, convolution in (("value", self.value_conv), ("write", self.write_conv), ("read", self.read_conv)):
      window = None if before is None else before.windows[name]
      convolved[name] = convolution(inputs[name], window, offsets_BL)
    value_BLHP = constrain(convolved["value"], "batch", None, "mixed_heads", "head_width")
    step_BLH = constrain(jax.nn.softplus(self.step(x_BLD)), "batch", None, "mixed_heads")
    if segments_BL is not None:  # A step of 0 neither decays the state nor writes to it.
      step_BLH = jnp.where(segments_BL[..., None] > 0, step_BLH, 0)
    y_BLHP, state = chunked_scan(
      value_BLHP,
      step_BLH,
      jnp.exp(self.log_rate.scale[...]),
      convolved["write"],
      convolved["read"],
      runs_BL=None if offsets_BL is None else jnp.cumsum(offsets_BL == 0, axis=1, dtype=jnp.int32),
      state_BHPS=None if before is None else before.state,
      chunk=self.shape.chunk,
    )
    y_BLHP = y_BLHP + value_BLHP.astype(jnp.float32) * self.skip.scale[...][None, None, :, None]
    y_BLD = self.out(constrain(self.norm(y_BLHP, self.gate(x_BLD)), "batch", "length", "heads", "head_width"))
    if cache is None or before is None:
      return y_BLD, None
    windows = {name: _last_inputs(before.windows[name], x, segments_BL) for name, x in inputs.items()}
    return y_BLD, cache.write(layer, MambaState(windows, state))


def _first_steps(key: jax.Array, heads: int) -> jax.Array:
  """Biases whose softplus is spread evenly, in the logarithm, over `STEP_RANGE`."""
  low, high = (math.log(bound) for bound in STEP_RANGE)
  steps = jnp.exp(jax.random.uniform(key, (heads,), jnp.float32, low, high))
  return jnp.log(jnp.expm1(jnp.maximum(steps, STEP_FLOOR)))


def _last_inputs(window: jax.Array, x: jax.Array, segments_BL: jax.Array | None) -> jax.Array:
  """The window after x: the last W - 1 real inputs of each row."""
  seen, kept = jnp.concatenate([window.astype(x.dtype), x], axis=1), window.shape[1]
  if segments_BL is None:
    return seen[:, seen.shape[1] - kept :]
  index_BW = jnp.sum(segments_BL > 0, axis=1)[:, None] + jnp.arange(kept)[None]
  return jnp.take_along_axis(seen, index_BW.reshape(*index_BW.shape, *[1] * (x.ndim - 2)), axis=1)


# ------------------------------------------------------------------------------------------- Mamba-2 as a row of MIXERS


def shape_of(spec: Any) -> MambaShape:
  """The sizes of a model's Mamba-2 mixers."""
  return MambaShape(
    width=spec.width,
    heads=spec.mamba_expand * spec.width // spec.mamba_head_width,
    head_width=spec.mamba_head_width,
    state=spec.mamba_state,
    groups=spec.mamba_groups,
    conv=spec.mamba_conv,
    chunk=spec.mamba_chunk,
    norm_eps=spec.norm_eps,
  )


def make_mamba2(spec: Any, scheme: Initializer, rngs: nnx.Rngs) -> Mamba2:
  """As `MixerSpec.make`."""
  return Mamba2(shape_of(spec), scheme=scheme, dtype=spec.dtype, rngs=rngs, quantization=spec.quantization)


def empty_state(spec: Any, layers: int, batch: int, slots: int) -> MambaState:
  """As `MixerSpec.empty`; the state has the same size for any number of tokens."""
  return MambaState.empty(shape_of(spec), layers, batch, spec.dtype)


def flops(spec: Any, layers: int, length: int, *, causal: bool) -> StepFlops:
  """As `MixerSpec.flops`; the scan is causal."""
  scan = shape_of(spec).flops_per_token(length)
  return StepFlops(causal=layers * scan.causal, full=layers * scan.full)


def check(spec: Any, problems: Problems) -> None:
  """As `MixerSpec.check`."""
  counts = {key: getattr(spec, key) for key in ROW.keys}
  small = {key: count for key, count in counts.items() if count < 1}
  for key, count in small.items():
    problems.add(f"config.model.{key}", got=count, allowed="a positive whole number")
  if small:
    return
  inner = spec.mamba_expand * spec.width
  if inner % spec.mamba_head_width:
    allowed = f"a divisor of mamba_expand * width = {inner}"
    problems.add("config.model.mamba_head_width", got=spec.mamba_head_width, allowed=allowed)
  elif (heads := inner // spec.mamba_head_width) % spec.mamba_groups:
    problems.add("config.model.mamba_groups", got=spec.mamba_groups, allowed=f"a divisor of the {heads} heads")
  if spec.position in ("rotary", "relative") or spec.window is not None:
    fix = "--config.model.position=none --config.model.window=none"
    problems.add("config.model.mixer", got="mamba2", allowed="attention with rotary, relative or a window", fix=fix)


def describe(spec: Any) -> str:
  """The heads and their state, for people."""
  shape = shape_of(spec)
  return f"{shape.heads} heads of {shape.head_width}, state {shape.state}"


ROW = MixerSpec(
  make=make_mamba2,
  empty=empty_state,
  matmul_parameters=lambda spec: shape_of(spec).matmul_parameters(),
  keys=("mamba_state", "mamba_head_width", "mamba_expand", "mamba_groups", "mamba_conv", "mamba_chunk"),
  flops=flops,
  check=check,
  describe=describe,
  check_kernel=lambda spec, platform: "none: Mamba-2 keeps its memory in a state",
  unlimited=True,
  model_name="Mamba-2",
)
